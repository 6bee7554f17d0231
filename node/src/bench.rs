//! What this machine and these nodes reach, measured: `jobmesh bench local` and `jobmesh bench mesh`.
//!
//! The idea: a figure alone says little, because a virtual disk or a busy neighbour moves it by a factor. So every
//! figure of the node stands beside a **floor** of the same run on the same disk: what the machine allows to anyone who
//! spawns as many processes or commits as many rows. The ratio of the two is what can be compared between machines.
//!
//! All of it happens on one thread that blocks, with daemons of its own in a temporary folder. **The hard case** is
//! the end of it: whatever happens, by Ctrl-C or by a fault, the daemons are stopped and the folder is removed by the
//! values that own them. So nothing here waits without asking its [`Stop`] now and then.

mod connection;
mod crowd;
mod depth;
mod drain;
mod enqueue;
mod error;
mod floor;
mod idle;
mod latency;
mod local;
mod machine;
mod meshed;
mod others;
mod plan;
mod remote;
mod report;
mod requests;
mod restart;
mod site;
mod spread;
mod statistics;
mod stop;

pub(crate) use error::BenchError;
pub(crate) use local::measure;
pub(crate) use plan::{Course, MeshPart, Part, Plan, Scale};
pub(crate) use stop::Stop;
