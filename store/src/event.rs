//! The event log: what happened to every job, in order.

use jobmesh_keys::NodeId;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{Epoch, JobId, JobNumber, JobState, UnixMillis};
use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; later events have higher ones.
    pub id: u64,
    /// The job.
    pub job: JobId,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The state after it.
    pub state: JobState,
    /// What moved the job.
    pub cause: Cause,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeId>,
    /// What is to be said about it.
    pub note: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// A line to append.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: Epoch,
    /// The state after it.
    pub state: JobState,
    /// What moved the job.
    pub cause: Cause,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeId>,
    /// What is to be said about it.
    pub note: Option<&'a str>,
    /// When.
    pub at: UnixMillis,
}

fn read(row: &Row<'_>) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.column("id")?,
        job: row.job_id("job")?,
        epoch: Epoch(row.column("epoch")?),
        state: row.word("state", "job state", JobState::from_word)?,
        cause: row.word("cause", "cause", Cause::from_word)?,
        node: row.node_or_none("node")?,
        note: row.column("note")?,
        at: row.time("at")?,
    })
}

impl View<'_> {
    /// The whole history of a job, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn events(&self, job: JobId) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT id, job, epoch, state, cause, node, note, at FROM event WHERE job = ?1 ORDER BY id";
        self.all(sql, [job.as_bytes().as_slice()], read)
    }

    /// The events of all jobs behind the one of this number, oldest first, each with its job's number; at most
    /// `limit`. Those of jobs that are deleted are left out.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn events_after(&self, after: u64, limit: u32) -> Result<Vec<(JobNumber, Event)>, StoreError> {
        let sql = "SELECT event.id AS id, event.job AS job, event.epoch AS epoch, event.state AS state, cause, node, \
                   note, at, key FROM event JOIN job ON job.id = event.job WHERE event.id > ?1 ORDER BY event.id \
                   LIMIT ?2";
        self.all(sql, params![after, limit], |row| Ok((row.number("key")?, read(row)?)))
    }

    /// The number of the newest event; 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        let last = self.one("SELECT max(id) AS last FROM event", [], |row| row.column::<Option<u64>>("last"))?;
        Ok(last.flatten().unwrap_or(0))
    }
}

impl Txn<'_> {
    /// Appends a line and returns its number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn append_event(&self, new: &NewEvent<'_>) -> Result<u64, StoreError> {
        let sql = "INSERT INTO event (job, epoch, state, cause, node, note, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let node = new.node.map(|node| *node.as_bytes());
        let values =
            params![new.job.as_bytes(), new.epoch.0, new.state.word(), new.cause.word(), node, new.note, new.at.0,];
        self.run(sql, values)?;
        Ok(self.last_id())
    }
}
