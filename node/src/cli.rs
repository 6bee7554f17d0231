//! What a person types: the commands, their shared options, and the one place where errors are shown.
//!
//! One command is one file under `cli/`, named after it. A command gets a [`Context`], asks the daemon through
//! [`crate::client`], and returns how the program ends; only [`main`] prints errors.

mod act;
mod download;
mod exit;
mod failure;
mod follow;
mod job_options;
mod job_ref;
mod json_text;
mod output;
mod selector;
mod table;
pub(crate) mod time_words;
mod upload;
pub(crate) mod words;
mod yaml;

mod artifacts;
mod audit;
mod bench;
mod cancel;
mod capability;
mod close;
mod complete;
mod completions;
mod config;
mod cp;
mod cron;
mod dead;
mod doctor;
mod down;
mod events;
pub(crate) mod explain;
mod hold;
mod import;
mod invite;
mod job_types;
mod join;
mod kill;
pub(crate) mod learn;
mod logs;
mod ls;
mod metrics;
mod move_queue;
mod peers;
mod prio;
mod prune;
mod queue;
pub(crate) mod receipt;
mod release;
mod reschedule;
mod result;
mod retry;
mod rm;
mod run;
mod secrets;
mod show;
mod status;
mod submit;
mod task;
mod terminal;
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

#[derive(Args, Debug)]
struct Shared {
    /// How results are written
    #[arg(long, short = 'o', global = true, value_name = "FORMAT", env = "JOBMESH_OUTPUT")]
    format: Option<Format>,
    /// Write JSON; the same as `-o json`
    #[arg(long, global = true)]
    json: bool,
    /// Write names only, and nothing beside them; the same as `-o name`
    #[arg(long, short, global = true)]
    quiet: bool,
    /// The data directory [env: JOBMESH_HOME] [default: the system's place for such data]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Shared {
    fn format(&self) -> Format {
        match (self.quiet, self.json) {
            (true, _) => Format::Name,
            (false, true) => Format::Json,
            (false, false) => self.format.unwrap_or_default(),
        }
    }
}

