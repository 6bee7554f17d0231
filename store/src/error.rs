//! What can go wrong with the database, sorted by what the owner must do about it.

use std::io::ErrorKind;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::lock::Holder;

/// Why a statement or a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing is damaged; free some space.
    #[error("the disk that holds the job database is full")]
    Full,
    /// A stored value does not read back: a bug or a damaged file.
    #[error("the job database holds a {what} that does not read back")]
    Damaged {
        /// What was read.
        what: &'static str,
    },
    /// Anything else that SQLite reports.
    #[error(transparent)]
    Sqlite(Fault),
}

/// What SQLite reports, by what a person can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file can be read, but not written.
    #[error(
        "the job database is read-only; let the user of the daemon write the data directory and every file in it, and \
         check that its file system is not mounted read-only"
    )]
    ReadOnly(#[source] rusqlite::Error),
    /// The pages of the file contradict each other.
    #[error(
        "the job database is damaged; stop the daemon, copy the data directory to a safe place, then restore a backup \
         or save what still reads with `sqlite3 jobs.db .recover`; to begin anew without jobs, move jobs.db, and \
         jobs.db-wal and jobs.db-shm if they are there, to another directory and run `jobmesh up --new-database`"
    )]
    Corrupt(#[source] rusqlite::Error),
    /// The file does not begin like a database.
    #[error(
        "the file is no database, or its first page is damaged; move jobs.db, and jobs.db-wal and jobs.db-shm if they \
         are there, to another directory, and restore a backup if it held jobs, or begin anew without them by `jobmesh \
         up --new-database`"
    )]
    NoDatabase(#[source] rusqlite::Error),
    /// Another program has it locked.
    #[error("another program holds the job database; end it, such as a shell of sqlite3 or a backup, and try again")]
    Busy(#[source] rusqlite::Error),
    /// It, or one of the files that SQLite keeps beside it, can't be opened.
    #[error(
        "the job database or the files beside it can't be opened; check that the data directory exists, that the user \
         of the daemon may write it, and that jobs.db is no link"
    )]
    Unopened(#[source] rusqlite::Error),
    /// The system can't read or write the file.
    #[error("the disk that holds the job database fails; look at the log of the system and check the disk")]
    Disk(#[source] rusqlite::Error),
    /// A row breaks a rule of the schema: what must be unique is taken, or what is referred to is missing.
    #[error("the job database refused a row that breaks a rule of its schema; please report this")]
    Rule(#[source] rusqlite::Error),
    /// None of these.
    #[error("the job database failed")]
    Other(#[source] rusqlite::Error),
}

impl StoreError {
    /// Whether the file itself is bad, so that nothing more should be entrusted to it.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Sqlite(Fault::Corrupt(_) | Fault::NoDatabase(_)))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => return Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Fault::ReadOnly(error),
            Some(ErrorCode::DatabaseCorrupt) => Fault::Corrupt(error),
            Some(ErrorCode::NotADatabase) => Fault::NoDatabase(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                Fault::Busy(error)
            }
            Some(ErrorCode::CannotOpen) => Fault::Unopened(error),
            Some(ErrorCode::SystemIoFailure) => Fault::Disk(error),
            Some(ErrorCode::ConstraintViolation) => Fault::Rule(error),
            _ => Fault::Other(error),
        })
    }
}

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("{} is in use by the daemon with {holder}; stop it with `jobmesh down`", directory.display())]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// A file of the data directory can't be opened or made.
    #[error("failed to open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the data directory can't be written or made.
    #[error(
        "{} can't be written; let the user of the daemon write it and its directory, and check that the file system is \
         not mounted read-only",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not one of ours.
    #[error("{} is no job database of jobmesh (application id {found:#x})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The id found.
        found: i32,
    },
    /// The file was written by a newer build.
    #[error("{} has schema {found}, but this build knows up to {known}; run a newer jobmesh", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The schema found.
        found: u32,
        /// The newest schema known.
        known: u32,
    },
    /// There was one, and it is gone.
    #[error(
        "the job database {} is missing or empty, though a node has lived here; check that this is its data directory, \
         and restore a backup, or begin anew without jobs by `jobmesh up --new-database`",
        path.display()
    )]
    Lost {
        /// Where it was.
        path: PathBuf,
    },
    /// There was one, and only the log of what was written to it last is left.
    #[error(
        "the job database {} is missing or empty, but {} beside it holds what was written to it last; put the database \
         back beside it, or move it, and jobs.db-shm if it is there, to another directory and begin anew without jobs \
         by `jobmesh up --new-database`",
        path.display(),
        log.display()
    )]
    OnlyLog {
        /// Where it was.
        path: PathBuf,
        /// What is left.
        log: PathBuf,
    },
    /// SQLite refused.
    #[error("failed to open the job database at {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said, and what to do about it.
        source: StoreError,
    },
}

impl OpenError {
    /// Sorts what the system said about a file that was to be opened for writing.
    pub(crate) fn of_file(path: PathBuf, source: std::io::Error) -> Self {
        if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
            Self::ReadOnly { path, source }
        } else {
            Self::File { path, source }
        }
    }
}
