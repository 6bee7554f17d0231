//! Drives real `jobmesh` binaries: each [`Node`] is a daemon with a data directory of its own on loopback.
//!
//! The tests that use this are targets of the `jobmesh` package, so that the binary they run is the one that ships.
//! Nothing here sleeps: a node is up when `jobmesh up -d` returns, a job has ended when `jobmesh wait` returns, a
//! process is gone when its pidfd says so, and a job that has something to tell writes a line into a [`Fifo`].
//!
//! [`fuzz`], [`contract`], [`web`], [`provider`], [`stopwatch`], [`wasi`] and [`podman`] are for the tests and benchmarks inside the other
//! crates, too: they know nothing of nodes.

mod api;
mod canary;
pub mod contract;
mod fifo;
mod folder;
pub mod fuzz;
mod gate;
mod namespace;
mod node;
mod pen;
pub mod podman;
mod process;
pub mod provider;
mod proxy;
mod scale;
mod signal;
pub mod stopwatch;
mod tools;
pub mod wasi;
mod watch;
pub mod web;

pub use api::{Answer, Api};
pub use canary::{CANARY, canary_file, canary_files, has_canary};
pub use fifo::Fifo;
pub use folder::until_folder;
pub use gate::Gate;
pub use namespace::{Mount, Place, private_mounts};
pub use node::{Bench, Node, Run};
pub use pen::Pen;
pub use process::{Pid, children, with_argument, with_variable};
pub use proxy::{Proxy, Wire};
pub use scale::scaled;
pub use signal::Signal;
pub use tools::Tools;
pub use watch::Watch;

/// What every `--json` output parses to.
pub use serde_json::{Value, json};
