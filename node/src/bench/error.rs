//! Why something could not be measured.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a measurement has no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A person wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// The daemon says no, or does not know the question.
    #[error("the node answers {status} to {question}: {message}")]
    Refused {
        /// What was asked.
        question: String,
        /// The HTTP status.
        status: u16,
        /// What it says about it.
        message: String,
    },
    /// The daemon took too long.
    #[error("the node has not answered {question} after {} s", limit.as_secs())]
    Silent {
        /// What was asked.
        question: String,
        /// How long it had.
        limit: Duration,
    },
    /// The daemon closed the connection.
    #[error("the node went away during {question}")]
    Gone {
        /// What was asked.
        question: String,
    },
    /// The daemon answered what can't be read.
    #[error("the node's answer to {question} can't be read: {problem}")]
    Answer {
        /// What was asked.
        question: String,
        /// What does not fit.
        problem: String,
    },
    /// The control socket fails.
    #[error("failed to talk to the node at {}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon did not come up.
    #[error("the daemon did not start; its log ends with: {quote}")]
    NoStart {
        /// The last lines of its log.
        quote: String,
    },
    /// Jobs ended otherwise than they should have.
    #[error("{failed} of {jobs} jobs did not complete")]
    Failed {
        /// How many.
        failed: u64,
        /// Of how many.
        jobs: usize,
    },
    /// Fewer jobs run than were asked for.
    #[error("{running} of {wanted} jobs run after {} s", limit.as_secs())]
    NotRunning {
        /// How many run.
        running: usize,
        /// How many should.
        wanted: usize,
        /// How long they had.
        limit: Duration,
    },
    /// A file or folder can't be used.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program can't be run.
    #[error("failed to run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended badly.
    #[error("{} ended with {status}", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The floor under sessions can't be measured.
    #[error("failed to start a mesh without a node")]
    Mesh(#[from] jobmesh_mesh::StartError),
    /// A program is not installed.
    #[error("there is no {0} on the PATH")]
    NoProgram(&'static str),
    /// SQLite itself fails, in the measurement of what it allows.
    #[error("SQLite fails")]
    Sqlite(#[from] rusqlite::Error),
    /// The system keeps no such account, or not where it is looked for.
    #[error("{what} is not told by this system")]
    Untold {
        /// Of what.
        what: &'static str,
    },
    /// A thread of the measurement failed.
    #[error("a thread of the measurement ended by a panic; this is a bug")]
    Panicked,
}

impl BenchError {
    /// Whether the daemon does not know the question, as one of another version may not.
    pub(super) const fn is_unknown_question(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 404 | 405, .. })
    }
}
