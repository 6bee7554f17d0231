//! From an order to a living process: directories, environment, program, descriptors.
//!
//! The program is looked up here, in the daemon's PATH, and given to the system by its whole path. That keeps the
//! lookup apart from the PATH that the job sees, tells "not found" from "not executable", and lets the standard
//! library take `posix_spawn`, which is a quarter faster than a fork.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use jobmesh_protocol::Outcome;
use jobmesh_protocol::job::ProcessTask;
use jobmesh_protocol::outcome::Exit;
use rustix::fs::Access;
use rustix::io::Errno;

use crate::event::{ProcessId, chain};
use crate::order::Order;
use crate::output::{Log, Stream, log_path};
use crate::process::{handle, reaper};

/// The variable that marks every process of a run. Its value is the run's id.
pub const RUN_VARIABLE: &str = "JOBMESH_RUN";

/// What a job inherits from the daemon's environment, beside `LC_*`. The rest may hold secrets.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL"];

/// Where programs are when the daemon has no PATH (the default of execvp in the POSIX rationale, plus local programs).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Longest program name in a message, in characters.
const SHOWN_MAX: usize = 256;

/// The main process of a run and its logs.
pub(super) struct Spawned {
    pub(super) process: ProcessId,
    /// A moment just before the process came to life.
    pub(super) at: Instant,
    pub(super) stdout: Log,
    pub(super) stderr: Log,
    child: Child,
    /// Keeps the sweep's hands off the process until [`Self::reap`].
    _root: reaper::Root,
}

impl Spawned {
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
    #[error("the job has an input, but it was not fetched to this node")]
    NoInput,
    #[error("the job has no command")]
    NoCommand,
    #[error("the working directory {} does not exist on this node", path.display())]
    NoDirectory { path: PathBuf },
    #[error("program {program:?} was not found in PATH ({path})")]
    NotFound { program: String, path: String },
    #[error("program {program:?} does not exist")]
    NoFile { program: String },
    #[error("program {program:?} is not executable; try `chmod +x`")]
    NotExecutable { program: String },
    #[error("program {program:?} is not in a format that this system runs; a script needs a `#!` line")]
    Format { program: String },
    #[error("arguments and environment of {program:?} are too long for this system")]
    TooLong { program: String },
    #[error("failed to start {program:?}")]
    Start { program: String, source: io::Error },
}

impl SpawnError {
    /// What it means for the job: would it fail again?
    pub(super) fn outcome(&self) -> Outcome {
        let message = chain(self);
        match self {
            Self::Directory { .. } | Self::Log { .. } | Self::Input { .. } | Self::NoInput | Self::Start { .. } => {
                Outcome::Error { message }
            }
            Self::NoCommand
            | Self::NoDirectory { .. }
            | Self::NotFound { .. }
            | Self::NoFile { .. }
            | Self::NotExecutable { .. }
            | Self::Format { .. }
            | Self::TooLong { .. } => Outcome::Permanent { message },
        }
    }
}

/// Starts the command of an order.
pub(super) fn spawn(order: &Order, task: &ProcessTask) -> Result<Spawned, SpawnError> {
    let (program, arguments) = task.argv.split_first().ok_or(SpawnError::NoCommand)?;
    make_directory(&order.directory)?;
    let stdout = make_log(&order.directory, Stream::Stdout)?;
    let stderr = make_log(&order.directory, Stream::Stderr)?;
    let directory = working_directory(order, task)?;
    let path = find_program(program)?;

    let mut command = Command::new(path);
    command.arg0(program).args(arguments).current_dir(&directory).process_group(0);
    command.env_clear().envs(inherited(std::env::vars_os())).envs(&task.environment).envs(&order.environment);
    command.env(RUN_VARIABLE, order.run.to_string());
    command.stdin(input(order, task)?);
    command.stdout(writer(&stdout, order, Stream::Stdout)?).stderr(writer(&stderr, order, Stream::Stderr)?);

    let at = Instant::now();
    let child = command.spawn().map_err(|source| start_error(program, source))?;
    let root = reaper::Root::new(child.id());
    let process = handle::identify(child.id());
    Ok(Spawned { process, at, stdout, stderr, child, _root: root })
}

