//! The number that people type: `42` for a job, `42.7` for task 7 of job 42.
//!
//! A number counts jobs on one node and packs into one integer that sorts like the jobs were submitted, the tasks of
//! a group right behind it. That integer is the key of the job's row, so that walking jobs in order is walking the
//! table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Highest number and highest task: both fit into 31 bits, so that a packed number is a positive integer of SQLite.
pub const NUMBER_MAX: u32 = (1 << 31) - 2;

/// A job's number on its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobNumber {
    number: u32,
    /// The task plus one; 0 for a job that is no task.
    place: u32,
}

impl JobNumber {
    /// A job that is no task of another.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self { number: number.min(NUMBER_MAX), place: 0 }
    }

    /// Task `task` of this job.
    #[must_use]
    pub fn task(self, task: u32) -> Self {
        Self { number: self.number, place: task.min(NUMBER_MAX) + 1 }
    }

    /// The number without the task.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Which task of its group it is.
    #[must_use]
    pub const fn index(self) -> Option<u32> {
        self.place.checked_sub(1)
    }

    /// The group that a task belongs to; a job that is no task is its own.
    #[must_use]
    pub const fn group(self) -> Self {
        Self { number: self.number, place: 0 }
    }

    /// Both parts in one integer that keeps the order.
    #[must_use]
    pub const fn key(self) -> i64 {
        ((self.number as i64) << 32) | self.place as i64
    }

    /// Takes the integer apart again; `None` if no number packs so.
    #[must_use]
    pub fn from_key(key: i64) -> Option<Self> {
        let number = u32::try_from(key >> 32).ok().filter(|number| *number <= NUMBER_MAX)?;
        let place = u32::try_from(key & 0xffff_ffff).ok().filter(|place| *place <= NUMBER_MAX + 1)?;
        Some(Self { number, place })
    }
}

impl fmt::Display for JobNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            None => f.pad(&self.number.to_string()),
            Some(task) => f.pad(&format!("{}.{task}", self.number)),
        }
    }
}

/// In JSON and CBOR it is what people type.
impl Serialize for JobNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Not a job's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no job number; write 42, or 42.7 for task 7 of job 42")]
pub struct NumberError(String);

impl FromStr for JobNumber {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |part: &str| {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|found| is_plain && *found <= NUMBER_MAX)
        };
        let found = match text.split_once('.') {
            None => read(text).map(Self::new),
            Some((number, task)) => read(number).zip(read(task)).map(|(number, task)| Self::new(number).task(task)),
        };
        found.ok_or_else(|| NumberError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_read_back() {
        let job = JobNumber::new(7);
        let all = [JobNumber::new(0), job, job.task(0), job.task(1), job.task(NUMBER_MAX), JobNumber::new(8)];
        for pair in all.windows(2) {
            let (before, after) = (pair.first().copied(), pair.last().copied());
            assert!(before < after && before.map(JobNumber::key) < after.map(JobNumber::key));
        }
        for number in all {
            assert_eq!(JobNumber::from_key(number.key()), Some(number));
            assert_eq!(number.to_string().parse(), Ok(number));
        }
        assert_eq!(JobNumber::from_key(-1), None);
    }

    #[test]
    fn nonsense_is_no_number() {
        for text in ["", ".", "1.", ".1", "+1", "1.2.3", "-3", "99999999999", "1e3"] {
            assert!(text.parse::<JobNumber>().is_err(), "{text}");
        }
    }
}
