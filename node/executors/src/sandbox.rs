//! The sandbox: what a program of somebody else sees of this machine, which is nearly nothing.
//!
//! It is made by this program itself, started again in front of the job's:
//!
//! ```text
//! daemon ── outer ── inner ── the job's program ── …
//!           │        └ process 1 of a world of its own: builds the root, drops every right, starts the program,
//!           │          reaps, and takes with it whatever is left
//!           └ stays outside: enters the namespaces, and ends exactly as the program did
//! ```
//!
//! | wall | what it keeps out |
//! |---|---|
//! | user, mount, process, network, IPC, name and control group namespaces | every file, process and network that was not given |
//! | a root made anew ([`root`]) | the daemon's home, its key and database, other jobs, `/root`, `/home`, most of `/etc`, `/sys` |
//! | no capability, no new privileges | set-user-id programs, mounting, raw sockets |
//! | Landlock ([`walls`]) | writing anywhere but to its own directories, whoever owns the file |
//! | seccomp ([`calls`]) | the system calls that kernels were broken into by: `io_uring`, `bpf`, `ptrace`, namespaces, keys … |
//! | limits | core files, files beyond the disk limit |
//!
//! The first two of them are needed, and so is Landlock's oldest version; what newer versions add is used where it is.
//!
//! The hard case is that the outer process runs outside. So it reads nothing that the job's owner wrote but the
//! [`Plan`], through a pipe; its environment and its arguments are ours, and a variable such as `LD_PRELOAD` of the job
//! reaches the job's program only. Signals are meant for the program: the search for a run's processes finds it inside
//! as everywhere (a namespace of processes hides nobody from outside), so that the outer process ignores them.
//!
//! Nothing of this is tied to the daemon's life, so a sandboxed run is adopted like any other. It is shown the directory of
//! the task socket and not the socket alone, so the one that the next daemon makes is there as well.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod inner;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod outer;
mod plan;
mod probe;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod walls;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use plan::{PATH, Plan, ProcessLimits, Shown};
pub(crate) use probe::probe;

/// The kind of worker that is the outer process.
pub(crate) const OUTER_WORD: &str = "sandbox";

/// The kind of worker that is the inner process.
pub(crate) const INNER_WORD: &str = "sandbox-inner";

/// Where a run is inside: its working directory, which is its home as well.
pub(crate) const WORK: &str = "/work";

/// Where the files are inside by which a run says how it ended.
pub(crate) const WORDS: &str = "/run/jobmesh/words";

/// Where the directory of the task socket is inside.
pub(crate) const SOCKETS: &str = "/run/jobmesh/tasks";

/// The exit code of an outer process that could not start the program. What went wrong is in a file, see [`failure`].
#[cfg(target_os = "linux")]
const FAILED: i32 = 125;

/// Longest message about a failure, in bytes.
const FAILURE_BYTES_MAX: u64 = 4096;

/// Why a program did not start in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The sandbox can't be made on this machine.
    #[error("it can't be kept apart from this machine (sandboxed): {0}")]
    Sandbox(String),
    /// The program itself can't be started.
    #[error("{0}")]
    Program(String),
}

/// The directory of a run's words about its end, in the run's directory.
pub(crate) fn words_path(directory: &Path) -> PathBuf {
    directory.join("words")
}

fn failure_path(directory: &Path) -> PathBuf {
    directory.join("sandbox-failure")
}

/// Becomes a process of a sandbox.
#[cfg(target_os = "linux")]
pub(crate) fn work(kind: &str) -> ExitCode {
    if kind == OUTER_WORD { outer::work() } else { inner::work() }
}

/// There are no sandboxes here, and nobody starts one.
#[cfg(not(target_os = "linux"))]
pub(crate) fn work(_kind: &str) -> ExitCode {
    ExitCode::FAILURE
}

/// Why the program of a run did not start, if it did not. Says so once.
pub(crate) fn failure(directory: &Path) -> Option<Failure> {
    use std::io::Read as _;
    let path = failure_path(directory);
    let file = std::fs::File::open(&path).ok()?;
    let mut text = String::new();
    let read = file.take(FAILURE_BYTES_MAX).read_to_string(&mut text);
    if let Err(error) = read.and_then(|_| std::fs::remove_file(&path)) {
        tracing::warn!(path = %path.display(), %error, "failed to read why a sandbox was not made");
    }
    Some(match text.split_once('\n') {
        Some(("program", message)) => Failure::Program(message.to_owned()),
        Some((_, message)) => Failure::Sandbox(message.to_owned()),
        None => Failure::Sandbox("its first process ended before it could say why".to_owned()),
    })
}

/// Writes down why a program did not start, for [`failure`].
#[cfg(target_os = "linux")]
fn keep_failure(directory: &Path, failure: &Failure) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let (word, message) = match failure {
        Failure::Sandbox(message) => ("sandbox", message),
        Failure::Program(message) => ("program", message),
    };
    let path = failure_path(directory);
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    write!(file, "{word}\n{message}")
}