fn make_directory(path: &Path) -> Result<(), SpawnError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| SpawnError::Directory { path: path.to_owned(), source })
}

fn make_log(directory: &Path, stream: Stream) -> Result<Log, SpawnError> {
    let path = log_path(directory, stream);
    Log::create(&path).map_err(|source| SpawnError::Log { path, source })
}

fn writer(log: &Log, order: &Order, stream: Stream) -> Result<File, SpawnError> {
    log.writer().map_err(|source| SpawnError::Log { path: log_path(&order.directory, stream), source })
}

fn working_directory(order: &Order, task: &ProcessTask) -> Result<PathBuf, SpawnError> {
    let Some(directory) = &task.directory else {
        let path = order.directory.join("work");
        make_directory(&path)?;
        return Ok(path);
    };
    let path = PathBuf::from(directory);
    if path.is_dir() { Ok(path) } else { Err(SpawnError::NoDirectory { path }) }
}

fn input(order: &Order, task: &ProcessTask) -> Result<Stdio, SpawnError> {
    match (&order.stdin, task.stdin) {
        (Some(path), _) => match File::open(path) {
            Ok(file) => Ok(file.into()),
            Err(source) => Err(SpawnError::Input { path: path.clone(), source }),
        },
        (None, Some(_)) => Err(SpawnError::NoInput),
        (None, None) => Ok(Stdio::null()),
    }
}

/// Picks what a job may see of the daemon's environment.
fn inherited(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    all.filter(|(name, _)| name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_")))
        .collect()
}

/// Finds the file of a program: as it is if it has a slash, else in the daemon's PATH.
fn find_program(program: &str) -> Result<PathBuf, SpawnError> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    search(program, &path)
}

/// Looks for `program` in the directories of `path`. Unlike execvp it leaves out empty and relative ones: what the
/// directory of a job holds must not decide which program runs.
fn search(program: &str, path: &OsStr) -> Result<PathBuf, SpawnError> {
    let mut found = false;
    for directory in std::env::split_paths(path).filter(|directory| directory.is_absolute()) {
        let file = directory.join(program);
        if !file.is_file() {
            continue;
        }
        if rustix::fs::access(&file, Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        found = true;
    }
    let program = shown(program);
    if found {
        return Err(SpawnError::NotExecutable { program });
    }
    Err(SpawnError::NotFound { program, path: path.to_string_lossy().chars().take(SHOWN_MAX).collect() })
}

fn start_error(program: &str, source: io::Error) -> SpawnError {
    let program = shown(program);
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::NOTDIR) => SpawnError::NoFile { program },
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => SpawnError::NotExecutable { program },
        Some(Errno::NOEXEC) => SpawnError::Format { program },
        Some(Errno::TOOBIG) => SpawnError::TooLong { program },
        Some(_) | None => SpawnError::Start { program, source },
    }
}

fn shown(program: &str) -> String {
    program.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn variable(name: &str) -> (OsString, OsString) {
        (name.into(), "x".into())
    }

    #[test]
    fn secrets_of_the_daemon_stay_with_it() {
        let all = ["PATH", "LC_ALL", "LANG", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "JOBMESH_HOME"].map(variable);
        let kept: Vec<OsString> = inherited(all.into_iter()).into_keys().collect();
        assert_eq!(kept, ["LANG", "LC_ALL", "PATH"]);
    }

    #[test]
    fn the_search_tells_missing_from_not_executable_and_skips_relative_directories() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("plain"), "x").unwrap();
        let path = std::env::join_paths([Path::new("."), Path::new(""), home.path()]).unwrap();
        assert!(matches!(search("plain", &path), Err(SpawnError::NotExecutable { .. })));
        assert!(matches!(search("Cargo.toml", &path), Err(SpawnError::NotFound { .. })));
        assert_eq!(search("sh", OsStr::new("/bin")).unwrap(), Path::new("/bin/sh"));
    }
}
