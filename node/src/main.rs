//! The `jobmesh` command. Everything it knows about nodes is in the library; here is what a person types and sees.

mod bench;
mod cli;
mod client;
mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
