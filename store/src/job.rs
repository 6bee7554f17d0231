//! The job table: the durable promises.

use std::sync::Arc;

use jobmesh_keys::NodeId;
use jobmesh_protocol::job::SPEC_BYTES_MAX;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Rule, Span};
use jobmesh_protocol::{DurationMillis, Epoch, Hash, JobId, JobNumber, JobSpec, JobState, RunId, UnixMillis, cbor};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::row::{Columns as _, InOrder, params};
use crate::txn::Txn;
use crate::view::View;

/// Largest spec in the database: one of an older build grew a little when it was brought to the form of this one.
pub(crate) const STORED_SPEC_BYTES_MAX: usize = SPEC_BYTES_MAX + 1024;
/// Largest encoded plan: a few small fields.
const PLAN_BYTES_MAX: usize = 4096;

/// The name under which the highest number is kept whose job was the newest one when it was deleted: four bytes, the
/// highest first. So numbers are never used again, and it costs nothing to give one.
pub(crate) const LAST_DELETED: &str = "last_deleted";

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: JobNumber,
    /// Where it is in its life.
    pub state: JobState,
    /// Since when.
    pub state_since: UnixMillis,
    /// What was asked for. The tasks of an array share their group's.
    pub spec: Arc<JobSpec>,
    /// The queue it is in now.
    pub queue: String,
    /// Its priority now.
    pub priority: i32,
    /// The epoch of its last attempt; zero before the first.
    pub epoch: Epoch,
    /// Attempts that were spent.
    pub failures: u32,
    /// Attempts that vanished.
    pub crashes: u32,
    /// How often it asked to be continued later.
    pub snoozes: u32,
    /// How many of the jobs that it waits for have not ended as they should.
    pub waits: u32,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// When it must have started.
    pub expires_at: Option<UnixMillis>,
    /// When it must be over.
    pub deadline: Option<UnixMillis>,
    /// Why it is held back, if it is.
    pub held: Option<String>,
    /// What else was asked for.
    pub plan: Plan,
    /// The schedule and the instant that it was submitted for.
    pub fire: Option<(String, UnixMillis)>,
    /// Why it is to be cancelled, once someone asked for that.
    pub cancel_reason: Option<String>,
    /// Why it ended, or is to end once it has been stopped.
    pub finish_reason: Option<FinishReason>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeId>,
    /// When it was submitted or awarded.
    pub created_at: UnixMillis,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// What was asked for beside the spec and matters later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How the jobs that it waits for must end.
    #[serde(default)]
    pub rule: Rule,
    /// Whether it gets their results.
    #[serde(default)]
    pub reduce: bool,
    /// How long it may wait to start once it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<DurationMillis>,
    /// For how long it keeps others of its unique key out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Span>,
    /// The unique key by which it does so. It takes that again if it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<Hash>,
    /// Whether it is a group.
    #[serde(default)]
    pub is_group: bool,
    /// Whether the time that it waits for is a date, and not a length of time.
    #[serde(default)]
    pub is_dated: bool,
}

/// A job to insert.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// The job, with all that stays of it.
    pub job: &'a Job,
    /// Whether the spec is written with it, or is its group's.
    pub has_spec: bool,
    /// The unique key that it holds.
    pub unique_key: Option<Hash>,
}

/// A change of state, guarded by the state and epoch that the caller believes in.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The job.
    pub job: JobNumber,
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
    /// Snoozes it gets.
    pub snoozes: u32,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// When it must have started.
    pub expires_at: Option<UnixMillis>,
    /// Why it ended, if it did.
    pub finish_reason: Option<FinishReason>,
    /// When.
    pub at: UnixMillis,
}

/// The columns of a job, in the order in which they are read. A task of an array borrows its spec from its group.
pub(crate) const COLUMNS: &str = "coalesce(spec, (SELECT g.spec FROM job AS g WHERE g.key = (job.key >> 32) << 32)) AS \
                                  spec, plan, key, id, state, state_since, queue, priority, epoch, failures, crashes, \
                                  snoozes, waits, run_at, expires_at, deadline, held, schedule, fire_at, \
                                  cancel_reason, finish_reason, origin, created_at, finished_at";

/// Reads the columns of [`COLUMNS`].
pub(crate) fn read(row: &Row<'_>) -> Result<Job, StoreError> {
    let spec = cbor::decode(spec_bytes(row)?, STORED_SPEC_BYTES_MAX);
    read_with(row, Arc::new(spec.map_err(|_| StoreError::Damaged { what: "job spec" })?))
}

