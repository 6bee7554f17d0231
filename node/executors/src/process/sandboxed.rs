//! From an order to the plan of its sandbox, and from what was left of it to an end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jobmesh_protocol::task::ProcessTask;
use jobmesh_protocol::{Isolation, Outcome};

use crate::directory::{bring_out, make_directory, work_path};
use crate::order::{Limits, Order};
use crate::process::cgroup::Enforced;
use crate::process::host::Host;
use crate::process::program::Programs;
use crate::process::spawn::{SpawnError, input};
use crate::sandbox::{self, Failure, OUTER_WORD, PATH, Plan, ProcessLimits, SOCKETS, Shown, WORDS, WORK};
use crate::surroundings::Sandboxes;
use crate::variable::{HOME_VARIABLE, OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE, SOCKET_VARIABLE};
use crate::worker::WORKER_WORD;

/// Where files of the run's directory are seen.
const FILES: &str = "/run/jobmesh";

/// That a run is sandboxed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sandboxed;

impl Sandboxed {
    /// The processes that a sandbox adds to a run's own.
    pub(super) const PROCESSES: u32 = 2;

    /// Whether an order has to be sandboxed.
    ///
    /// # Errors
    /// The outcome of one that can't be kept apart as well as it has to be.
    pub(super) fn required(order: &Order, host: &Host) -> Result<Option<Self>, Outcome> {
        if order.isolation < Isolation::Sandboxed {
            return Ok(None);
        }
        if order.task.directory().is_some() {
            // The node's policy has changed since it was submitted. In a directory of its own it would miss its files, and
            // what it writes would be lost.
            let message = "it is to run in a directory of the machine, which a sandbox does not show; submit it again \
                           without one, and bring its files with --input"
                .to_owned();
            return Err(Outcome::Permanent { message });
        }
        let refused = |why: &str| Err(Self::outcome(&Failure::Sandbox(why.to_owned()), order.is_foreign));
        match (order.isolation, host.sandboxes()) {
            (Isolation::Untrusted, _) => {
                refused("a process can be sandboxed at best, and this one is required to be untrusted")
            }
            (_, Sandboxes::Avoid) => refused("`isolation.sandbox` is false in config.toml"),
            (_, Sandboxes::Use) => Ok(Some(Self)),
        }
    }

    /// The limits of a run with the processes of its sandbox.
    pub(super) fn limits(limits: Limits) -> Limits {
        Limits { processes_max: limits.processes_max.saturating_add(Self::PROCESSES), ..limits }
    }

    /// The command that makes the sandbox, and the plan that it is to be told.
    pub(super) fn command(
        order: &Order,
        task: &ProcessTask,
        (host, programs): (&Host, &mut Programs),
    ) -> Result<(Command, Option<Vec<u8>>), SpawnError> {
        // Opened once more inside; here only to say as early as without a sandbox that it is missing.
        drop(input(order, task)?);
        let words = sandbox::words_path(&order.directory);
        make_directory(&words).map_err(|source| SpawnError::Words { path: words.clone(), source })?;
        let plan = Self::plan(order, task, host, programs)?.encode().map_err(SpawnError::Tell)?;
        let mut command = Command::new(host.worker());
        command.args([WORKER_WORD, OUTER_WORD]).env_clear().current_dir("/").stdin(Stdio::piped());
        Ok((command, Some(plan)))
    }

    fn plan(order: &Order, task: &ProcessTask, host: &Host, programs: &mut Programs) -> Result<Plan, SpawnError> {
        let program = task.argv.first().ok_or(SpawnError::NoCommand)?;
        let program = programs.find(program, OsStr::new(PATH))?.to_string_lossy().into_owned();
        let (environment, shown) = environment(order, task, host);
        let is_counted = host.enforcement().memory == Enforced::Kernel;
        let limits = ProcessLimits {
            file_bytes: order.limits.largest_file(),
            address_bytes: order.limits.memory_bytes.filter(|_| !is_counted),
        };
        Ok(Plan {
            directory: order.directory.clone(),
            work: work_path(&order.directory),
            shown,
            stdin: order.stdin.clone(),
            network: order.network,
            program,
            argv: task.argv.clone(),
            environment,
            limits,
        })
    }

