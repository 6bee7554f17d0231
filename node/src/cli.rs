//! What a person types: the commands, their shared options, and the one place where errors are shown.
//!
//! One command is one file under `cli/`, named after it. A command gets a [`Context`], asks the daemon through
//! [`crate::client`], and returns how the program ends; only [`main`] prints errors.

mod exit;
mod failure;
mod follow;
mod job_options;
mod job_ref;
mod output;
mod table;
pub(crate) mod time_words;
pub(crate) mod words;

mod cancel;
mod capability;
mod completions;
mod down;
pub(crate) mod explain;
mod invite;
mod join;
pub(crate) mod learn;
mod logs;
mod ls;
mod peers;
pub(crate) mod receipt;
mod retry;
mod run;
mod show;
mod status;
mod submit;
mod up;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use jobmesh::home::Home;

pub(crate) use exit::Exit;
pub(crate) use failure::{Failure, Kind};
pub(crate) use job_ref::JobRef;
pub(crate) use output::{Colour, Format, Output, Style, clean, note};
pub(crate) use table::{Cell, Table};

use crate::client::Client;
use crate::demo;

/// Runs jobs here, or on another of your machines that can.
///
/// Every machine is a node with a queue of its own. What a node can't run it gives to one that can, and gets the
/// result back with a signed receipt. `jobmesh demo` shows it.
#[derive(Debug, Parser)]
#[command(name = "jobmesh", version, after_help = exit::HELP, disable_help_subcommand = false)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
struct Shared {
    /// Write JSON: one document, or one line per event where something is followed
    #[arg(long, global = true)]
    json: bool,
    /// The data directory [env: JOBMESH_HOME] [default: the system's place for such data]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the node
    Up(up::Up),
    /// Stop the node
    Down(down::Down),
    /// Show how the node is
    Status(status::Status),
    /// Run a command as a job and follow it to its end
    Run(Box<run::Run>),
    /// Queue a command as a job
    #[command(alias = "add")]
    Submit(Box<submit::Submit>),
    /// List jobs, newest first
    #[command(visible_alias = "ps")]
    Ls(ls::Ls),
    /// Show everything about a job
    #[command(alias = "describe", alias = "inspect")]
    Show(show::Show),
    /// Write what a job wrote
    Logs(logs::Logs),
    /// Wait until jobs have ended
    Wait(wait::Wait),
    /// Stop jobs
    #[command(alias = "stop")]
    Cancel(cancel::Cancel),
    /// Give jobs that have ended another try
    #[command(alias = "restart")]
    Retry(retry::Retry),
    /// Say why a job is where it is, and which nodes could run it
    Explain(explain::Explain),
    /// Make an invite for another machine
    Invite(invite::Invite),
    /// Join the mesh of an invite
    Join(join::Join),
    /// List the other nodes of the mesh
    Peers(peers::Peers),
    /// List or change what this node can do
    Capability(capability::Capability),
    /// Show or check the signed receipt of a job that ran elsewhere
    Receipt(receipt::Receipt),
    /// Show which node did which work how well
    Learn(learn::Learn),
    /// Show all of it at work: three nodes, some jobs, and everything cleaned up
    Demo(demo::Demo),
    /// Write a completion script for a shell
    Completions(completions::Completions),
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The data directory.
    pub(crate) home: Home,
    /// Where results go.
    pub(crate) output: Output,
    /// How often `-v` was given.
    pub(crate) verbose: u8,
}

impl Context {
    /// A client of the node in this data directory, whether it runs or not.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.home.check_socket().map_err(|error| Failure::of(Kind::Config, &error))?;
        Ok(Client::new(self.home.socket()))
    }
}

/// Reads the command line, does what it says, and shows what went wrong.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error).into(),
    };
    let format = if cli.shared.json { Format::Json } else { Format::Text };
    match run(cli, format) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            show_failure(&failure, format);
            failure.exit().into()
        }
    }
}

fn run(cli: Cli, format: Format) -> Result<Exit, Failure> {
    let Shared { home, verbose, .. } = cli.shared;
    let home = Home::locate(home.as_deref()).map_err(|error| Failure::of(Kind::Config, &error))?;
    let context = Context { home, output: Output::new(format), verbose };
    if let Command::Completions(command) = &cli.command {
        return command.run(&context, &mut Cli::command());
    }
    // Only the daemon has work for more than one thread.
    let is_daemon = matches!(&cli.command, Command::Up(up) if !up.is_detached());
    let mut builder = if is_daemon {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(|error| Failure::of(Kind::Internal, &error))?;
    let result = runtime.block_on(dispatch(cli.command, &context));
    // A read of our own stdin can't be interrupted; it must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Up(command) => Box::pin(command.run(context)).await,
        Command::Down(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Run(command) => Box::pin(command.run(context)).await,
        Command::Submit(command) => Box::pin(command.run(context)).await,
        Command::Ls(command) => command.run(context).await,
        Command::Show(command) => command.run(context).await,
        Command::Logs(command) => Box::pin(command.run(context)).await,
        Command::Wait(command) => command.run(context).await,
        Command::Cancel(command) => command.run(context).await,
        Command::Retry(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Invite(command) => command.run(context).await,
        Command::Join(command) => command.run(context).await,
        Command::Peers(command) => command.run(context).await,
        Command::Capability(command) => command.run(context).await,
        Command::Receipt(command) => Box::pin(command.run(context)).await,
        Command::Learn(command) => command.run(context).await,
        Command::Demo(command) => Box::pin(command.run(context)).await,
        // Needs no runtime, so it has been dealt with before.
        Command::Completions(command) => command.run(context, &mut Cli::command()),
    }
}

/// Shows help, the version or what is wrong with the command line. Help is no failure.
fn refuse_usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return if error.print().is_ok() { Exit::OK } else { Exit::PIPE };
    }
    let wants_json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if wants_json {
        let text = error.to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        show_failure(&Failure::new(Kind::Usage, text).hint("see `jobmesh --help`"), Format::Json);
    } else {
        // Without a stderr there is nobody to tell.
        let _ = error.print();
    }
    Exit::USAGE
}

fn show_failure(failure: &Failure, format: Format) {
    let text = match (failure.kind(), format) {
        (Kind::Pipe, _) => return,
        (_, Format::Json) => failure.json() + "\n",
        (_, Format::Text) => failure.text(),
    };
    // Without a stderr there is nobody to tell.
    let _ = output::error_bytes(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn our_options_end_where_the_command_begins() {
        let parsed = Cli::try_parse_from(["jobmesh", "run", "--", "tool", "--json", "--home", "x"]);
        assert!(parsed.is_ok_and(|cli| !cli.shared.json && cli.shared.home.is_none()));
        assert!(Cli::try_parse_from(["jobmesh", "run", "tool"]).is_err());
    }

    #[test]
    fn shared_options_may_stand_anywhere() {
        for line in [["jobmesh", "--json", "ls"], ["jobmesh", "ps", "--json"]] {
            assert!(Cli::try_parse_from(line).is_ok_and(|cli| cli.shared.json));
        }
    }
}
