//! What can go wrong with the database, sorted by what the owner must do about it.

use std::path::PathBuf;

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
    #[error("the job database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
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
    /// SQLite refused.
    #[error("failed to open the job database at {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}
