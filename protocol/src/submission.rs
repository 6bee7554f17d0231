//! What is asked of one node's queue: the job spec, and when and how often, after what and beside what it may run.
//!
//! The spec travels to whichever node runs the job; everything here stays with the node that took the job on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Hash, JobId};
use crate::job::{Effects, JobSpec, NAME_BYTES_MAX, SpecError};
use crate::number::NUMBER_MAX;
use crate::state::words;
use crate::time::{DATE_MAX, DurationMillis, LENGTH_MAX, UnixMillis};

/// Most jobs that one job may wait for.
pub const AFTER_MAX: usize = 1024;
/// Most tasks of one array.
pub const TASKS_MAX: u32 = 10_000_000;
/// Most ranges of one array.
pub const RANGES_MAX: usize = 256;
/// Most bytes of all items of one array: they are stored once, in one transaction.
pub const ITEMS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One job, or one array of them, for a node's queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// What runs.
    pub spec: JobSpec,
    /// When it may start at the earliest.
    #[serde(default)]
    pub start: Start,
    /// How long it may wait to start once it may; then it is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<DurationMillis>,
    /// When it must be over; then it is stopped or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMillis>,
    /// Whether it waits until someone releases it.
    #[serde(default)]
    pub held: bool,
    /// The jobs that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// How many of them must end how.
    #[serde(default)]
    pub rule: Rule,
    /// Whether it gets the results of the jobs that it waits for, as a file of JSON lines.
    #[serde(default)]
    pub reduce: bool,
    /// What there may be only one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// A name for this very submission: a second one of that name within a day gets the first one's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The tasks, if it is an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Array>,
    /// Whether it is a group that takes further tasks until it is closed.
    #[serde(default)]
    pub open: bool,
    /// The open group that it becomes a task of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<JobId>,
}

impl Submission {
    /// One job that may start at once.
    #[must_use]
    pub const fn new(spec: JobSpec) -> Self {
        Self {
            spec,
            start: Start::Now,
            start_within_ms: None,
            deadline: None,
            held: false,
            after: Vec::new(),
            rule: Rule::AllSuccess,
            reduce: false,
            unique: None,
            idempotency_key: None,
            array: None,
            open: false,
            into: None,
        }
    }

    /// Checks every bound, those of the spec included.
    ///
    /// # Errors
    /// [`SubmissionError`] names the field and its range.
    pub fn check(&self) -> Result<(), SubmissionError> {
        self.spec.check()?;
        let retry = &self.spec.retry;
        if self.spec.effects == Effects::Once && (retry.max_attempts > 1 || !retry.retry_on.is_empty()) {
            return Err(SubmissionError::OnceAgain);
        }
        if self.after.len() > AFTER_MAX {
            return Err(SubmissionError::After { found: self.after.len() });
        }
        if self.reduce && self.after.is_empty() {
            return Err(SubmissionError::Reduce);
        }
        if self.rule != Rule::default() && self.after.is_empty() {
            return Err(SubmissionError::RuleOfNothing);
        }
        if self.open && self.spec.retry.max_attempts > 1 {
            return Err(SubmissionError::OpenRetries);
        }
        self.check_times()?;
        if let Some(key) = &self.idempotency_key {
            check_text("idempotency key", key)?;
        }
        if let Some(unique) = &self.unique {
            unique.check()?;
        }
        if let Some(array) = &self.array {
            array.check()?;
        }
        let shapes = [self.array.is_some(), self.open, self.into.is_some()];
        if shapes.into_iter().filter(|is| *is).count() > 1 {
            return Err(SubmissionError::Shape);
        }
        match (self.start, self.deadline) {
            (Start::At(start), Some(deadline)) if deadline <= start => {
                Err(SubmissionError::Deadline { deadline, start })
            }
            _ => Ok(()),
        }
    }

