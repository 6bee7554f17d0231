//! Groups of tasks: arrays and open groups, and the items of arrays.

use jobmesh_protocol::submission::{ITEMS_BYTES_MAX, Range, Tasks};
use jobmesh_protocol::{Epoch, JobId, JobNumber, JobState, cbor};
use rusqlite::Row;

use crate::error::StoreError;
use crate::job::{self, Job};
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// Items of an array in one row: few rows to write, little to read for one item.
const ITEMS_PER_ROW: u32 = 256;
/// Largest encoded list of ranges.
const RANGES_BYTES_MAX: usize = 64 * 1024;

/// Items of an array that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    /// The number of the first one's task within the array.
    pub first: u32,
    /// The items, at most 256.
    pub items: Vec<String>,
}

impl Items {
    /// The item of a task, by its number within the array; `None` if it is not among these.
    #[must_use]
    pub fn of(&self, index: u32) -> Option<&str> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.items.get(place).map(String::as_str)
    }
}

/// A task as far as its group is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its number.
    pub number: JobNumber,
    /// Its id.
    pub id: JobId,
    /// Its state.
    pub state: JobState,
    /// Its newest attempt.
    pub epoch: Epoch,
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's own job.
    pub job: JobNumber,
    /// The ranges of an array's tasks; `None` for items and for open groups.
    pub ranges: Option<Vec<Range>>,
    /// Whether it is an array, whose tasks are made when they are claimed.
    pub is_array: bool,
    /// Whether it takes further tasks.
    pub is_open: bool,
    /// Most tasks that run at once.
    pub at_a_time: Option<u32>,
    /// Most tasks that may fail.
    pub max_fails: Option<u32>,
    /// How many tasks there will be, as far as is known.
    pub of: u32,
    /// How many there are by now.
    pub made: u32,
    /// How many further ones there are already, made out of turn because somebody named them.
    pub early: u32,
    /// How many of them completed.
    pub completed: u32,
    /// How many of them were discarded.
    pub failed: u32,
    /// How many of them were cancelled or skipped.
    pub dropped: u32,
}

impl Group {
    /// How many tasks have ended.
    #[must_use]
    pub const fn ended(&self) -> u32 {
        self.completed.saturating_add(self.failed).saturating_add(self.dropped)
    }

    /// Whether no task is missing any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !self.is_open && self.ended() >= self.of
    }

    /// Counts a task's end.
    pub const fn count(&mut self, state: JobState) {
        if let Some(tally) = self.tally(state) {
            *tally = tally.saturating_add(1);
        }
    }

    /// Takes back the count of a task that is tried again.
    pub const fn uncount(&mut self, state: JobState) {
        if let Some(tally) = self.tally(state) {
            *tally = tally.saturating_sub(1);
        }
    }

    /// What counts the tasks that ended in a state; none for one that is not an end.
    const fn tally(&mut self, state: JobState) -> Option<&mut u32> {
        match state {
            JobState::Completed => Some(&mut self.completed),
            JobState::Discarded => Some(&mut self.failed),
            JobState::Cancelled | JobState::Skipped => Some(&mut self.dropped),
            JobState::Pending
            | JobState::Scheduled
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Retryable => None,
        }
    }

    /// The number of the task at this place, from 0; `None` past the last one of an array.
    #[must_use]
    pub fn task_at(&self, place: u32) -> Option<JobNumber> {
        let index = match &self.ranges {
            None if self.is_array && place >= self.of => return None,
            None => place.checked_add(1)?,
            Some(ranges) => index_at(ranges, place)?,
        };
        Some(self.job.task(index))
    }

    /// The place of a task; the inverse of [`Self::task_at`].
    #[must_use]
    pub fn place_of(&self, task: JobNumber) -> Option<u32> {
        let index = task.index()?;
        match &self.ranges {
            None => index.checked_sub(1),
            Some(ranges) => place_in(ranges, index),
        }
    }
}

fn place_in(ranges: &[Range], index: u32) -> Option<u32> {
    let mut before = 0;
    for range in ranges {
        let step = range.step.max(1);
        let is_in = index >= range.first && index <= range.last;
        if is_in && (index - range.first).is_multiple_of(step) {
            return Some(before + (index - range.first) / step);
        }
        before += (range.last - range.first) / step + 1;
    }
    None
}