fn spec_bytes<'r>(row: &'r Row<'_>) -> Result<&'r [u8], StoreError> {
    row.get_ref(0)?.as_blob().map_err(|_| StoreError::Damaged { what: "job spec" })
}

/// Reads a job whose spec is known.
fn read_with(row: &Row<'_>, spec: Arc<JobSpec>) -> Result<Job, StoreError> {
    let row = InOrder::new(row);
    row.value("spec")?;
    let plan = match row.value("plan")?.as_blob_or_null().ok().flatten() {
        None => Plan::default(),
        Some(bytes) => cbor::decode(bytes, PLAN_BYTES_MAX).map_err(|_| StoreError::Damaged { what: "job plan" })?,
    };
    Ok(Job {
        number: row.number("key")?,
        id: row.job_id("id")?,
        state: row.word("state", "job state", JobState::from_word)?,
        state_since: row.time("state_since")?,
        spec,
        queue: row.column("queue")?,
        priority: row.column("priority")?,
        epoch: Epoch(row.column("epoch")?),
        failures: row.column("failures")?,
        crashes: row.column("crashes")?,
        snoozes: row.column("snoozes")?,
        waits: row.column("waits")?,
        run_at: row.time_or_none("run_at")?,
        expires_at: row.time_or_none("expires_at")?,
        deadline: row.time_or_none("deadline")?,
        held: row.column("held")?,
        plan,
        fire: row.column::<Option<String>>("schedule")?.zip(row.time_or_none("fire_at")?),
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
    pub fn job_by_number(&self, number: JobNumber) -> Result<Option<Job>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE key = ?1"), [number.key()], read)
    }

    /// The task with this number, whose group's spec is `spec`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn task(&self, number: JobNumber, spec: &Arc<JobSpec>) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM job WHERE key = ?1");
        self.one(&sql, [number.key()], |row| read_with(row, Arc::clone(spec)))
    }

    /// The state of the job with this number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn state_of(&self, number: JobNumber) -> Result<Option<JobState>, StoreError> {
        self.one("SELECT state FROM job WHERE key = ?1", [number.key()], |row| {
            row.word("state", "job state", JobState::from_word)
        })
    }

    /// The queue of the job that this run is of, if it is the one that runs now.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn queue_of_run(&self, run: RunId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT queue FROM job WHERE id = ?1 AND epoch = ?2 AND state = 'running'";
        self.one(sql, params![run.job.as_bytes().as_slice(), run.epoch.0], |row| row.column("queue"))
    }

    /// The id of the job with this number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job_id(&self, number: JobNumber) -> Result<Option<JobId>, StoreError> {
        self.one("SELECT id FROM job WHERE key = ?1", [number.key()], |row| row.job_id("id"))
    }

    /// The number of the job with this id.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job_number(&self, id: JobId) -> Result<Option<JobNumber>, StoreError> {
        self.one("SELECT key FROM job WHERE id = ?1", [id.as_bytes().as_slice()], |row| row.number("key"))
    }

    /// Hands every job that has not ended to `each`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails, and whatever `each` returns.
    pub fn each_live_job<E: From<StoreError>>(&self, mut each: impl FnMut(Job) -> Result<(), E>) -> Result<(), E> {
        // Jobs of the same spec, such as the tasks of an array, come right after each other and share it.
        let mut last: Option<(Vec<u8>, Arc<JobSpec>)> = None;
        let sql = format!("SELECT {COLUMNS} FROM job WHERE live = 1 ORDER BY key");
        self.each(&sql, [], |row| {
            let bytes = spec_bytes(row)?;
            let spec = match &last {
                Some((known, spec)) if known == bytes => Arc::clone(spec),
                _ => {
                    let spec = cbor::decode::<JobSpec>(bytes, STORED_SPEC_BYTES_MAX);
                    let spec = Arc::new(spec.map_err(|_| StoreError::Damaged { what: "job spec" })?);
                    last = Some((bytes.to_vec(), Arc::clone(&spec)));
                    spec
                }
            };
            each(read_with(row, spec)?)
        })
    }

    /// Every job that has not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn live_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let mut jobs = Vec::new();
        self.each_live_job(|job| {
            jobs.push(job);
            Ok::<(), StoreError>(())
        })?;
        Ok(jobs)
    }

    /// The number that was given last, be its job kept or not; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_job_number(&self) -> Result<Option<JobNumber>, StoreError> {
        let deleted = match self.meta(LAST_DELETED)? {
            None => None,
            Some(bytes) => {
                let bytes = bytes.try_into().map_err(|_| StoreError::Damaged { what: "last job number" })?;
                Some(JobNumber::new(u32::from_be_bytes(bytes)))
            }
        };
        let kept = self.one("SELECT max(key) AS last FROM job", [], |row| row.column::<Option<i64>>("last"))?;
        Ok(kept.flatten().and_then(JobNumber::from_key).map(JobNumber::group).max(deleted))
    }

    /// The job that holds a unique key.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn unique_holder(&self, key: &Hash) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM job WHERE unique_key = ?1");
        self.one(&sql, [key.as_bytes().as_slice()], read)
    }

    /// Whether a schedule fired at an instant, as far back as that is known: its job is kept, or was deleted.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn fired(&self, schedule: &str, at: UnixMillis) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM job WHERE schedule = ?1 AND fire_at = ?2 \
                   UNION ALL SELECT 1 FROM fired WHERE schedule = ?1 AND at = ?2 LIMIT 1";
        Ok(self.one(sql, params![schedule, at.0], |_| Ok(()))?.is_some())
    }

    /// The newest instant of a schedule whose job is still kept.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_fired(&self, schedule: &str) -> Result<Option<UnixMillis>, StoreError> {
        let sql = "SELECT fire_at FROM job WHERE schedule = ?1 ORDER BY fire_at DESC LIMIT 1";
        self.one(sql, [schedule], |row| row.time("fire_at"))
    }

    /// The jobs of a schedule that have not ended, oldest instant first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn live_fired(&self, schedule: &str) -> Result<Vec<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM job WHERE schedule = ?1 AND live = 1 ORDER BY fire_at");
        self.all(&sql, [schedule], read)
    }
}

