//! The program that tests and benches start as a worker: what `jobmesh __worker` is to a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobmesh_executors::work(std::env::args_os().skip(1)).unwrap_or(ExitCode::FAILURE)
}
