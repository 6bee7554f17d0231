//! Deleting what has been kept long enough, and what is known of it in sum for much longer.

use jobmesh_protocol::envelope::Envelope;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::{DurationMillis, JobNumber, JobSpec, JobState, UnixMillis, cbor};
use rusqlite::Row;

use crate::error::StoreError;
use crate::job::{LAST_DELETED, STORED_SPEC_BYTES_MAX};
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// How many times a job of a type ended in a state within an hour. One that is tried again after its end may end again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The hour, counted from 1970 UTC.
    pub hour: u64,
    /// The type.
    pub job_type: String,
    /// The state.
    pub state: JobState,
    /// How many.
    pub jobs: u64,
    /// How long the attempts ran that ended them, together.
    pub run_ms: DurationMillis,
}

/// A blob that somebody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InUse {
    /// It alone.
    Bytes(Hash),
    /// It and every file that it names, as a [`Tree`](jobmesh_protocol::tree::Tree).
    Tree(Hash),
}

impl InUse {
    /// What a job of this spec reads.
    pub fn by(spec: &JobSpec) -> impl Iterator<Item = Self> {
        let bytes = spec.task.blobs().into_iter().map(|blob| Self::Bytes(blob.hash));
        bytes.chain(spec.inputs.map(|tree| Self::Tree(tree.hash)))
    }

    /// What an attempt left.
    fn left(outputs: &Outputs) -> impl Iterator<Item = Self> {
        let bytes = [outputs.stdout, outputs.stderr, outputs.result].into_iter().flatten();
        bytes.map(|blob| Self::Bytes(blob.hash)).chain(outputs.files.map(|tree| Self::Tree(tree.hash)))
    }
}

/// Which ended jobs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Those that did not say how long they are kept.
    As {
        /// They ended in this state.
        state: JobState,
        /// Whether the receipt of a peer says so.
        is_proven: bool,
        /// They ended before this.
        before: UnixMillis,
    },
    /// Those that said how long they are kept, and have been kept until then.
    KeptUntil(UnixMillis),
    /// Those that said how long they are kept, whether it is over or not.
    OfOwnKeep {
        /// They ended before this.
        before: UnixMillis,
    },
}

const ENDED_AS: &str = "SELECT key FROM job WHERE live IS NULL AND keep_until IS NULL AND key & 4294967295 = 0 \
                        AND proven = ?1 AND state = ?2 AND finished_at < ?3 \
                        AND NOT EXISTS (SELECT 1 FROM dependency \
                        JOIN job AS waiting ON waiting.key = dependency.job WHERE waiting.live = 1 \
                        AND upstream BETWEEN job.key AND job.key | 4294967295) ORDER BY finished_at LIMIT ?4";
const KEPT_UNTIL: &str = "SELECT key FROM job WHERE live IS NULL AND keep_until IS NOT NULL AND keep_until <= ?1 \
                          AND NOT EXISTS (SELECT 1 FROM dependency \
                          JOIN job AS waiting ON waiting.key = dependency.job WHERE waiting.live = 1 \
                          AND upstream BETWEEN job.key AND job.key | 4294967295) ORDER BY keep_until LIMIT ?2";
const OF_OWN_KEEP: &str = "SELECT key FROM job WHERE live IS NULL AND keep_until IS NOT NULL AND finished_at < ?1 \
                           AND NOT EXISTS (SELECT 1 FROM dependency \
                           JOIN job AS waiting ON waiting.key = dependency.job WHERE waiting.live = 1 \
                           AND upstream BETWEEN job.key AND job.key | 4294967295) ORDER BY keep_until LIMIT ?2";

