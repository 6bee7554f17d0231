//! Which jobs are meant: by name, by what they are like, or both.
//!
//! A person writes `last`, `last.3-9`, `42`, `42.7` (task 7 of job 42), `42.3-9`, `3,7-9`, a whole id, or `all`; a program sends
//! the same words. They are read here, once, for both sides.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_protocol::{DurationMillis, JobId, JobNumber, JobState, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::JobView;

/// Most words that name jobs in one question.
pub const PICKS_MAX: usize = 10_000;
/// Most jobs of one answer.
pub const SELECTED_MAX: u32 = 10_000;

/// Some jobs by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pick {
    /// The one that was submitted last.
    Last,
    /// Tasks of that one, from one number to another, both included.
    LastTasks(u32, u32),
    /// Every one. Has to be said: nothing at all never means everything where something is changed.
    All,
    /// One by its id everywhere.
    Id(JobId),
    /// By their numbers on this node.
    Numbers(Vec<Span>),
}

/// Jobs from one number to another, both included; two tasks of one job, or two jobs that are no tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: JobNumber,
    /// The last; not before the first.
    pub last: JobNumber,
}

/// A text names no jobs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no jobs; write a number such as 42, a task 42.7, a list 3,7-9 or 42.3-9, a whole id, `last` or `all`"
)]
pub struct PickError {
    text: String,
}

impl FromStr for Pick {
    type Err = PickError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => return Ok(Self::Last),
            "all" => return Ok(Self::All),
            _ => {}
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        // Tasks are numbered alike in every job.
        let tasks = text.strip_prefix("last.").filter(|tasks| !tasks.contains('.'));
        if let Some(Span { first, last }) = tasks.and_then(|tasks| Span::read(&format!("1.{tasks}")))
            && let (Some(first), Some(last)) = (first.index(), last.index())
        {
            return Ok(Self::LastTasks(first, last));
        }
        let spans: Option<Vec<Span>> = text.split(',').map(Span::read).collect();
        spans.map(Self::Numbers).ok_or_else(|| PickError { text: text.chars().take(80).collect() })
    }
}

impl Span {
    fn read(text: &str) -> Option<Self> {
        let Some((first, last)) = text.split_once('-') else {
            let only = text.parse::<JobNumber>().ok()?;
            return Some(Self { first: only, last: only });
        };
        let first = first.parse::<JobNumber>().ok()?;
        let last = match first.index() {
            None => last.parse::<JobNumber>().ok()?,
            // `42.3-9` is short for `42.3-42.9`.
            Some(_) if !last.contains('.') => {
                let task = last.parse::<JobNumber>().ok()?.number();
                JobNumber::new(first.number()).task(task)
            }
            Some(_) => last.parse::<JobNumber>().ok()?,
        };
        let is_alike = match (first.index(), last.index()) {
            (None, None) => true,
            (Some(_), Some(_)) => first.number() == last.number(),
            (None, Some(_)) | (Some(_), None) => false,
        };
        (is_alike && first <= last).then_some(Self { first, last })
    }

    /// How many numbers it covers.
    #[must_use]
    pub fn count(self) -> u32 {
        let (first, last) = match (self.first.index(), self.last.index()) {
            (Some(first), Some(last)) => (first, last),
            (None | Some(_), None | Some(_)) => (self.first.number(), self.last.number()),
        };
        last.saturating_sub(first).saturating_add(1)
    }

    /// The number at this place, from 0; none past the end.
    #[must_use]
    pub fn at(self, place: u32) -> Option<JobNumber> {
        if place >= self.count() {
            return None;
        }
        let number = match self.first.index() {
            Some(task) => self.first.group().task(task.saturating_add(place).min(NUMBER_MAX)),
            None => JobNumber::new(self.first.number().saturating_add(place)),
        };
        Some(number)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first == self.last, self.last.index()) {
            (true, _) => write!(f, "{}", self.first),
            (false, Some(task)) => write!(f, "{}-{task}", self.first),
            (false, None) => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::LastTasks(first, last) if first == last => write!(f, "last.{first}"),
            Self::LastTasks(first, last) => write!(f, "last.{first}-{last}"),
            Self::All => f.write_str("all"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Numbers(spans) => {
                for (place, span) in spans.iter().enumerate() {
                    write!(f, "{}{span}", if place == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl TryFrom<String> for Pick {
    type Error = PickError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pick> for String {
    fn from(pick: Pick) -> Self {
        pick.to_string()
    }
}

/// What jobs are like. Everything that is said must hold; nothing said holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// One of these states; none named means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<JobState>,
    /// Only jobs that have not ended.
    #[serde(default)]
    pub live: bool,
    /// In this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// Of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With all these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Submitted by this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Whether the tasks of groups are meant beside their groups.
    #[serde(default)]
    pub tasks: bool,
    /// Submitted at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
}

impl Filter {
    /// Whether it holds for all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { tasks: self.tasks, ..Self::default() }
    }
}

/// Asks for jobs: those that are named, if any are, and that are like this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectRequest {
    /// By name; none named means all, where nothing is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Pick>,
    /// By what they are like.
    #[serde(default)]
    pub filter: Filter,
    /// At most so many; the default and the most are 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The jobs that were meant, newest first; those that were named one by one, in that order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Whether there are more than the limit let through.
    #[serde(default)]
    pub more: bool,
}

/// Asks to be told when jobs have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// Which jobs.
    pub select: SelectRequest,
    /// Whether one of them is enough.
    #[serde(default)]
    pub any: bool,
    /// How long to wait; none is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<DurationMillis>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_names_jobs_prints_as_it_is_read() {
        for text in [
            "last",
            "last.3",
            "last.3-9",
            "all",
            "42",
            "42.7",
            "42.3-9",
            "3,7-9",
            "01890a5d-ac96-774b-bcce-b302099a8057",
        ] {
            assert_eq!(text.parse::<Pick>().unwrap().to_string(), text);
        }
        assert_eq!("42.3-42.9".parse::<Pick>(), "42.3-9".parse());
    }

    #[test]
    fn what_names_no_jobs_is_refused() {
        for text in [
            "", "-1", "+1", "9-3", "42.9-3", "1-2.3", "1.2-2.3", "first", "last.", "last.9-3", "last.1.2", "last.x",
            "3,,4", "7/logs", "0x89", "1-2-3",
        ] {
            assert!(text.parse::<Pick>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_covers_both_its_ends() {
        let Pick::Numbers(spans) = "42.3-5,7-9,8".parse().unwrap() else { unreachable!("numbers") };
        let all: Vec<String> = spans
            .iter()
            .flat_map(|span| (0..=span.count()).map_while(|place| span.at(place)))
            .map(|number| number.to_string())
            .collect();
        assert_eq!(all, ["42.3", "42.4", "42.5", "7", "8", "9", "8"]);
    }
}
