//! The job table: the durable promises.

use jobmesh_keys::NodeId;
use jobmesh_protocol::job::SPEC_BYTES_MAX;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::{Epoch, JobId, JobSpec, JobState, UnixMillis, cbor};
use rusqlite::{Row, params};

use crate::error::StoreError;
use crate::row::Columns as _;
use crate::txn::Txn;
use crate::view::View;

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
    /// Where it is in its life.
    pub state: JobState,
    /// Since when.
    pub state_since: UnixMillis,
    /// What was asked for.
    pub spec: JobSpec,
    /// The epoch of its last attempt; zero before the first.
    pub epoch: Epoch,
    /// Attempts that were spent.
    pub failures: u32,
    /// Attempts that vanished.
    pub crashes: u32,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// Why it is to be cancelled, once someone asked for that.
    pub cancel_reason: Option<String>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeId>,
    /// When it was submitted or awarded.
    pub created_at: UnixMillis,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// A job to insert.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// Its id.
    pub id: JobId,
    /// Its first state.
    pub state: JobState,
    /// What was asked for.
    pub spec: &'a JobSpec,
    /// The epoch to start from.
    pub epoch: Epoch,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeId>,
    /// When.
    pub at: UnixMillis,
}

/// A change of state, guarded by the state and epoch that the caller believes in.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The job.
    pub job: JobId,
    /// The state it must be in.
    pub from: JobState,
    /// The epoch it must have.
    pub epoch: Epoch,
    /// The state it gets.
    pub to: JobState,
    /// The epoch it gets.
    pub new_epoch: Epoch,
    /// Spent attempts it gets.
    pub failures: u32,
    /// Vanished attempts it gets.
    pub crashes: u32,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// Why it ended, if it did.
    pub finish_reason: Option<FinishReason>,
    /// When.
    pub at: UnixMillis,
}

/// Which jobs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this state.
    pub state: Option<JobState>,
    /// Only jobs that have not ended.
    pub live_only: bool,
    /// At most so many, the newest.
    pub limit: u32,
}

const COLUMNS: &str = "id, number, state, state_since, spec, epoch, failures, crashes, run_at, cancel_reason, \
                       finish_reason, origin, created_at, finished_at";

fn read(row: &Row<'_>) -> Result<Job, StoreError> {
    let spec: Vec<u8> = row.column("spec")?;
    Ok(Job {
        id: row.job_id("id")?,
        number: row.column("number")?,
        state: row.word("state", "job state", JobState::from_word)?,
        state_since: row.time("state_since")?,
        spec: cbor::decode(&spec, SPEC_BYTES_MAX).map_err(|_| StoreError::Damaged { what: "job spec" })?,
        epoch: Epoch(row.column("epoch")?),
        failures: row.column("failures")?,
        crashes: row.column("crashes")?,
        run_at: row.time_or_none("run_at")?,
        cancel_reason: row.column("cancel_reason")?,
        finish_reason: row.word_or_none("finish_reason", "finish reason", FinishReason::from_word)?,
        origin: row.node_or_none("origin")?,
        created_at: row.time("created_at")?,
        finished_at: row.time_or_none("finished_at")?,
    })
}

impl View<'_> {
    /// The job with this id.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE id = ?1"), [id.as_bytes().as_slice()], read)
    }

    /// The job with this number on this node.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job_by_number(&self, number: u64) -> Result<Option<Job>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE number = ?1"), [number], read)
    }

    /// Every job that has not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn live_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM job WHERE state NOT IN ('completed', 'discarded', 'cancelled', 'skipped') \
             ORDER BY number"
        );
        self.all(&sql, [], read)
    }

    /// The newest jobs of a selection, newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn jobs(&self, selection: &Selection) -> Result<Vec<Job>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM job WHERE (?1 IS NULL OR state = ?1) \
             AND (NOT ?2 OR state NOT IN ('completed', 'discarded', 'cancelled', 'skipped')) \
             ORDER BY number DESC LIMIT ?3"
        );
        let state = selection.state.map(JobState::word);
        self.all(&sql, params![state, selection.live_only, selection.limit], read)
    }

    /// How many jobs are in each state, in the order of the states' words.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job_counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        self.all("SELECT state, count(*) AS jobs FROM job GROUP BY state ORDER BY state", [], |row| {
            Ok((row.word("state", "job state", JobState::from_word)?, row.column("jobs")?))
        })
    }

    /// The highest number given so far.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_job_number(&self) -> Result<u64, StoreError> {
        let last = self.one("SELECT max(number) AS last FROM job", [], |row| row.column::<Option<u64>>("last"))?;
        Ok(last.flatten().unwrap_or(0))
    }
}

impl Txn<'_> {
    /// Inserts a job under the next number and returns that.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn insert_job(&self, new: &NewJob<'_>) -> Result<u64, StoreError> {
        let number = self.view().last_job_number()? + 1;
        let sql = "INSERT INTO job (id, number, state, state_since, spec, job_type, queue, priority, epoch, failures, \
                   crashes, origin, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, ?10, ?4)";
        let origin = new.origin.map(|node| *node.as_bytes());
        let spec = cbor::encode(new.spec);
        let values = params![
            new.id.as_bytes(),
            number,
            new.state.word(),
            new.at.0,
            spec,
            new.spec.job_type,
            new.spec.queue,
            new.spec.priority,
            new.epoch.0,
            origin,
        ];
        self.run(sql, values)?;
        Ok(number)
    }

    /// Moves a job if it still is where the caller believes it to be. Returns whether it was.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn move_job(&self, to: &Move) -> Result<bool, StoreError> {
        let sql = "UPDATE job SET state = ?4, epoch = ?5, failures = ?6, crashes = ?7, run_at = ?8, \
                   finish_reason = ?9, state_since = ?10, finished_at = ?11 \
                   WHERE id = ?1 AND state = ?2 AND epoch = ?3";
        let finished_at = to.to.is_final().then_some(to.at.0);
        let values = params![
            to.job.as_bytes(),
            to.from.word(),
            to.epoch.0,
            to.to.word(),
            to.new_epoch.0,
            to.failures,
            to.crashes,
            to.run_at.map(|at| at.0),
            to.finish_reason.map(FinishReason::word),
            to.at.0,
            finished_at,
        ];
        Ok(self.run(sql, values)? == 1)
    }

    /// Writes down that a job is to be cancelled, or, with `None`, that it no longer is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_cancel_reason(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError> {
        self.run("UPDATE job SET cancel_reason = ?2 WHERE id = ?1", params![job.as_bytes(), reason])?;
        Ok(())
    }
}