    fn check_times(&self) -> Result<(), SubmissionError> {
        let (delay, start) = match self.start {
            Start::Now => (None, None),
            Start::After(delay) => (Some(delay), None),
            Start::At(start) => (None, Some(start)),
        };
        for (what, length) in [("delay", delay), ("time to start within", self.start_within_ms)] {
            check_length(what, length)?;
        }
        for (what, date) in [("start", start), ("deadline", self.deadline)] {
            if date.is_some_and(|date| date > DATE_MAX) {
                return Err(SubmissionError::TooLate { what });
            }
        }
        Ok(())
    }
}

fn check_length(what: &'static str, length: Option<DurationMillis>) -> Result<(), SubmissionError> {
    if length.is_some_and(|length| length > LENGTH_MAX) {
        return Err(SubmissionError::TooLong { what });
    }
    Ok(())
}

fn check_text(what: &'static str, text: &str) -> Result<(), SubmissionError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(SubmissionError::Text { what });
    }
    Ok(())
}

/// When a job may start at the earliest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// So long after it was taken on.
    After(DurationMillis),
    /// At this time.
    At(UnixMillis),
}

/// A job to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Which job.
    pub job: JobId,
    /// How it must end; none is up to the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Condition>,
}

words!(
    /// How a job that is waited for must end.
    Condition {
        /// Completed.
        Ok = "ok",
        /// In any way.
        Done = "done",
        /// Otherwise than completed: discarded, cancelled or skipped.
        Failed = "failed",
    }
);

words!(
    /// How many of the jobs that are waited for must end how. A condition of its own goes before the rule, but for `ok`
    /// under `any_success`, which says the same.
    #[derive(Default)]
    Rule {
        /// All are completed.
        #[default]
        AllSuccess = "all_success",
        /// All have ended.
        AllDone = "all_done",
        /// One is completed.
        AnySuccess = "any_success",
        /// All have ended, none was discarded or cancelled.
        NoneFailed = "none_failed",
        /// No matter.
        Always = "always",
    }
);

/// What there may be only one of, and what becomes of the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// A key of its own; none means that the fields alone tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What of the job counts beside the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Field>,
    /// For how long the first one is in the way.
    #[serde(default)]
    pub scope: Span,
    /// What becomes of the second one.
    #[serde(default)]
    pub on_conflict: Conflict,
}

impl Unique {
    fn check(&self) -> Result<(), SubmissionError> {
        if let Some(key) = &self.key {
            check_text("unique key", key)?;
        }
        if self.key.is_none() && self.by.is_empty() {
            return Err(SubmissionError::UniqueByNothing);
        }
        for field in &self.by {
            if let Field::Label(label) = field {
                check_text("label", label)?;
            }
        }
        let pause = match self.on_conflict {
            Conflict::Debounce(pause) | Conflict::Throttle(pause) => Some(pause),
            Conflict::Return | Conflict::Reject | Conflict::Replace | Conflict::Merge => None,
        };
        let period = if let Span::Period(period) = self.scope { Some(period) } else { None };
        for length in [period, pause] {
            check_length("period of a unique job", length)?;
        }
        match (self.scope, self.on_conflict) {
            (Span::Period(DurationMillis(0)), _)
            | (_, Conflict::Debounce(DurationMillis(0)) | Conflict::Throttle(DurationMillis(0))) => {
                Err(SubmissionError::UniquePeriod)
            }
            _ => Ok(()),
        }
    }

    /// The hash of everything that counts, for a job with this spec.
    #[must_use]
    pub fn digest(&self, spec: &JobSpec) -> Hash {
        let fields: BTreeMap<String, Vec<u8>> = self.by.iter().map(|field| field.of(spec)).collect();
        Hash::of(&crate::cbor::encode(&(&self.key, fields)))
    }
}

/// A part of a job that may make it the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Its type.
    Type,
    /// Its queue.
    Queue,
    /// What runs, with all arguments.
    Task,
    /// The value of this label.
    Label(String),
}

