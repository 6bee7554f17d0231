//! The inner process of a sandbox, number 1 of its namespace: builds the root, gives up every right, starts the program.
//!
//! A process 1 can't be ended by signals that it does not handle, also from inside, and the kernel kills all others
//! when it ends. So when the program has ended, those that it left get TERM and a second, as without a sandbox, and
//! then they are gone.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};

use super::outer::{Answer, STARTED};
use super::plan::Plan;
use super::{namespaces, root, walls};

/// How long those that the program left behind may take to end after TERM: one second, as without a sandbox.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

/// Time between two looks whether they have.
const SLICE: Duration = Duration::from_millis(5);

/// Does the inner process's work.
pub(super) fn work() -> ExitCode {
    let Ok(channel) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut channel = UnixStream::from(channel);
    let answer = run(&channel);
    let written = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|bytes| channel.write_all(&bytes));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(channel: &UnixStream) -> Answer {
    let no_sandbox = |what: &str, error: &dyn std::fmt::Display| Answer::NoSandbox(format!("{what}: {error}"));
    // If the outer process is killed, nobody is left to tell of the end.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return no_sandbox("failed to be tied to its parent", &error);
    }
    let plan = match Plan::read(channel) {
        Ok((plan, _)) => plan,
        Err(error) => return no_sandbox("failed to read its plan", &error),
    };
    let stdin = match plan.stdin.as_ref().map(File::open).transpose() {
        Ok(stdin) => stdin,
        Err(error) => return no_sandbox("failed to open the job's input", &error),
    };
    if let Err(error) = namespaces::enter_mounts() {
        return no_sandbox("failed to enter a namespace of mounts", &error);
    }
    if let Err(error) = root::build(&plan) {
        return Answer::NoSandbox(error.to_string());
    }
    if let Err(error) = walls::close(&plan, stdin.as_ref()) {
        return Answer::NoSandbox(error.to_string());
    }
    let program = match start(&plan, stdin) {
        Ok(program) => program,
        Err(error) => return Answer::NoProgram(words(&plan, &error)),
    };
    // If nobody hears it any more, this process is about to be killed.
    let _ = { channel }.write_all(STARTED);
    wait_for(program)
}

/// Starts the program. What it may do was settled before.
fn start(plan: &Plan, stdin: Option<File>) -> io::Result<Pid> {
    let arguments = plan.argv.get(1..).unwrap_or_default();
    let mut command = Command::new(&plan.program);
    command.arg0(plan.argv.first().unwrap_or(&plan.program)).args(arguments);
    command.env_clear().envs(&plan.environment);
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    let child = command.spawn()?;
    // What this process has is no longer for anybody else: neither its memory nor its descriptors.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Waits for the program, and for those that came to this process as orphans.
fn wait_for(program: Pid) -> Answer {
    let ended = loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => break answer(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => break Answer::NoSandbox(format!("failed to wait for the program: {error}")),
        }
    };
    end_leftovers();
    ended
}

fn answer(status: WaitStatus) -> Answer {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Answer::Code(code),
        (None, Some(signal)) => Answer::Signal(signal),
        (None, None) => Answer::NoSandbox("the program ended in no known way".to_owned()),
    }
}

/// Asks what is left to end, and waits for it a little.
fn end_leftovers() {
    let until = Instant::now() + LEFTOVER_GRACE;
    let mut is_told = false;
    loop {
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let others = others();
        if others.is_empty() || Instant::now() >= until {
            return;
        }
        if !is_told {
            for pid in others {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, Signal::TERM);
                let _ = rustix::process::kill_process(pid, Signal::CONT);
            }
            is_told = true;
        }
        std::thread::sleep(SLICE);
    }
}

/// Everybody else in this namespace.
fn others() -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|number| *number != 1).filter_map(Pid::from_raw).collect()
}

fn words(plan: &Plan, error: &io::Error) -> String {
    let program: String = plan.argv.first().unwrap_or(&plan.program).chars().take(256).collect();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            format!("program {program:?} does not exist in its sandbox, where only the system's own programs are seen")
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => {
            format!("program {program:?} is not executable; try `chmod +x`")
        }
        Some(Errno::NOEXEC) => {
            format!("program {program:?} is not in a format that this system runs; a script needs a `#!` line")
        }
        Some(Errno::TOOBIG) => format!("arguments and environment of {program:?} are too long for this system"),
        Some(_) | None => format!("failed to start {program:?}: {error}"),
    }
}
