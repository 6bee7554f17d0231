//! What waits for what.

use std::collections::BTreeSet;

use jobmesh_protocol::submission::Condition;
use jobmesh_protocol::{JobNumber, JobState};
use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// One job that waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The job that is waited for.
    pub upstream: JobNumber,
    /// The job that waits.
    pub job: JobNumber,
    /// How the first must end; `None` is up to the second's rule.
    pub condition: Option<Condition>,
    /// Whether it has ended so.
    pub is_met: bool,
    /// Whether it is on account of a unique key that both had, and not because somebody asked for it.
    pub is_of_key: bool,
}

const COLUMNS: &str = "upstream, job, condition, met, of_key";

fn read(row: &Row<'_>) -> Result<Edge, StoreError> {
    Ok(Edge {
        upstream: row.number("upstream")?,
        job: row.number("job")?,
        condition: row.word_or_none("condition", "condition", Condition::from_word)?,
        is_met: row.column("met")?,
        is_of_key: row.column("of_key")?,
    })
}

impl View<'_> {
    /// What waits for a job, in the order of submission.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn dependants(&self, upstream: JobNumber) -> Result<Vec<Edge>, StoreError> {
        self.all(&format!("SELECT {COLUMNS} FROM dependency WHERE upstream = ?1 ORDER BY job"), [upstream.key()], read)
    }

    /// What a job waits for, and in which state that is; `None` if it is not kept any more.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn dependencies(&self, job: JobNumber) -> Result<Vec<(Edge, Option<JobState>)>, StoreError> {
        let sql = "SELECT upstream, dependency.job AS job, condition, met, of_key, job.state AS state FROM dependency \
                   LEFT JOIN job ON job.key = dependency.upstream WHERE dependency.job = ?1 ORDER BY upstream";
        self.all(sql, [job.key()], |row| Ok((read(row)?, row.word_or_none("state", "job state", JobState::from_word)?)))
    }

    /// The first job that has not ended and waits or waited for this one, or for a task of it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn live_dependant(&self, upstream: JobNumber) -> Result<Option<JobNumber>, StoreError> {
        let sql = "SELECT dependency.job AS job FROM dependency JOIN job ON job.key = dependency.job \
                   WHERE upstream BETWEEN ?1 AND ?1 | iif(?1 & 4294967295, 0, 4294967295) AND job.live = 1 LIMIT 1";
        self.one(sql, [upstream.key()], |row| row.number("job"))
    }

    /// The jobs that can't begin before a job has ended, directly or through others, and the groups that can't end; the
    /// job itself among them.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn all_waiting_for(&self, job: JobNumber) -> Result<BTreeSet<JobNumber>, StoreError> {
        // A group ends after its tasks.
        let sql = "WITH RECURSIVE waiting (key) AS (VALUES (?1) \
                   UNION SELECT dependency.job FROM waiting JOIN dependency ON upstream = waiting.key AND met = 0 \
                   JOIN job ON job.key = dependency.job AND job.state = 'pending' \
                   UNION SELECT waiting.key >> 32 << 32 FROM waiting WHERE waiting.key & 4294967295 <> 0) \
                   SELECT key FROM waiting";
        Ok(self.all(sql, [job.key()], |row| row.number("key"))?.into_iter().collect())
    }

    /// The jobs that have not ended and for which others wait or waited, in the order of submission. Those that do not
    /// wait any more count: one that was dropped for another upstream job may wait again.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn awaited(&self) -> Result<Vec<JobNumber>, StoreError> {
        let sql = "SELECT DISTINCT upstream FROM dependency JOIN job ON job.key = dependency.upstream WHERE job.live = 1 \
                   ORDER BY upstream";
        self.all(sql, [], |row| row.number("upstream"))
    }
}

impl Txn<'_> {
    /// Writes down that a job waits for another. A second time changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn insert_edge(&self, edge: &Edge) -> Result<(), StoreError> {
        let sql = "INSERT INTO dependency (upstream, job, condition, met, of_key) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING";
        let Edge { upstream, job, condition, is_met, is_of_key } = edge;
        self.run(sql, params![upstream.key(), job.key(), condition.map(Condition::word), is_met, is_of_key])?;
        Ok(())
    }

    /// Writes down whether a dependency is met.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_met(&self, edge: &Edge, is_met: bool) -> Result<(), StoreError> {
        let sql = "UPDATE dependency SET met = ?3 WHERE upstream = ?1 AND job = ?2";
        self.run(sql, params![edge.upstream.key(), edge.job.key(), is_met])?;
        Ok(())
    }
}
