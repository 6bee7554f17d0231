//! Starting the daemon in the background, and knowing whether that worked.
//!
//! The child leaves the session of its terminal by itself, told so by [`DETACHED_VARIABLE`]. The parent waits until the
//! control socket accepts, or the child ends, or [`START_LIMIT`] is over; then it can quote what the child logged.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::home::{HOME_VARIABLE, Home, HomeError};

/// Set for a daemon that has no terminal.
pub const DETACHED_VARIABLE: &str = "JOBMESH_DETACHED";

/// How long a start may take: reading a large database on a slow disk, and ending orphans.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Time between two tries to connect.
const LOOK: Duration = Duration::from_millis(20);
/// A log longer than this is put aside when the daemon starts.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log a failure quotes.
const QUOTE_BYTES_MAX: u64 = 2048;
/// How many lines of it.
const QUOTE_LINES_MAX: usize = 8;

/// Whether there is a daemon now because of this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was started.
    Now,
    /// There was one already.
    Already,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The data directory can't be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The log can't be opened.
    #[error("failed to open the log {}; let the user of the daemon write the data directory", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The child can't be started.
    #[error("failed to start the daemon")]
    Spawn(#[source] io::Error),
    /// The child ended.
    #[error("the daemon ended at once ({status}); its log {} ends with:\n{quote}", log.display())]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of that.
        quote: String,
    },
    /// The child runs but does not answer.
    #[error("the daemon (pid {pid}) does not answer after {} s; its log {} ends with:\n{quote}", START_LIMIT.as_secs(), log.display())]
    Silent {
        /// Its process number.
        pid: u32,
        /// Its log.
        log: PathBuf,
        /// The last lines of that.
        quote: String,
    },
}

impl DetachError {
    /// The exit code that the daemon ended with or would have, as [`ServeError::exit_code`] says; `None` if it does not
    /// answer.
    ///
    /// [`ServeError::exit_code`]: super::ServeError::exit_code
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Home(error) => Some(super::exit_code_of_home(error).into()),
            Self::Log { source, .. } => Some(super::exit_code_of_io(source).into()),
            Self::Spawn(_) => Some(70),
            Self::Ended { status, .. } => Some(status.code().unwrap_or(70)),
            Self::Silent { .. } => None,
        }
    }
}

/// Starts `jobmesh up` in the background and returns once it answers.
///
/// Dropped early, the daemon starts all the same.
///
/// # Errors
/// [`DetachError`].
pub async fn start_detached(home: &Home) -> Result<Started, DetachError> {
    start_detached_with(home, &[]).await
}

/// Does the same as [`start_detached`], with `arguments` after `up`.
///
/// # Errors
/// [`DetachError`].
pub async fn start_detached_with(home: &Home, arguments: &[OsString]) -> Result<Started, DetachError> {
    home.create()?;
    if answers(home).await {
        return Ok(Started::Already);
    }
    let log = home.log();
    let failed = |source| DetachError::Log { path: log.clone(), source };
    let (file, written) = open_log(&log).map_err(failed)?;
    let mut child = spawn(home, arguments, file).map_err(DetachError::Spawn)?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if answers(home).await {
            // The answer may be another daemon's, that was started in the same moment and won.
            let has_ended = child.try_wait().map_err(DetachError::Spawn)?.is_some();
            return Ok(if has_ended { Started::Already } else { Started::Now });
        }
        if let Some(status) = child.try_wait().map_err(DetachError::Spawn)? {
            if answers(home).await {
                return Ok(Started::Already);
            }
            return Err(DetachError::Ended { status, quote: quote(&log, written), log });
        }
        if Instant::now() >= deadline {
            return Err(DetachError::Silent { pid: child.id(), quote: quote(&log, written), log });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Leaves the session of the terminal, in a daemon that was started in the background.
pub(super) fn leave_terminal() {
    if std::env::var_os(DETACHED_VARIABLE).is_some() {
        // Fails only for the leader of a process group, which a shell's job is: then the shell has detached it.
        let _ = rustix::process::setsid();
    }
}

async fn answers(home: &Home) -> bool {
    UnixStream::connect(home.socket()).await.is_ok()
}

fn spawn(home: &Home, arguments: &[OsString], log: File) -> io::Result<Child> {
    let stdout = log.try_clone()?;
    Command::new(std::env::current_exe()?)
        .arg("up")
        .args(arguments)
        .env(HOME_VARIABLE, home.path())
        .env(DETACHED_VARIABLE, "1")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(log)
        .spawn()
}

/// Opens the log and says how long it is already.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

/// The last lines that were logged after `written` bytes.
fn quote(path: &Path, written: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let start = written.max(file.metadata()?.len().saturating_sub(QUOTE_BYTES_MAX));
        file.seek(io::SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(QUOTE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(it can't be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(QUOTE_LINES_MAX)..).unwrap_or_default();
    if last.is_empty() { "(nothing)".to_owned() } else { last.join("\n") }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn only_the_lines_of_this_start_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.log");
        fs::write(&path, "old\n").unwrap();
        let (_, written) = open_log(&path).unwrap();
        assert_eq!(quote(&path, written), "(nothing)");
        let lines: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
        fs::write(&path, format!("old\n{}\n", lines.join("\n"))).unwrap();
        let quoted = quote(&path, written);
        assert!(quoted.starts_with("line 12\n") && quoted.ends_with("line 19"), "{quoted}");
    }

    #[test]
    fn a_log_that_is_too_long_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.log");
        File::create(&path).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().1, 0);
        assert!(folder.path().join("daemon.log.1").exists());
    }
}