    /// Puts what the run said where it is looked for. Returns why its program did not start, if it did not.
    pub(super) fn take_out(directory: &Path) -> Option<Failure> {
        bring_out(&sandbox::words_path(directory), directory);
        sandbox::failure(directory)
    }

    /// What it means that a program did not start. A machine that can't make the sandbox gives the job of a peer back; one
    /// of its own would only come again.
    pub(super) fn outcome(failure: &Failure, is_foreign: bool) -> Outcome {
        let text = failure.to_string();
        match failure {
            Failure::Sandbox(_) if is_foreign => Outcome::Released { reason: text },
            Failure::Sandbox(_) | Failure::Program(_) => Outcome::Permanent { message: text },
        }
    }

    /// The level that was achieved.
    pub(super) const fn level(failure: Option<&Failure>) -> Isolation {
        match failure {
            Some(Failure::Sandbox(_)) => Isolation::None,
            Some(Failure::Program(_)) | None => Isolation::Sandboxed,
        }
    }
}

/// Hands a plan to the sandbox that was started for it. Without one there is nothing to hand over.
pub(super) fn tell(mut child: Child, plan: Option<&[u8]>) -> io::Result<Child> {
    let Some(plan) = plan else { return Ok(child) };
    let told = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(plan));
    match told {
        Ok(()) => Ok(child),
        Err(error) => {
            // It has ended, or must: it does not know what to do.
            let _ = child.kill().and_then(|()| child.wait());
            Err(error)
        }
    }
}

/// The whole environment inside, and what of the machine its paths name.
fn environment(order: &Order, task: &ProcessTask, host: &Host) -> (BTreeMap<String, String>, Vec<Shown>) {
    let mut all: BTreeMap<String, String> = host.sandbox_variables().collect();
    let own = [("PATH", PATH), ("HOME", WORK), ("USER", "job"), ("LOGNAME", "job"), ("SHELL", "/bin/sh")];
    all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.extend(task.environment.clone());
    let mut shown = Vec::new();
    for (name, value) in &order.environment {
        if name == HOME_VARIABLE {
            continue;
        }
        let inside = inside(name, value, &order.directory);
        let value = inside.as_ref().map_or_else(|| value.clone(), |(path, _)| path.to_string_lossy().into_owned());
        shown.extend(inside.map(|(_, shown)| shown));
        all.insert(name.clone(), value);
    }
    all.insert(RUN_VARIABLE.to_owned(), order.run.to_string());
    all.insert(OUTCOME_VARIABLE.to_owned(), format!("{WORDS}/outcome"));
    all.insert(RESULT_VARIABLE.to_owned(), format!("{WORDS}/result"));
    (all, shown)
}

/// Where that is inside which a variable of ours names, if it is a path that has to be shown, and what is shown for it.
fn inside(name: &str, value: &str, directory: &Path) -> Option<(PathBuf, Shown)> {
    let path = Path::new(value);
    let show = |from: &Path, at: PathBuf| Shown { from: from.to_owned(), at };
    if !path.exists() {
        return None;
    }
    if name == SOCKET_VARIABLE {
        let at = Path::new(SOCKETS).join(path.file_name()?);
        // The next daemon makes another socket of that name, which is seen in the directory only.
        let shown = match path.parent().filter(|parent| holds_one(parent)) {
            Some(parent) => show(parent, PathBuf::from(SOCKETS)),
            None => show(path, at.clone()),
        };
        return Some((at, shown));
    }
    let at = Path::new(FILES).join(path.strip_prefix(directory).ok()?.file_name()?);
    Some((at.clone(), show(path, at)))
}

/// Whether there is one thing in a directory, so that showing it shows nothing else.
fn holds_one(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| entries.take(2).count() == 1)
}
