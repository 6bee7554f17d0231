//! From an order to a living process: directories, environment, program, descriptors.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobmesh_protocol::outcome::{Exit, Usage};
use jobmesh_protocol::task::ProcessTask;
use jobmesh_protocol::{DurationMillis, Outcome};
use rustix::io::Errno;

use crate::directory::{log_path, outcome_path, result_path, work_path};
use crate::event::{ProcessId, chain};
use crate::order::Order;
use crate::output::{Log, Stream};
use crate::process::cgroup::RunGroup;
use crate::process::end::Remains;
use crate::process::exit::Ending;
use crate::process::host::Host;
use crate::process::program::{FindError, Programs, shown};
use crate::process::reaper;
use crate::process::sandboxed::{self, Sandboxed};
use crate::process::seat::Seat;
use crate::process::spare::Contents;
use crate::process::tree::scan::{self, TICK_MS};
use crate::redact::{Needles, Strainer};
use crate::variable::{OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE};

/// The main process of a run and its logs.
pub(super) struct Spawned {
    pub(super) process: ProcessId,
    /// A moment just before the process came to life.
    pub(super) at: Instant,
    pub(super) stdout: Log,
    pub(super) stderr: Log,
    /// The control group of its own, if it has a memory limit.
    pub(super) group: Option<RunGroup>,
    child: Child,
    /// What stands before the logs of a run with secrets.
    pub(super) strainers: Option<Strainers>,
    /// Keeps the sweep's hands off the process until [`Self::reap`].
    _root: reaper::Root,
}

impl Spawned {
    /// Processor time up to now; none where the system doesn't say, or the run was shorter than what it counts in. To
    /// be called before [`Self::reap`].
    pub(super) fn cpu_ms(&self) -> Option<DurationMillis> {
        if self.at.elapsed() < Duration::from_millis(TICK_MS) {
            return None;
        }
        scan::cpu_ms(self.process.pid)
    }

    /// Most memory of all its processes together, if the kernel counted it.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        self.group.as_ref()?.peak()
    }

    /// What is known once all is over.
    pub(super) fn remains<'a>(
        &'a self,
        order: &'a Order,
        left: Contents,
        exit: Exit,
        (usage, ran): (Usage, Duration),
    ) -> Remains<'a> {
        Remains {
            directory: &order.directory,
            left,
            stdout: Some(&self.stdout),
            stderr: Some(&self.stderr),
            exit,
            ending: Ending::of(exit),
            oom: self.group.as_ref().and_then(RunGroup::out_of_memory),
            usage,
            ran,
        }
    }

    /// Takes the exit status; empty if the process has not ended. To be called once nothing of the run is left.
    pub(super) fn reap(&mut self) -> Exit {
        match self.child.try_wait() {
            Ok(Some(status)) => Exit { code: status.code(), signal: status.signal() },
            Ok(None) => Exit::default(),
            Err(error) => {
                tracing::error!(pid = self.process.pid, error = %error, "failed to take the exit status of a run");
                Exit::default()
            }
        }
    }
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    #[error("failed to make the run's directory {}; check the disk's space and permissions", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("failed to make the log {}; check the disk's space and permissions", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("failed to open the input at {}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error("failed to set the run's limits; check the control groups of this node")]
    Limit(#[source] io::Error),
    #[error("the job has an input, but it was not fetched to this node")]
    NoInput,
    #[error("the job has no command")]
    NoCommand,
    #[error("the working directory {} does not exist on this node", path.display())]
    NoDirectory { path: PathBuf },
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("program {program:?} does not exist")]
    NoFile { program: String },
    #[error("program {program:?} is not executable; try `chmod +x`")]
    NotExecutable { program: String },
    #[error("program {program:?} is not in a format that this system runs; a script needs a `#!` line")]
    Format { program: String },
    #[error("arguments and environment of {program:?} are too long for this system")]
    TooLong { program: String },
    #[error("a zero byte is in the arguments or environment of {program:?}, which no program can be given")]
    Nul { program: String },
    #[error("failed to make the directory for a run's words, {}; check the disk's space", path.display())]
    Words { path: PathBuf, source: io::Error },
    #[error("failed to tell the sandbox what to start")]
    Tell(#[source] io::Error),
    #[error("failed to start {program:?}")]
    Start { program: String, source: io::Error },
}