impl Field {
    fn of(&self, spec: &JobSpec) -> (String, Vec<u8>) {
        match self {
            Self::Type => ("type".to_owned(), spec.job_type.clone().into_bytes()),
            Self::Queue => ("queue".to_owned(), spec.queue.clone().into_bytes()),
            Self::Task => ("task".to_owned(), crate::cbor::encode(&spec.task)),
            Self::Label(label) => {
                (format!("label {label}"), spec.labels.get(label).cloned().unwrap_or_default().into_bytes())
            }
        }
    }
}

/// For how long a job keeps others of its key out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Until it has ended.
    #[default]
    Incomplete,
    /// As long as it is kept.
    Retained,
    /// For so long after it was taken on, ended or not.
    Period(DurationMillis),
}

/// What becomes of a submission whose key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// It is answered with the job that has the key.
    #[default]
    Return,
    /// It is refused.
    Reject,
    /// It takes the place of a job that does not run, be it before its first attempt or between two. One that does keeps
    /// running, and the new one waits for its end.
    Replace,
    /// Its arguments are added to those of a job that has not started. It waits for the end of one that has, or that
    /// can't take them: another program, script, option, directory, environment or input, an array, too many arguments.
    Merge,
    /// The job that has the key waits so long again; the first one waits so long, too. One that has started keeps
    /// running, and the new one waits for its end.
    Debounce(DurationMillis),
    /// It is answered with the job that has the key, until so long after that one was taken on, ended or not.
    Throttle(DurationMillis),
}

/// The tasks of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// Which tasks there are.
    pub tasks: Tasks,
    /// Most tasks that run at once; none is no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_a_time: Option<u32>,
    /// Most tasks that may fail for good; one more skips the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u32>,
}

/// Which tasks an array has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tasks {
    /// A task for each number.
    Ranges(Vec<Range>),
    /// A task for each item, numbered from 1.
    Items(Vec<String>),
}

/// Numbers from `first` to `last`, both included, each `step` after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first number.
    pub first: u32,
    /// The last number, if the steps meet it.
    pub last: u32,
    /// The distance; at least 1.
    #[serde(default = "one")]
    pub step: u32,
}

const fn one() -> u32 {
    1
}

impl Range {
    const fn count(self) -> u32 {
        // What goes down or stands still is refused by the check, which also counts.
        let step = if self.step == 0 { 1 } else { self.step };
        self.last.saturating_sub(self.first) / step + 1
    }
}

impl Array {
    /// How many tasks there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        match &self.tasks {
            Tasks::Ranges(ranges) => ranges.iter().fold(0, |sum, range| sum.saturating_add(range.count())),
            Tasks::Items(items) => u32::try_from(items.len()).unwrap_or(u32::MAX),
        }
    }

    /// The number of the task at this place, from 0.
    #[must_use]
    pub fn index_at(&self, place: u32) -> Option<u32> {
        let Tasks::Ranges(ranges) = &self.tasks else {
            return (place < self.count()).then(|| place + 1);
        };
        let mut left = place;
        for range in ranges {
            if left < range.count() {
                return Some(range.first + left * range.step);
            }
            left -= range.count();
        }
        None
    }

    fn check(&self) -> Result<(), SubmissionError> {
        match &self.tasks {
            Tasks::Ranges(ranges) => check_ranges(ranges)?,
            Tasks::Items(items) => {
                let bytes: usize = items.iter().map(String::len).sum();
                if bytes > ITEMS_BYTES_MAX {
                    return Err(SubmissionError::Items { bytes });
                }
                if let Some(place) = items.iter().position(|item| item.contains('\0')) {
                    return Err(SubmissionError::Nul { item: place + 1 });
                }
            }
        }
        let count = self.count();
        if count == 0 || count > TASKS_MAX {
            return Err(SubmissionError::Tasks { count });
        }
        if self.at_a_time == Some(0) {
            return Err(SubmissionError::AtATime);
        }
        Ok(())
    }
}

