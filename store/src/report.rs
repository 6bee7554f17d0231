//! What running jobs say of themselves: how far they are, and what the next attempt wants to know.

use jobmesh_protocol::{Epoch, JobNumber, UnixMillis};

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which attempt said so.
    pub epoch: Epoch,
    /// How much is done, from 0 to 10 000.
    pub done: Option<u16>,
    /// For people.
    pub message: Option<String>,
    /// When it said so.
    pub at: UnixMillis,
}

/// Something that an attempt left for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Under which name.
    pub name: String,
    /// What.
    pub value: String,
    /// When.
    pub at: UnixMillis,
}

impl View<'_> {
    /// How far a job said that it is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn progress(&self, job: JobNumber) -> Result<Option<Progress>, StoreError> {
        self.one("SELECT epoch, done, message, at FROM progress WHERE job = ?1", [job.key()], |row| {
            Ok(Progress {
                epoch: Epoch(row.column("epoch")?),
                done: row.column("done")?,
                message: row.column("message")?,
                at: row.time("at")?,
            })
        })
    }

    /// What the attempts of a job left for the next one, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn checkpoints(&self, job: JobNumber) -> Result<Vec<Checkpoint>, StoreError> {
        self.all("SELECT name, value, at FROM checkpoint WHERE job = ?1 ORDER BY name", [job.key()], |row| {
            Ok(Checkpoint { name: row.column("name")?, value: row.column("value")?, at: row.time("at")? })
        })
    }
}

impl Txn<'_> {
    /// Writes how far a job is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_progress(&self, job: JobNumber, progress: &Progress) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO progress (job, epoch, done, message, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let Progress { epoch, done, message, at } = progress;
        self.run(sql, params![job.key(), epoch.0, done, message, at.0])?;
        Ok(())
    }

    /// Writes something down for the next attempt of a job.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_checkpoint(&self, job: JobNumber, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO checkpoint (job, name, value, at) VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, params![job.key(), checkpoint.name, checkpoint.value, checkpoint.at.0])?;
        Ok(())
    }

    /// Forgets what was written down under a name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_checkpoint(&self, job: JobNumber, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM checkpoint WHERE job = ?1 AND name = ?2", params![job.key(), name])?;
        Ok(())
    }
}
