//! The event log: what happened to every job, in order.

use jobmesh_keys::NodeId;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{Epoch, JobId, JobState, UnixMillis};
use rusqlite::params;

use crate::error::StoreError;
use crate::row::Columns as _;
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

impl View<'_> {
    /// The whole history of a job, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn events(&self, job: JobId) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT id, job, epoch, state, cause, node, note, at FROM event WHERE job = ?1 ORDER BY id";
        self.all(sql, [job.as_bytes().as_slice()], |row| {
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
        })
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