/// Ranges go up and do not touch each other, so that every task has a number of its own.
fn check_ranges(ranges: &[Range]) -> Result<(), SubmissionError> {
    if ranges.len() > RANGES_MAX {
        return Err(SubmissionError::Ranges { found: ranges.len() });
    }
    let mut before: Option<u32> = None;
    for range in ranges {
        let Range { first, last, step } = *range;
        if step == 0 {
            return Err(SubmissionError::Step { first, last });
        }
        if first > last || last > NUMBER_MAX {
            return Err(SubmissionError::Range { first, last });
        }
        if let Some(before) = before.filter(|before| first <= *before) {
            return Err(SubmissionError::Order { first, before });
        }
        before = Some(last);
    }
    Ok(())
}

/// What is wrong with a submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// The spec is out of bounds.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It must not run twice, and be tried again.
    #[error(
        "a job with the effects `once` must not run again once it may have started, and this one is to be tried again \
         after a failure; leave out its retries, or say that it may run twice with the effects `idempotent`"
    )]
    OnceAgain,
    /// A text is empty, too long or not printable.
    #[error("the {what} must be 1 to {NAME_BYTES_MAX} printable bytes")]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// Too many dependencies.
    #[error("the job waits for {found} others; the limit is {AFTER_MAX}, but it can wait for a whole array as one")]
    After {
        /// How many.
        found: usize,
    },
    /// A length of time beyond all sense.
    #[error("the {what} is longer than 100 years")]
    TooLong {
        /// Which one.
        what: &'static str,
    },
    /// A date beyond all sense.
    #[error("the {what} is after the year 9999")]
    TooLate {
        /// Which one.
        what: &'static str,
    },
    /// A rule about nothing.
    #[error("a rule says how many of the jobs that it waits for must end how; name them with --after")]
    RuleOfNothing,
    /// Retries of what has no attempts.
    #[error("an open group runs nothing itself, so it isn't tried again; give the retries to its tasks")]
    OpenRetries,
    /// Results of nothing.
    #[error("a job that gets results must say whose; name the job or array with --after")]
    Reduce,
    /// Unique by nothing.
    #[error("a unique job needs a key or a field to be unique by")]
    UniqueByNothing,
    /// A period of zero.
    #[error("the period of a unique job must be longer than 0")]
    UniquePeriod,
    /// Too many bytes of items.
    #[error("the items take {bytes} bytes; the limit is {ITEMS_BYTES_MAX}")]
    Items {
        /// How many.
        bytes: usize,
    },
    /// A zero byte in an item.
    #[error("item {item} has a zero byte, which no program can be given; leave it out, or give the program a file")]
    Nul {
        /// Which item, from 1.
        item: usize,
    },
    /// No tasks, or too many.
    #[error("the array has {count} tasks; it must have 1 to {TASKS_MAX}")]
    Tasks {
        /// How many.
        count: u32,
    },
    /// Too many ranges.
    #[error("the array has {found} ranges; the limit is {RANGES_MAX}")]
    Ranges {
        /// How many.
        found: usize,
    },
    /// A range that goes down, or leaves the numbers.
    #[error("the range {first}-{last} must go up, to {NUMBER_MAX} at most")]
    Range {
        /// Its first number.
        first: u32,
        /// Its last number.
        last: u32,
    },
    /// A range that stands still.
    #[error("the range {first}-{last} in steps of 0 never gets on; leave the step out, or make it 1 or more")]
    Step {
        /// Its first number.
        first: u32,
        /// Its last number.
        last: u32,
    },
    /// A range that begins before the end of the one before it.
    #[error("{first} comes behind {before}; each number can stand there once, and they must go up")]
    Order {
        /// Its first number.
        first: u32,
        /// The last number before it.
        before: u32,
    },
    /// No task at a time.
    #[error("an array must be allowed at least 1 task at a time")]
    AtATime,
    /// It would have to be over before it may start.
    #[error("its deadline is {}, and it may not start before {}", deadline.to_rfc3339(), start.to_rfc3339())]
    Deadline {
        /// When it must be over.
        deadline: UnixMillis,
        /// When it may start.
        start: UnixMillis,
    },
    /// More than one of array, open group and task of a group.
    #[error("a job is an array, an open group or a task of a group, not several of these")]
    Shape,
}

#[cfg(test)]
mod tests;
