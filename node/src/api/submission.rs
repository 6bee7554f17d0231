//! Taking jobs on: one, many at once, or only asking what would become of one.
//!
//! The body of a submit is a [`Submission`] as the engine takes it, so that nothing is lost or renamed on the way.

use jobmesh_protocol::{JobId, JobNumber, Submission};
use serde::{Deserialize, Serialize};

use crate::api::{Change, JobDetail};

/// Asks for a job, or for an array of them. Their input blobs, if any, were uploaded before.
pub type SubmitRequest = Submission;

/// Most submissions of one batch. It is written down in one transaction, which holds up everybody else.
pub const BATCH_LINES_MAX: usize = 10_000;

/// The query of a submit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    /// Whether to tell what becomes of the job until it ends: JSON lines, one [`FollowLine`] each.
    #[serde(default)]
    pub follow: bool,
}

/// A job that is queued and will survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
    /// Which task of that number it is, if it became a task of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Whether it came into being now, and not by an earlier submission of the same key.
    #[serde(default = "yes")]
    pub is_new: bool,
    /// Whether its arguments were added to those of that job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_merged: bool,
}

const fn yes() -> bool {
    true
}

impl Submitted {
    /// What people call it: `42`, or `42.7` for a task.
    #[must_use]
    pub fn name(&self) -> String {
        numbered(self.number, self.task)
    }
}

/// A job's number as people type it.
pub(super) fn numbered(number: u64, task: Option<u32>) -> String {
    match task {
        None => number.to_string(),
        Some(task) => format!("{number}.{task}"),
    }
}

/// A job's number and task, apart.
#[must_use]
pub fn number_parts(number: JobNumber) -> (u64, Option<u32>) {
    (number.number().into(), number.index())
}

/// The jobs of a batch, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Their numbers in the order of the lines, as ranges: first and last, both included.
    pub numbers: Vec<[u64; 2]>,
    /// How many lines there were.
    pub count: u64,
}

impl Batch {
    /// The batch of jobs with these numbers.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut batch = Self { numbers: Vec::new(), count: 0 };
        for number in numbers {
            batch.count += 1;
            match batch.numbers.last_mut() {
                Some([_, last]) if *last + 1 == number => *last = number,
                Some(_) | None => batch.numbers.push([number, number]),
            }
        }
        batch
    }
}

/// One line of what becomes of a job that is followed from its submit on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FollowLine {
    /// It is queued. Always the first line.
    Submitted(Submitted),
    /// It moved.
    Change(Change),
    /// It ended. Always the last line; one is missing only if the daemon went away.
    Ended(Box<Ended>),
}

/// The end of a job that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Everything that is known about it.
    pub detail: JobDetail,
    /// All that its last attempt wrote to standard output, if that is little; base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// All that its last attempt wrote to standard error, if that is little; base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_tells_its_numbers_as_ranges() {
        assert_eq!(Batch::of([1, 2, 3, 7, 8, 5]).numbers, [[1, 3], [7, 8], [5, 5]]);
        assert_eq!(Batch::of([]), Batch { numbers: Vec::new(), count: 0 });
    }
}
