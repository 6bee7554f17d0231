//! A program that is nothing but a worker: what the tests of the executors have in place of the node's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobmesh_executors::work(std::env::args_os().skip(1)).unwrap_or(ExitCode::FAILURE)
}