impl SpawnError {
    /// What it means for the job: would it fail again?
    pub(super) fn outcome(&self) -> Outcome {
        let message = chain(self);
        match self {
            Self::Directory { .. }
            | Self::Log { .. }
            | Self::Input { .. }
            | Self::Limit(_)
            | Self::NoInput
            | Self::Words { .. }
            | Self::Tell(_)
            | Self::Start { .. } => Outcome::error(message),
            Self::NoCommand
            | Self::NoDirectory { .. }
            | Self::Find(_)
            | Self::NoFile { .. }
            | Self::NotExecutable { .. }
            | Self::Format { .. }
            | Self::TooLong { .. }
            | Self::Nul { .. } => Outcome::Permanent { message },
        }
    }
}

/// Starts the command of an order.
pub(super) fn spawn(
    order: &Order,
    (task, sandboxed): (&ProcessTask, Option<Sandboxed>),
    host: &Host,
    seat: &mut Seat,
) -> Result<Spawned, SpawnError> {
    let program = task.argv.first().ok_or(SpawnError::NoCommand)?;
    let made = seat.spare.provide(&order.directory);
    made.map_err(|source| SpawnError::Directory { path: order.directory.clone(), source })?;
    let stdout = make_log(order, seat, Stream::Stdout)?;
    let stderr = make_log(order, seat, Stream::Stderr)?;
    let limits = sandboxed.map_or(order.limits, |_| Sandboxed::limits(order.limits));
    if let Some(group) = &mut seat.group {
        group.limit(limits.processes_max).map_err(SpawnError::Limit)?;
    }
    let group = RunGroup::make(host.grounds(), order.run, &limits).map_err(SpawnError::Limit)?;

    let strainers = Strainers::before(order, [&stdout, &stderr])?;
    let (at, before) = (Instant::now(), scan::ticks_now());
    let mut is_first = true;
    let child = loop {
        let (mut command, plan) = match sandboxed {
            Some(Sandboxed) => Sandboxed::command(order, task, (host, &mut seat.programs))?,
            None => (plain(order, task, (host, &mut seat.programs))?, None),
        };
        command.process_group(0).env(RUN_VARIABLE, order.run.to_string());
        match &strainers {
            None => {
                command.stdout(writer(&stdout, order, Stream::Stdout)?).stderr(writer(&stderr, order, Stream::Stderr)?)
            }
            Some(strainers) => {
                let [stdout, stderr] = strainers.writers(order)?;
                command.stdout(stdout).stderr(stderr)
            }
        };
        match spawn_in(group.as_ref(), &mut command, seat)? {
            Ok(child) => break sandboxed::tell(child, plan.as_deref()).map_err(SpawnError::Tell)?,
            // The file may have gone since it was found; then another may mean the program now. That is looked for
            // once: what else is wrong with a command stays wrong.
            Err(_) if is_first && seat.programs.forget() => is_first = false,
            Err(source) => return Err(start_error(program, source)),
        }
    };
    let root = reaper::Root::new(child.id());
    let process = ProcessId { pid: child.id(), started: start_time(child.id(), before) };
    Ok(Spawned { process, at, stdout, stderr, group, child, strainers, _root: root })
}

/// The command of an order that is not sandboxed.
fn plain(order: &Order, task: &ProcessTask, (host, programs): (&Host, &mut Programs)) -> Result<Command, SpawnError> {
    let (program, arguments) = task.argv.split_first().ok_or(SpawnError::NoCommand)?;
    let mut command = Command::new(programs.find(program, host.path())?);
    command.arg0(program).args(arguments).current_dir(working_directory(order, task)?);
    command.env_clear().envs(host.variables()).envs(&task.environment).envs(&order.environment);
    command.env(OUTCOME_VARIABLE, outcome_path(&order.directory));
    command.env(RESULT_VARIABLE, result_path(&order.directory));
    command.stdin(input(order, task)?);
    Ok(command)
}

/// Starts a command inside a group. The inner error is the command's, the outer one the group's.
fn spawn_in(group: Option<&RunGroup>, command: &mut Command, seat: &mut Seat) -> Result<io::Result<Child>, SpawnError> {
    let Some(group) = group else { return Ok(command.spawn()) };
    seat.whereabouts.enter(group).map_err(SpawnError::Limit)?;
    let spawned = command.spawn();
    // If it can not, this run goes on, and no other starts here before it has.
    seat.whereabouts.leave();
    let Ok(mut child) = spawned else { return Ok(spawned) };
    if let Err(error) = group.take_in(child.id()) {
        // Without its limit it must not run.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(SpawnError::Limit(error));
    }
    Ok(Ok(child))
}