fn index_at(ranges: &[Range], place: u32) -> Option<u32> {
    let mut left = place;
    for range in ranges {
        let steps = range.last.checked_sub(range.first)? / range.step.max(1);
        if left <= steps {
            return Some(range.first + left * range.step);
        }
        left -= steps + 1;
    }
    None
}

const COLUMNS: &str = "job, tasks, is_open, at_a_time, max_fails, of, made, early, completed, failed, dropped";

fn read(row: &Row<'_>) -> Result<Group, StoreError> {
    let tasks: Option<Vec<u8>> = row.column("tasks")?;
    let damaged = |_| StoreError::Damaged { what: "list of tasks" };
    let ranges: Option<Vec<Range>> =
        tasks.as_deref().map(|bytes| cbor::decode(bytes, RANGES_BYTES_MAX).map_err(damaged)).transpose()?;
    Ok(Group {
        job: row.number("job")?,
        is_array: ranges.is_some(),
        // An empty list stands for items, which are numbered from 1.
        ranges: ranges.filter(|ranges| !ranges.is_empty()),
        is_open: row.column("is_open")?,
        at_a_time: row.column("at_a_time")?,
        max_fails: row.column("max_fails")?,
        of: row.column("of")?,
        made: row.column("made")?,
        early: row.column("early")?,
        completed: row.column("completed")?,
        failed: row.column("failed")?,
        dropped: row.column("dropped")?,
    })
}

impl View<'_> {
    /// The group whose own job has this number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn group(&self, job: JobNumber) -> Result<Option<Group>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM job_group WHERE job = ?1"), [job.key()], read)
    }

    /// The item of a task, if its group has items.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn item(&self, task: JobNumber) -> Result<Option<String>, StoreError> {
        let items = self.items_around(task)?;
        Ok(items.zip(task.index()).and_then(|(items, index)| items.of(index).map(str::to_owned)))
    }

    /// The item of a task and those of its neighbours, if its group has items.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn items_around(&self, task: JobNumber) -> Result<Option<Items>, StoreError> {
        let Some(place) = task.index().and_then(|index| index.checked_sub(1)) else { return Ok(None) };
        let chunk = place / ITEMS_PER_ROW;
        let sql = "SELECT items FROM array_item WHERE job = ?1 AND chunk = ?2";
        let items: Option<Vec<u8>> = self.one(sql, params![task.group().key(), chunk], |row| row.column("items"))?;
        let Some(items) = items else { return Ok(None) };
        let items: Vec<String> =
            cbor::decode(&items, ITEMS_BYTES_MAX * 2).map_err(|_| StoreError::Damaged { what: "list of items" })?;
        Ok(Some(Items { first: chunk * ITEMS_PER_ROW + 1, items }))
    }

    /// The tasks of a group, in order: at most `limit`, beginning after `after`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn tasks(&self, group: JobNumber, after: Option<JobNumber>, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let sql = "SELECT key, id, state, epoch FROM job WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
        let after = after.unwrap_or(group).key();
        self.all(sql, params![after, group.key() + (1 << 32), limit], |row| {
            Ok(TaskRow {
                number: row.number("key")?,
                id: row.job_id("id")?,
                state: row.word("state", "job state", JobState::from_word)?,
                epoch: Epoch(row.column("epoch")?),
            })
        })
    }

    /// The tasks of a group that have not ended, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn live_tasks(&self, group: JobNumber) -> Result<Vec<JobNumber>, StoreError> {
        let sql = "SELECT key FROM job WHERE key > ?1 AND key < ?2 AND live = 1 ORDER BY key";
        self.all(sql, [group.key(), group.key() + (1 << 32)], |row| row.number("key"))
    }

    /// Whether any task of a group is kept.
    pub(crate) fn has_tasks(&self, group: JobNumber) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM job WHERE key > ?1 AND key < ?2 LIMIT 1";
        Ok(self.one(sql, [group.key(), group.key() + (1 << 32)], |_| Ok(()))?.is_some())
    }

    /// The task of a group with the highest number.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_task(&self, group: JobNumber) -> Result<Option<JobNumber>, StoreError> {
        let sql = "SELECT key FROM job WHERE key > ?1 AND key < ?2 ORDER BY key DESC LIMIT 1";
        self.one(sql, [group.key(), group.key() + (1 << 32)], |row| row.number("key"))
    }

    /// The tasks of a group that ended otherwise than completed, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn unfinished_tasks(&self, group: JobNumber) -> Result<Vec<JobNumber>, StoreError> {
        let sql = "SELECT key FROM job WHERE key > ?1 AND key < ?2 AND live IS NULL AND state <> 'completed' \
                   ORDER BY key";
        self.all(sql, [group.key(), group.key() + (1 << 32)], |row| row.number("key"))
    }

    /// How many tasks of a group there are.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn task_count(&self, group: JobNumber) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS tasks FROM job WHERE key > ?1 AND key < ?2";
        let count = self.one(sql, [group.key(), group.key() + (1 << 32)], |row| row.column("tasks"))?;
        Ok(count.unwrap_or(0))
    }

    /// The first task of a group in the first of these states in which there is any.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn first_task_in(&self, group: JobNumber, states: &[JobState]) -> Result<Option<Job>, StoreError> {
        let sql = format!(
            "SELECT {} FROM job WHERE key > ?1 AND key < ?2 AND live = 1 AND state = ?3 ORDER BY key LIMIT 1",
            job::COLUMNS
        );
        for state in states {
            let found = self.one(&sql, params![group.key(), group.key() + (1 << 32), state.word()], job::read)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The tasks of a group that have ended, with their ids, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn ended_tasks(&self, group: JobNumber, limit: u32) -> Result<Vec<(JobNumber, JobId)>, StoreError> {
        let sql = "SELECT key, id FROM job WHERE key > ?1 AND key < ?2 AND live IS NULL ORDER BY key LIMIT ?3";
        self.all(sql, params![group.key(), group.key() + (1 << 32), limit], |row| {
            Ok((row.number("key")?, row.job_id("id")?))
        })
    }
}