// The options of a command are made when it is the one that was typed: all of them would take longer than most jobs.
// Because of that, a doc comment on the options would take the place of the help that stands here: they have none.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Start the node
    Up(up::Up),
    /// Stop the node
    Down(down::Down),
    /// Show how the node is
    Status(status::Status),
    /// Run a command as a job and follow it to its end
    Run(Box<run::Run>),
    /// Queue a command, a script or a file of jobs
    #[command(alias = "add", alias = "dispatch")]
    Submit(Box<submit::Submit>),
    /// List jobs, newest first
    #[command(visible_alias = "ps")]
    Ls(ls::Ls),
    /// Show everything about a job
    #[command(alias = "describe", alias = "inspect", alias = "info")]
    Show(show::Show),
    /// Write what a job wrote
    Logs(logs::Logs),
    /// Write what a job writes, as it does
    #[command(hide = true)]
    Follow(logs::Logs),
    /// Write what a job said its result is
    Result(result::JobResult),
    /// List the files that a job left, or get them
    Artifacts(artifacts::Artifacts),
    /// Copy files of jobs to this machine, or files of this machine to the node
    Cp(cp::Cp),
    /// Wait until jobs have ended
    Wait(wait::Wait),
    /// Say why a job is where it is, and which nodes could run it
    #[command(alias = "why")]
    Explain(explain::Explain),
    /// Stop jobs
    #[command(alias = "stop")]
    Cancel(cancel::Cancel),
    /// Stop jobs at once
    Kill(kill::Kill),
    /// Give jobs that have ended another try
    #[command(alias = "restart")]
    Retry(retry::Retry),
    /// Let jobs wait until they are released
    Hold(hold::Hold),
    /// Let jobs that are held go on
    Release(release::Release),
    /// Let a job start later
    Snooze(reschedule::Snooze),
    /// Let jobs start at another time
    Reschedule(reschedule::Reschedule),
    /// Change the priority of jobs
    Prio(prio::Prio),
    /// Put jobs into another queue
    #[command(alias = "mv")]
    Move(move_queue::Move),
    /// Take no more tasks into open groups
    Close(close::Close),
    /// Delete jobs that have ended
    Rm(rm::Rm),
    /// Delete jobs that have been kept long enough
    Prune(prune::Prune),
    /// List the jobs that failed for good, or give them another try
    Dead(dead::Dead),
    /// List, change, pause or drain queues
    Queue(queue::Queue),
    /// List or change what comes again by the clock
    #[command(visible_alias = "schedule")]
    Cron(cron::Cron),
    /// List the kinds of jobs that are declared
    Types(job_types::Types),
    /// List the secrets that jobs can be given
    Secrets(secrets::ListSecrets),
    /// Write what happens to jobs, as it happens
    Events(events::Events),
    /// Say something of the job that this is called from
    Task(task::Task),
    /// Take over what another program's queue holds
    Import(Box<import::Import>),
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
    /// Check that the receipts between this node and another one are whole and signed by both
    Audit(audit::Audit),
    /// Show which node did which work how well
    Learn(learn::Learn),
    /// Show how many jobs ended how, how often, and how long they ran
    #[command(alias = "stats")]
    Metrics(metrics::Metrics),
    /// Show all of it at work: three nodes, some jobs, and everything cleaned up
    Demo(demo::Demo),
    /// Show or check the configuration
    Config(config::Config),
    /// Say what this machine lets a node promise, and what stands in the way
    Doctor(doctor::Doctor),
    /// Measure how fast this node is on this machine
    Bench(bench::Bench),
    /// Write a completion script for a shell
    Completions(completions::Completions),
    /// Offer names to a shell
    #[command(name = "__complete", hide = true)]
    Complete(complete::Complete),
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
    let format = cli.shared.format();
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
        Command::Ls(command) => Box::pin(command.run(context)).await,
        Command::Show(command) => command.run(context).await,
        Command::Logs(command) => Box::pin(command.run(context)).await,
        Command::Follow(command) => Box::pin(command.followed().run(context)).await,
        Command::Result(command) => command.run(context).await,
        Command::Artifacts(command) => Box::pin(command.run(context)).await,
        Command::Cp(command) => Box::pin(command.run(context)).await,
        Command::Wait(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Cancel(command) => Box::pin(command.run(context)).await,
        Command::Kill(command) => Box::pin(command.run(context)).await,
        Command::Retry(command) => Box::pin(command.run(context)).await,
        Command::Hold(command) => Box::pin(command.run(context)).await,
        Command::Release(command) => Box::pin(command.run(context)).await,
        Command::Snooze(command) => Box::pin(command.run(context)).await,
        Command::Reschedule(command) => Box::pin(command.run(context)).await,
        Command::Prio(command) => Box::pin(command.run(context)).await,
        Command::Move(command) => Box::pin(command.run(context)).await,
        Command::Close(command) => Box::pin(command.run(context)).await,
        Command::Rm(command) => Box::pin(command.run(context)).await,
        Command::Prune(command) => command.run(context).await,
        Command::Dead(command) => Box::pin(command.run(context)).await,
        Command::Queue(command) => Box::pin(command.run(context)).await,
        Command::Cron(command) => Box::pin(command.run(context)).await,
        Command::Types(command) => command.run(context).await,
        Command::Secrets(command) => command.run(context),
        Command::Events(command) => command.run(context).await,
        Command::Task(command) => command.run(context),
        Command::Import(command) => Box::pin(command.run(context)).await,
        Command::Invite(command) => command.run(context).await,
        Command::Join(command) => command.run(context).await,
        Command::Peers(command) => command.run(context).await,
        Command::Capability(command) => command.run(context).await,
        Command::Receipt(command) => Box::pin(command.run(context)).await,
        Command::Audit(command) => Box::pin(command.run(context)).await,
        Command::Learn(command) => command.run(context).await,
        Command::Metrics(command) => command.run(context).await,
        Command::Demo(command) => Box::pin(command.run(context)).await,
        Command::Config(command) => command.run(context).await,
        Command::Doctor(command) => command.run(context).await,
        Command::Complete(command) => command.run(context).await,
        Command::Bench(command) => Box::pin(command.run(context)).await,
        // Needs no runtime, so it has been dealt with before.
        Command::Completions(command) => command.run(context, &mut Cli::command()),
    }
}

/// Shows help, the version or what is wrong with the command line. Help is no failure.
fn refuse_usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return if error.print().is_ok() { Exit::OK } else { Exit::PIPE };
    }
    if wants_json() {
        let text = error.to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        show_failure(&Failure::new(Kind::Usage, text).hint("see `jobmesh --help`"), Format::Json);
    } else {
        // Without a stderr there is nobody to tell.
        let _ = error.print();
    }
    Exit::USAGE
}

/// Whether a program reads us, as far as a command line that makes no sense can tell.
fn wants_json() -> bool {
    let words: Vec<_> = std::env::args_os().take_while(|word| word != "--").collect();
    let is_format = |word: &std::ffi::OsStr| word == "json" || word == "jsonl" || word == "yaml";
    let is_option = |word: &std::ffi::OsStr| word == "-o" || word == "--format";
    words.iter().any(|word| word == "--json")
        || words.windows(2).any(|pair| matches!(pair, [option, format] if is_option(option) && is_format(format)))
        || std::env::var_os("JOBMESH_OUTPUT").is_some_and(|format| is_format(&format))
}

fn show_failure(failure: &Failure, format: Format) {
    let text = match (failure.kind(), format) {
        (Kind::Pipe, _) => return,
        (_, Format::Json | Format::Jsonl | Format::Yaml) => failure.json() + "\n",
        (_, Format::Table | Format::Wide | Format::Name) => failure.text(),
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
    fn the_help_of_a_command_begins_with_what_the_list_says_of_it() {
        for listed in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
            let Err(help) = Cli::try_parse_from(["jobmesh", listed.get_name(), "--help"]) else { continue };
            let about = listed.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(help.to_string().starts_with(&about), "{help}");
        }
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