/// When a child of ours started that we began to make at `before`. Mostly that and now are the same tick of the clock,
/// which spares us opening its `/proc/PID/stat`: 15 µs of a run's 700.
fn start_time(pid: u32, before: Option<u64>) -> u64 {
    match before {
        Some(tick) if scan::ticks_now() == before => tick,
        Some(_) | None => scan::stat(pid).map_or(0, |stat| stat.started),
    }
}

/// What takes the secrets of a run out of both its logs.
#[derive(Debug)]
pub(super) struct Strainers {
    needles: Arc<Needles>,
    stdout: Strainer,
    stderr: Strainer,
}

impl Strainers {
    /// Puts one before each log of a run that has secrets.
    fn before(order: &Order, [stdout, stderr]: [&Log; 2]) -> Result<Option<Self>, SpawnError> {
        let Some(needles) = Needles::of(&order.secrets) else { return Ok(None) };
        let before = |log: &Log, stream| {
            let failed = |source| SpawnError::Log { path: log_path(&order.directory, stream), source };
            Strainer::before(log.writer().map_err(failed)?, Arc::clone(&needles)).map_err(failed)
        };
        let (stdout, stderr) = (before(stdout, Stream::Stdout)?, before(stderr, Stream::Stderr)?);
        Ok(Some(Self { needles, stdout, stderr }))
    }

    fn writers(&self, order: &Order) -> Result<[PipeWriter; 2], SpawnError> {
        let writer = |strainer: &Strainer, stream| {
            strainer.writer().map_err(|source| SpawnError::Log { path: log_path(&order.directory, stream), source })
        };
        Ok([writer(&self.stdout, Stream::Stdout)?, writer(&self.stderr, Stream::Stderr)?])
    }

    /// Takes the secrets out of everything that the run left, of which nothing may live any more.
    pub(super) fn finish(&mut self, directory: &Path) {
        self.stdout.finish();
        self.stderr.finish();
        self.needles.redact_run(directory);
    }

    /// An outcome with a message without the run's secrets.
    pub(super) fn clean(&self, outcome: Outcome) -> Outcome {
        self.needles.redact_outcome(outcome)
    }
}

fn make_log(order: &Order, seat: &Seat, stream: Stream) -> Result<Log, SpawnError> {
    let made = seat.spare.make_log(stream);
    made.map_err(|source| SpawnError::Log { path: log_path(&order.directory, stream), source })
}

fn writer(log: &Log, order: &Order, stream: Stream) -> Result<File, SpawnError> {
    log.writer().map_err(|source| SpawnError::Log { path: log_path(&order.directory, stream), source })
}

fn working_directory(order: &Order, task: &ProcessTask) -> Result<PathBuf, SpawnError> {
    let Some(directory) = &task.directory else {
        return Ok(work_path(&order.directory));
    };
    let path = PathBuf::from(directory);
    if path.is_dir() { Ok(path) } else { Err(SpawnError::NoDirectory { path }) }
}

pub(super) fn input(order: &Order, task: &ProcessTask) -> Result<Stdio, SpawnError> {
    match (&order.stdin, task.stdin) {
        (Some(path), _) => match File::open(path) {
            Ok(file) => Ok(file.into()),
            Err(source) => Err(SpawnError::Input { path: path.clone(), source }),
        },
        (None, Some(_)) => Err(SpawnError::NoInput),
        (None, None) => Ok(Stdio::null()),
    }
}

fn start_error(program: &str, source: io::Error) -> SpawnError {
    let program = shown(program);
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::NOTDIR) => SpawnError::NoFile { program },
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => SpawnError::NotExecutable { program },
        Some(Errno::NOEXEC) => SpawnError::Format { program },
        Some(Errno::TOOBIG) => SpawnError::TooLong { program },
        // The standard library refuses it, before the system is asked.
        None if source.kind() == io::ErrorKind::InvalidInput => SpawnError::Nul { program },
        Some(_) | None => SpawnError::Start { program, source },
    }
}