impl Txn<'_> {
    /// Inserts a job.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; also if its number, id, unique key or instant is taken.
    pub fn insert_job(&self, new: &NewJob<'_>) -> Result<(), StoreError> {
        let sql = "INSERT INTO job (key, id, live, state, state_since, spec, job_type, queue, priority, epoch, \
                   failures, crashes, snoozes, waits, run_at, expires_at, deadline, held, plan, unique_key, schedule, \
                   fire_at, cancel_reason, finish_reason, origin, created_at, finished_at) VALUES (?1, ?2, ?3, ?4, \
                   ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, \
                   ?25, ?26, ?27)";
        let job = new.job;
        let plan = (job.plan != Plan::default()).then(|| cbor::encode(&job.plan));
        let values = params![
            job.number.key(),
            job.id.as_bytes(),
            (!job.state.is_final()).then_some(1),
            job.state.word(),
            job.state_since.0,
            new.has_spec.then(|| cbor::encode(job.spec.as_ref())),
            job.spec.job_type,
            job.queue,
            job.priority,
            job.epoch.0,
            job.failures,
            job.crashes,
            job.snoozes,
            job.waits,
            job.run_at.map(|at| at.0),
            job.expires_at.map(|at| at.0),
            job.deadline.map(|at| at.0),
            job.held,
            plan,
            new.unique_key.map(|key| *key.as_bytes()),
            job.fire.as_ref().map(|(name, _)| name),
            job.fire.as_ref().map(|(_, at)| at.0),
            job.cancel_reason,
            job.finish_reason.map(FinishReason::word),
            job.origin.map(|node| *node.as_bytes()),
            job.created_at.0,
            job.finished_at.map(|at| at.0),
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Moves a job if it still is where the caller believes it to be. Returns whether it was. One that had ended forgets
    /// until when it was kept.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn move_job(&self, to: &Move) -> Result<bool, StoreError> {
        let (key, from, epoch) = (to.job.key(), to.from.word(), to.epoch.0);
        let (failures, crashes, at) = (to.failures, to.crashes, to.at.0);
        let run_at = to.run_at.map(|at| at.0);
        let expires_at = to.expires_at.map(|at| at.0);
        let changed = if to.from.is_final() == to.to.is_final() {
            let sql = "UPDATE job SET state = ?4, epoch = ?5, failures = ?6, crashes = ?7, snoozes = ?8, run_at = ?9, \
                       expires_at = ?10, state_since = ?11 WHERE key = ?1 AND state = ?2 AND epoch = ?3";
            self.run(
                sql,
                params![
                    key,
                    from,
                    epoch,
                    to.to.word(),
                    to.new_epoch.0,
                    failures,
                    crashes,
                    to.snoozes,
                    run_at,
                    expires_at,
                    at
                ],
            )?
        } else {
            // What is tried again is kept by its next end. A group is proven while the receipt of a task tells of its end.
            let sql = "UPDATE job SET state = ?4, epoch = ?5, failures = ?6, crashes = ?7, snoozes = ?8, run_at = ?9, \
                       expires_at = ?10, state_since = ?11, live = ?12, finish_reason = ?13, finished_at = ?14, \
                       keep_until = NULL, proven = iif(?12 = 1 AND proven = 1, EXISTS (SELECT 1 FROM job AS task \
                       WHERE task.key > ?1 AND task.key <= (?1 | 4294967295) AND ?1 & 4294967295 = 0 \
                       AND task.proven = 1), proven) WHERE key = ?1 AND state = ?2 AND epoch = ?3";
            let is_final = to.to.is_final();
            self.run(
                sql,
                params![
                    key,
                    from,
                    epoch,
                    to.to.word(),
                    to.new_epoch.0,
                    failures,
                    crashes,
                    to.snoozes,
                    run_at,
                    expires_at,
                    at,
                    (!is_final).then_some(1),
                    to.finish_reason.map(FinishReason::word),
                    is_final.then_some(at),
                ],
            )?
        };
        Ok(changed == 1)
    }

    /// Writes down that a job is to be stopped, in words and by what it will be said to have ended of; or, with `None`,
    /// that it no longer is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_cancel_reason(&self, job: JobNumber, why: Option<(&str, FinishReason)>) -> Result<(), StoreError> {
        let (words, reason) = why.unzip();
        let sql = "UPDATE job SET cancel_reason = ?2, finish_reason = ?3 WHERE key = ?1";
        self.run(sql, params![job.key(), words, reason.map(FinishReason::word)])?;
        Ok(())
    }

    /// Writes down that a job has started, so that it is never too late for that any more.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn clear_expiry(&self, job: JobNumber) -> Result<(), StoreError> {
        self.run("UPDATE job SET expires_at = NULL WHERE key = ?1", [job.key()])?;
        Ok(())
    }

    /// Moves the epoch of a job on that has no attempt under way: those up to `epoch` are used.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_epoch(&self, job: JobNumber, epoch: Epoch) -> Result<(), StoreError> {
        self.run("UPDATE job SET epoch = ?2 WHERE key = ?1 AND epoch < ?2", params![job.key(), epoch.0])?;
        Ok(())
    }

    /// Holds a job back, or, with `None`, lets it go.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_held(&self, job: JobNumber, reason: Option<&str>) -> Result<(), StoreError> {
        self.run("UPDATE job SET held = ?2 WHERE key = ?1", params![job.key(), reason])?;
        Ok(())
    }

    /// Says until when a job must have started.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_expiry(&self, job: JobNumber, at: Option<UnixMillis>) -> Result<(), StoreError> {
        self.run("UPDATE job SET expires_at = ?2 WHERE key = ?1", params![job.key(), at.map(|at| at.0)])?;
        Ok(())
    }

    /// Puts a job into a queue at a priority.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_place(&self, job: JobNumber, queue: &str, priority: i32) -> Result<(), StoreError> {
        let sql = "UPDATE job SET queue = ?2, priority = ?3 WHERE key = ?1";
        self.run(sql, params![job.key(), queue, priority])?;
        Ok(())
    }

    /// Writes down how many of the jobs that a job waits for are left.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_waits(&self, job: JobNumber, waits: u32) -> Result<(), StoreError> {
        self.run("UPDATE job SET waits = ?2 WHERE key = ?1", params![job.key(), waits])?;
        Ok(())
    }

    /// Gives a unique key to a job.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; also if another job holds it.
    pub fn give_unique_key(&self, job: JobNumber, key: &Hash) -> Result<(), StoreError> {
        self.run("UPDATE job SET unique_key = ?2 WHERE key = ?1", params![job.key(), key.as_bytes()])?;
        Ok(())
    }

    /// Takes the unique key from a job.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn free_unique_key(&self, job: JobNumber) -> Result<(), StoreError> {
        self.run("UPDATE job SET unique_key = NULL WHERE key = ?1", [job.key()])?;
        Ok(())
    }

    /// Replaces what a job that has not started is to do.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_spec(&self, job: JobNumber, spec: &JobSpec) -> Result<(), StoreError> {
        let sql = "UPDATE job SET spec = ?2, job_type = ?3 WHERE key = ?1";
        self.run(sql, params![job.key(), cbor::encode(spec), spec.job_type])?;
        Ok(())
    }
}
