//! Whole nodes in virtual time: the real engine over the real store, on a network that one number decides.
//!
//! A [`Plan`] (a seed, how many nodes, how long) becomes a world: nodes with real keys and the real SQLite on simulated disks, a
//! network that delays, loses, doubles and cuts, daemons that crash between any two steps, executors that fail, a
//! member that forges. One thread takes one event after the other off a queue that is ordered by time and number,
//! so the same plan gives the same run, byte for byte; [`Report::trace`] is the proof of that.
//!
//! After every step the oracle reads the node's database and holds it against the named invariants of the module
//! `invariants`. When the faults end, the world heals and every job that some node can run must end.
//!
//! **The hard case** is to be worse than the real world without being impossible: a frame is lost only while its
//! session lives, a paused daemon is still paused when its peers give it up, a process dies with the daemon that
//! started it, and what was committed stays.

mod plan;
mod random;
mod trace;

mod disk;
mod executor;
mod faults;
mod forger;
mod network;
mod node;
mod workload;

mod invariants;
mod oracle;
mod report;
mod world;

mod power;

pub use disk::DiskFault;
pub use faults::FaultKind;
pub use invariants::Violation;
#[cfg(feature = "mutants")]
pub use jobmesh_engine::Mutant;
pub use plan::{Disks, NODES_MAX, NODES_MIN, Plan, Watch};
pub use power::{Drive, PowerFailure, PowerPlan, PowerReport, cut_power};
pub use report::{Failure, Report, run};
