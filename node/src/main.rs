//! The `jobmesh` command. Everything it knows about nodes is in the library; here is what a person types and sees.

mod bench;
mod cli;
mod client;
mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    // An executor started this program again.
    jobmesh_executors::work(std::env::args_os().skip(1)).unwrap_or_else(cli::main)
}