impl View<'_> {
    /// Jobs that have ended and are no tasks, oldest first, at most `limit`. One that a job waits or waited for that has
    /// not ended is not among them: it may want the results.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn ended(&self, which: Ended, limit: u32) -> Result<Vec<JobNumber>, StoreError> {
        let read = |row: &Row<'_>| row.number("key");
        match which {
            Ended::As { state, is_proven, before } => {
                self.all(ENDED_AS, params![is_proven, state.word(), before.0, limit], read)
            }
            Ended::KeptUntil(until) => self.all(KEPT_UNTIL, params![until.0, limit], read),
            Ended::OfOwnKeep { before } => self.all(OF_OWN_KEEP, params![before.0, limit], read),
        }
    }

    /// What the hours since `since` were like, by hour, type and state.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn metrics(&self, since: u64) -> Result<Vec<Metric>, StoreError> {
        let sql =
            "SELECT hour, job_type, state, jobs, run_ms FROM metric WHERE hour >= ?1 ORDER BY hour, job_type, state";
        self.all(sql, [since], read_metric)
    }

    /// Hands everything that attempts wrote and jobs read to `each`, some of it many times; what is still on its way here
    /// from where an attempt ran, too. What schedules will read is in their bodies.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn each_blob_in_use(&self, mut each: impl FnMut(InUse)) -> Result<(), StoreError> {
        let sql = "SELECT stdout_hash, stderr_hash, result_hash, files_hash FROM attempt \
                   WHERE coalesce(stdout_hash, stderr_hash, result_hash, files_hash) IS NOT NULL";
        self.each(sql, [], |row| {
            for column in ["stdout_hash", "stderr_hash", "result_hash"] {
                row.hash_or_none(column)?.map(InUse::Bytes).into_iter().for_each(&mut each);
            }
            row.hash_or_none("files_hash")?.map(InUse::Tree).into_iter().for_each(&mut each);
            Ok::<(), StoreError>(())
        })?;
        // What has come of the outputs of these is here, and the rest is on its way: the attempt says nothing of it yet.
        self.each("SELECT envelope FROM receipt WHERE verdict IS NULL", [], |row| {
            let envelope: Vec<u8> = row.column("envelope")?;
            let receipt = Envelope::reopen(&envelope).ok().and_then(|envelope| envelope.parse::<Receipt>().ok());
            InUse::left(&receipt.ok_or(StoreError::Damaged { what: "receipt" })?.outputs).for_each(&mut each);
            Ok::<(), StoreError>(())
        })?;
        // A job that has ended may be tried again.
        self.each("SELECT spec FROM job WHERE spec IS NOT NULL", [], |row| {
            let spec = row.get_ref("spec")?.as_blob().map_err(|_| StoreError::Damaged { what: "job spec" })?;
            let spec: JobSpec =
                cbor::decode(spec, STORED_SPEC_BYTES_MAX).map_err(|_| StoreError::Damaged { what: "job spec" })?;
            InUse::by(&spec).for_each(&mut each);
            Ok(())
        })
    }
}