impl View<'_> {
    /// Whether a task of a group was cancelled.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn has_cancelled_task(&self, group: JobNumber) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM job WHERE key > ?1 AND key <= ?1 | 4294967295 AND state = 'cancelled' LIMIT 1";
        Ok(self.one(sql, [group.key()], |_| Ok(()))?.is_some())
    }
}

impl Txn<'_> {
    /// Inserts a group, with the items of its array if it has any.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn insert_group(&self, group: &Group, tasks: Option<&Tasks>) -> Result<(), StoreError> {
        let sql = "INSERT INTO job_group (job, tasks, is_open, at_a_time, max_fails, of, made, completed, failed, \
                   dropped) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, 0)";
        let ranges = tasks.map(|tasks| match tasks {
            Tasks::Ranges(ranges) => cbor::encode(ranges),
            Tasks::Items(_) => cbor::encode(&Vec::<Range>::new()),
        });
        let values =
            params![group.job.key(), ranges, group.is_open, group.at_a_time, group.max_fails, group.of, group.made];
        self.run(sql, values)?;
        if let Some(Tasks::Items(items)) = tasks {
            for (chunk, items) in items.chunks(ITEMS_PER_ROW as usize).enumerate() {
                let sql = "INSERT INTO array_item (job, chunk, items) VALUES (?1, ?2, ?3)";
                self.run(sql, params![group.job.key(), chunk, cbor::encode(&items)])?;
            }
        }
        Ok(())
    }

    /// Writes a group's counts and whether it is open.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn update_group(&self, group: &Group) -> Result<(), StoreError> {
        let sql = "UPDATE job_group SET is_open = ?2, of = ?3, made = ?4, completed = ?5, failed = ?6, dropped = ?7, \
                   early = ?8 WHERE job = ?1";
        let Group { is_open, of, made, early, completed, failed, dropped, .. } = group;
        let values = params![group.job.key(), is_open, of, made, completed, failed, dropped, early];
        self.run(sql, values)?;
        Ok(())
    }
}
