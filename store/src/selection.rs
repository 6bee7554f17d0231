//! Lists of jobs: which ones, newest first, and how many there are of each kind.

use jobmesh_protocol::{JobNumber, JobState, UnixMillis};
use rusqlite::ToSql;

use crate::error::StoreError;
use crate::job::{self, Job};
use crate::row::Columns as _;
use crate::view::View;

/// Ranges of numbers that are told apart at one level of a condition.
const RANGES_PER_GROUP: usize = 100;

/// The state that a job counts as; none is the empty text.
const COUNTED_AS: &str = "iif(state = 'running', coalesce((SELECT iif(made < of, 'available', '') FROM job_group \
                          WHERE job_group.job = job.key), state), state)";

/// Which jobs a list shows. Everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these states; empty means all.
    pub states: Vec<JobState>,
    /// Only jobs that have not ended.
    pub live_only: bool,
    /// Only jobs that no other node sent.
    pub own_only: bool,
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs of this type.
    pub job_type: Option<String>,
    /// Only jobs with this name.
    pub name: Option<String>,
    /// Only jobs with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only jobs of this schedule.
    pub schedule: Option<String>,
    /// Only jobs that were submitted at this time or later.
    pub since: Option<UnixMillis>,
    /// Only numbers in one of these ranges, both ends included; empty means all.
    pub numbers: Vec<(JobNumber, JobNumber)>,
    /// Whether the tasks of groups are listed beside their groups.
    pub with_tasks: bool,
    /// Only jobs before this one: the last of the page before.
    pub before: Option<JobNumber>,
    /// At most so many, the newest.
    pub limit: u32,
}

impl Selection {
    /// The condition in SQL, with what it is compared to.
    fn condition(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut parts = vec!["1".to_owned()];
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut add = |sql: &str, value: Box<dyn ToSql>| {
            values.push(value);
            sql.replace('?', &format!("?{}", values.len()))
        };
        if self.live_only {
            parts.push("live = 1".to_owned());
        }
        if self.own_only {
            parts.push("origin IS NULL".to_owned());
        }
        if !self.states.is_empty() {
            let words: Vec<String> = self.states.iter().map(|state| add("?", Box::new(state.word()))).collect();
            parts.push(format!("state IN ({})", words.join(", ")));
        }
        if let Some(queue) = &self.queue {
            parts.push(add("queue = ?", Box::new(queue.clone())));
        }
        if let Some(job_type) = &self.job_type {
            parts.push(add("job_type = ?", Box::new(job_type.clone())));
        }
        if let Some(schedule) = &self.schedule {
            parts.push(add("schedule = ?", Box::new(schedule.clone())));
        }
        if let Some(since) = self.since {
            parts.push(add("created_at >= ?", Box::new(i64::try_from(since.0).unwrap_or(i64::MAX))));
        }
        if let Some(before) = self.before {
            parts.push(add("key < ?", Box::new(before.key())));
        }
        if !self.numbers.is_empty() {
            let mut ranges = Vec::new();
            for (first, last) in &self.numbers {
                let from = add("key >= ?", Box::new(first.key()));
                ranges.push(format!("({from} AND {})", add("key <= ?", Box::new(last.key()))));
            }
            // SQLite refuses an expression that is nested deeper than 1000, and each `OR` nests.
            let groups = ranges.chunks(RANGES_PER_GROUP).map(|ranges| format!("({})", ranges.join(" OR ")));
            parts.push(format!("({})", groups.collect::<Vec<_>>().join(" OR ")));
        }
        if !self.with_tasks {
            parts.push("key & 4294967295 = 0".to_owned());
        }
        (parts.join(" AND "), values)
    }

    /// What only the spec tells.
    fn matches(&self, job: &Job) -> bool {
        let has = |(key, value): &(String, String)| job.spec.labels.get(key) == Some(value);
        self.labels.iter().all(has) && self.name.as_ref().is_none_or(|name| job.spec.name.as_ref() == Some(name))
    }
}

impl View<'_> {
    /// The newest jobs of a selection, newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn jobs(&self, selection: &Selection) -> Result<Vec<Job>, StoreError> {
        let (condition, values) = selection.condition();
        let sql = format!("SELECT {} FROM job WHERE {condition} ORDER BY key DESC", job::COLUMNS);
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let limit = usize::try_from(selection.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        self.while_some(&sql, values.as_slice(), |row| {
            if found.len() >= limit {
                return Ok(false);
            }
            let job = job::read(row)?;
            if selection.matches(&job) {
                found.push(job);
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// How many jobs are in each state, in the order of the states' words. A group that runs is its tasks: beside them it is
    /// counted only while it has tasks to make, and as available.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn job_counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        let sql = format!(
            "SELECT {COUNTED_AS} AS counted_as, count(*) AS jobs FROM job GROUP BY counted_as \
             HAVING counted_as <> '' ORDER BY counted_as"
        );
        self.all(&sql, [], |row| Ok((row.word("counted_as", "job state", JobState::from_word)?, row.column("jobs")?)))
    }

    /// How many jobs of each queue are in each state in which they have not ended. Groups count as in [`Self::job_counts`].
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn queue_counts(&self) -> Result<Vec<(String, JobState, u64)>, StoreError> {
        let sql = format!(
            "SELECT queue, {COUNTED_AS} AS counted_as, count(*) AS jobs FROM job WHERE live = 1 \
             GROUP BY queue, counted_as HAVING counted_as <> '' ORDER BY queue, counted_as"
        );
        self.all(&sql, [], |row| {
            Ok((row.column("queue")?, row.word("counted_as", "job state", JobState::from_word)?, row.column("jobs")?))
        })
    }
}
