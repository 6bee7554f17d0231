//! Keeping the file in order: looking for damage, and giving back what is not needed.
//!
//! The look is a reader's business, table by table, so that it can be left between two of them. The rest needs the
//! writer, outside of any transaction. **The hard case** is a reader that is in the middle of something: the log can't be
//! emptied then, and waiting for that would hold up everyone, so it is left for the next time.

use std::time::Duration;

use crate::error::StoreError;
use crate::migration;
use crate::open::Store;
use crate::view::View;

/// Most faults that are told of one table: the first ones say it all.
const FAULTS_MAX: usize = 8;

/// What became of an upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// Whether the write-ahead log was emptied; a reader may have needed it.
    pub is_log_empty: bool,
    /// How many pages of the file are unused. They are used again before it grows.
    pub pages_free: u64,
}

impl View<'_> {
    /// The schema of the file, and the newest that this build knows.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn schema(&self) -> Result<(u32, u32), StoreError> {
        let found = self.one("PRAGMA user_version", [], |row| Ok(row.get(0)?))?;
        Ok((found.unwrap_or(0), migration::newest()))
    }

    /// The tables, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn tables(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        self.all(sql, [], |row| Ok(row.get("name")?))
    }

    /// What is wrong with the pages of a table and of its indexes, in SQLite's words; empty if nothing is. Takes about as
    /// long as reading them all.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; bad damage shows so, too.
    pub fn faults(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let mut found: Vec<String> =
            self.all("SELECT * FROM pragma_quick_check(?1)", [table], |row| Ok(row.get(0)?))?;
        found.retain(|line| line != "ok");
        found.truncate(FAULTS_MAX);
        Ok(found)
    }
}

impl Store {
    /// Lets SQLite learn what its planner wants to know, and empties the write-ahead log into the file. Waits for nobody.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails. Nothing is lost by it.
    pub fn upkeep(&mut self) -> Result<Upkeep, StoreError> {
        let connection = self.connection();
        connection.execute_batch("PRAGMA optimize")?;
        let is_log_empty = self.empty_log()?;
        let pages_free = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        Ok(Upkeep { is_log_empty, pages_free })
    }

    /// Empties the write-ahead log into the file. Returns whether nobody was in the way.
    pub(crate) fn empty_log(&self) -> Result<bool, StoreError> {
        let connection = self.connection();
        let patience = Duration::from_millis(connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?);
        connection.busy_timeout(Duration::ZERO)?;
        let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        connection.busy_timeout(patience)?;
        Ok(emptied? == 0)
    }
}