impl Txn<'_> {
    /// Says until when an ended job is kept, whatever is usual for jobs that ended like it; none is as usual.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_keep_until(&self, job: JobNumber, until: Option<UnixMillis>) -> Result<(), StoreError> {
        self.run("UPDATE job SET keep_until = ?2 WHERE key = ?1", params![job.key(), until.map(|until| until.0)])?;
        Ok(())
    }

    /// Says of a job, and of its group, that a receipt of a peer tells how it ended.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_proven(&self, job: JobNumber) -> Result<(), StoreError> {
        self.run("UPDATE job SET proven = 1 WHERE key IN (?1, ?2)", [job.key(), job.group().key()])?;
        Ok(())
    }

    /// Deletes a job that has ended, and all that is kept of it. Returns whether it did.
    ///
    /// A group stays until its last task is deleted, since the tasks of an array have their spec from it. What others
    /// waited for stays with those, and the name of its submission until that is forgotten. No other job ever gets its
    /// number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn delete_job(&self, job: JobNumber) -> Result<bool, StoreError> {
        let key = job.key();
        let is_ended = "SELECT id FROM job WHERE key = ?1 AND live IS NULL";
        let Some(id) = self.view().one(is_ended, [key], |row| row.job_id("id"))? else { return Ok(false) };
        if job == job.group() && self.view().has_tasks(job)? {
            return Ok(false);
        }
        if self.view().last_job_number()? == Some(job) {
            self.set_meta(LAST_DELETED, &job.number().to_be_bytes())?;
        }
        let written = self.view().attempts(id)?;
        let id = id.as_bytes();
        for sql in [
            "DELETE FROM receipt WHERE job = ?1",
            "DELETE FROM lease WHERE job = ?1",
            "DELETE FROM event WHERE job = ?1",
            "DELETE FROM attempt WHERE job = ?1",
        ] {
            self.run(sql, [id.as_slice()])?;
        }
        for sql in [
            // That an instant has fired is known as long as its schedule.
            "INSERT OR IGNORE INTO fired (schedule, at) SELECT schedule, fire_at FROM job \
             WHERE key = ?1 AND schedule IN (SELECT name FROM schedule)",
            "DELETE FROM dependency WHERE job = ?1",
            "DELETE FROM job_group WHERE job = ?1",
            "DELETE FROM array_item WHERE job = ?1",
            "DELETE FROM progress WHERE job = ?1",
            "DELETE FROM checkpoint WHERE job = ?1",
            "DELETE FROM job WHERE key = ?1",
        ] {
            self.run(sql, [key])?;
        }
        for blob in written.iter().flat_map(|attempt| attempt.outputs.blobs()) {
            self.drop_blob_if_unused(blob.hash)?;
        }
        Ok(true)
    }

    /// Deletes small bytes that no attempt has written any more.
    fn drop_blob_if_unused(&self, hash: Hash) -> Result<(), StoreError> {
        let sql = "DELETE FROM blob WHERE hash = ?1 \
                   AND NOT EXISTS (SELECT 1 FROM attempt WHERE stdout_hash = ?1) \
                   AND NOT EXISTS (SELECT 1 FROM attempt WHERE stderr_hash = ?1) \
                   AND NOT EXISTS (SELECT 1 FROM attempt WHERE result_hash = ?1) \
                   AND NOT EXISTS (SELECT 1 FROM attempt WHERE files_hash = ?1)";
        self.run(sql, [hash.as_bytes().as_slice()])?;
        Ok(())
    }

    /// Adds what ended to what has ended in that hour before.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn add_metric(&self, metric: &Metric) -> Result<(), StoreError> {
        let Metric { hour, job_type, state, jobs, run_ms } = metric;
        let sql = "INSERT INTO metric (hour, job_type, state, jobs, run_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs, run_ms = run_ms + excluded.run_ms";
        self.run(sql, params![hour, job_type, state.word(), jobs, run_ms.0])?;
        Ok(())
    }

    /// Forgets what the hours before `hour` were like.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_metrics_before(&self, hour: u64) -> Result<(), StoreError> {
        self.run("DELETE FROM metric WHERE hour < ?1", [hour])?;
        Ok(())
    }
}

fn read_metric(row: &Row<'_>) -> Result<Metric, StoreError> {
    Ok(Metric {
        hour: row.column("hour")?,
        job_type: row.column("job_type")?,
        state: row.word("state", "job state", JobState::from_word)?,
        jobs: row.column("jobs")?,
        run_ms: DurationMillis(row.column("run_ms")?),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::Incarnation;

    use super::*;
    use crate::Store;

    /// A look for what may be deleted went through all jobs that had ended.
    #[test]
    fn what_may_be_deleted_is_found_by_an_index() {
        let mut store = Store::open_in_memory(Incarnation::from_bytes([0; 16])).unwrap();
        let txn = store.begin().unwrap();
        let before = UnixMillis(9);
        for (sql, values, index) in [
            (ENDED_AS, params![false, "completed", before.0, 9], "job_ended (proven=? AND state=? AND finished_at<?)"),
            (KEPT_UNTIL, params![before.0, 9], "job_kept (keep_until>? AND keep_until<?)"),
            (OF_OWN_KEEP, params![before.0, 9], "INDEX job_kept (keep_until>?)"),
        ] {
            let plan =
                txn.view().all(&format!("EXPLAIN QUERY PLAN {sql}"), values, |row| row.column::<String>("detail"));
            let plan = plan.unwrap().join("\n");
            assert!(plan.contains(index), "{sql}:\n{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN job\n"), "{sql}:\n{plan}");
        }
    }
}
