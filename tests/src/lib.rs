//! Drives real `jobmesh` binaries: each [`Node`] is a daemon with a data directory of its own on loopback.
//!
//! The tests that use this are targets of the `jobmesh` package, so that the binary they run is the one that ships.
//! Nothing here sleeps: a node is up when `jobmesh up -d` returns, a job has ended when `jobmesh wait` returns, a
//! process is gone when its pidfd says so.

mod node;
mod process;

pub use node::{Bench, Node, Run};
pub use process::Pid;

/// What every `--json` output parses to.
pub use serde_json::Value;
