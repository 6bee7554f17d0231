//! What was set for queues by hand, and the rate limits that are in use.

use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// A queue that someone changed by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Its limits in the engine's encoding; `None` where the configuration file decides.
    pub limits: Option<Vec<u8>>,
    /// Whether nothing is started from it.
    pub is_paused: bool,
    /// Whether nothing new is taken into it.
    pub is_draining: bool,
}

fn read(row: &Row<'_>) -> Result<QueueRow, StoreError> {
    Ok(QueueRow {
        name: row.column("name")?,
        limits: row.column("limits")?,
        is_paused: row.column("is_paused")?,
        is_draining: row.column("is_draining")?,
    })
}

impl View<'_> {
    /// Every queue that someone changed by hand, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        self.all("SELECT name, limits, is_paused, is_draining FROM queue ORDER BY name", [], read)
    }

    /// Every rate limit that is in use, by name: its name, and which starts count for it, in the engine's encoding.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn rates(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT name, starts FROM rate ORDER BY name";
        self.all(sql, [], |row| Ok((row.column("name")?, row.column("starts")?)))
    }
}

impl Txn<'_> {
    /// Writes a queue.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_queue(&self, queue: &QueueRow) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO queue (name, limits, is_paused, is_draining) VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, params![queue.name, queue.limits, queue.is_paused, queue.is_draining])?;
        Ok(())
    }

    /// Forgets what was set for a queue.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_queue(&self, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM queue WHERE name = ?1", [name])?;
        Ok(())
    }

    /// Writes which starts count for a rate limit.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_rate(&self, name: &str, starts: &[u8]) -> Result<(), StoreError> {
        self.run("INSERT OR REPLACE INTO rate (name, starts) VALUES (?1, ?2)", params![name, starts])?;
        Ok(())
    }

    /// Forgets a rate limit that is not used any more.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_rate(&self, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM rate WHERE name = ?1", [name])?;
        Ok(())
    }
}
