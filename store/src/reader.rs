//! A read-only connection for lists and pages: sees the last commit, never waits for the writer.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::open::DATABASE_NAME;
use crate::view::View;

/// A read-only connection of its own.
#[derive(Debug)]
pub struct Reader(Connection);

impl Reader {
    /// Opens the database in `directory`, which a [`crate::Store`] has made.
    ///
    /// # Errors
    /// [`StoreError`] if there is none or SQLite refuses.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(directory.join(DATABASE_NAME), flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// The queries.
    #[must_use]
    pub const fn view(&self) -> View<'_> {
        View::new(&self.0)
    }
}
