//! What other queues hold, read and turned into jobs and schedules of this node.
//!
//! A reader ([`crontab`], [`pueue`], [`oban`]) is a pure function from the bytes of a source to a [`Plan`]. The plan
//! says of each item what becomes of it and why, and both the [`Report`] and the import follow it: what `--dry-run`
//! shows is what is done.
//!
//! **The hard case** is doing it twice. Each job gets a key made of what identifies it at its source, and is unique by
//! that key for as long as it is kept, which for imported jobs is [`KEEP`]; each schedule gets a name made the same
//! way. What may change without making it another item, such as the state of a job, is no part of either. So a
//! second import finds everything there, even if the jobs have run in the meantime.

pub mod crontab;
pub mod oban;
pub mod pueue;
pub mod report;
pub mod source;

mod draft;
mod error;
mod order;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{QueueLimits, Schedule};
use jobmesh_protocol::{DurationMillis, Submission};
use serde::Serialize;

pub use error::ImportError;
pub use report::{Present, Report};

use draft::{Draft, cut, digest, key, label, name_of, parse_time, program_of, shell_spec};
use error::check_lines;

/// Most items of one import. They are planned and shown in memory, some kilobytes each.
pub const ITEMS_MAX: usize = 100_000;
/// Longest line of a source: an item that is larger could not become a job either.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// How long an imported job is kept after its end: a year, so that a later import of the same source still meets it.
pub const KEEP: DurationMillis = DurationMillis::from_secs(366 * 86_400);
/// The label that names the key of an imported job, or the name of an imported schedule.
pub const LABEL_KEY: &str = "import";
/// The label that names the kind of source.
pub const LABEL_SOURCE: &str = "import_source";
/// The label that carries what a person wrote about the item.
pub const LABEL_DESCRIPTION: &str = "description";

/// Which program's queue is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A crontab.
    Crontab,
    /// The state of a pueue daemon.
    Pueue,
    /// The job table of Oban.
    Oban,
}

impl Kind {
    /// The word for it on the command line, in keys and in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Crontab => "crontab",
            Self::Pueue => "pueue",
            Self::Oban => "oban",
        }
    }
}

/// Whether what is imported may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Not before a person lets it.
    Hold,
    /// As soon as its time has come.
    Enqueue,
}

/// What becomes of items that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// They are only counted.
    Count,
    /// They are listed.
    List,
}

/// What is to be done with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which program it comes from.
    pub kind: Kind,
    /// What the source is called, such as its path.
    pub source: String,
    /// Its items, in its own order.
    pub items: Vec<Item>,
    /// Its queues with their limits, by name.
    pub queues: Vec<PlannedQueue>,
    /// How many items had ended and are not listed.
    pub finished: usize,
    /// How many items are older than asked for and are not listed.
    pub older: usize,
    /// What concerns the whole source.
    pub warnings: Vec<String>,
    /// The source with the imported items switched off, where that can be written down.
    pub replacement: Option<String>,
}

/// One item of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it stands, such as `line 3`.
    pub origin: String,
    /// What it runs.
    pub title: String,
    /// What becomes of it.
    pub fate: Fate,
    /// What is different here from there.
    pub notes: Vec<String>,
}

/// What becomes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A job.
    Job(Box<PlannedJob>),
    /// A schedule.
    Schedule(Box<PlannedSchedule>),
    /// Nothing, before a person says what it means here.
    NeedsMapping {
        /// What is missing.
        reason: String,
    },
    /// Nothing.
    LeftOut {
        /// Why.
        reason: String,
    },
}

impl Fate {
    /// An item that nothing becomes of.
    pub fn left_out(reason: impl Into<String>) -> Self {
        Self::LeftOut { reason: reason.into() }
    }
}

/// A job that is to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedJob {
    /// What it is unique by.
    pub key: String,
    /// What is submitted, but for the jobs that it waits for: their ids are known only once they are there.
    pub submission: Submission,
    /// The keys of the jobs that it waits for. They stand in the same plan, and nothing waits for itself.
    pub after: Vec<String>,
    /// Why it is held even if the rest may run.
    pub held_because: Option<String>,
}

/// A schedule that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSchedule {
    /// Its name.
    pub name: String,
    /// What it does.
    pub schedule: Schedule,
    /// Whether its zone is what a person asked for, so that one that is there gets it, too.
    pub is_zone_asked: bool,
    /// Whether it fires only once a person resumes it.
    pub is_paused: bool,
    /// When it fires next, by its own wall clock.
    pub next: Option<String>,
    /// When it fires, in words.
    pub words: String,
}

impl PlannedSchedule {
    /// What the schedule of this name that is there must become, if it must change: what else a person changed of it
    /// stays.
    #[must_use]
    pub fn change(&self, there: &Schedule) -> Option<Schedule> {
        let zone = &self.schedule.timing.zone;
        if !self.is_zone_asked || *zone == there.timing.zone {
            return None;
        }
        let mut changed = there.clone();
        changed.timing.zone.clone_from(zone);
        Some(changed)
    }
}

/// A queue that is to have limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedQueue {
    /// Its name here.
    pub name: String,
    /// Its name at the source.
    pub origin: String,
    /// Its limits.
    pub limits: QueueLimits,
    /// What is different here from there.
    pub notes: Vec<String>,
}

impl Plan {
    /// A plan without items.
    #[must_use]
    pub fn new(kind: Kind, source: &str) -> Self {
        Self {
            kind,
            source: source.to_owned(),
            items: Vec::new(),
            queues: Vec::new(),
            finished: 0,
            older: 0,
            warnings: Vec::new(),
            replacement: None,
        }
    }

    /// Adds an item. One whose key or name is taken already is left out.
    ///
    /// # Errors
    /// [`ImportError::TooMany`] if there are [`ITEMS_MAX`] already.
    fn push(&mut self, item: Item, taken: &mut BTreeSet<String>) -> Result<(), ImportError> {
        if self.items.len() >= ITEMS_MAX {
            return Err(ImportError::TooMany);
        }
        let key = match &item.fate {
            Fate::Job(job) => Some(&job.key),
            Fate::Schedule(schedule) => Some(&schedule.name),
            Fate::NeedsMapping { .. } | Fate::LeftOut { .. } => None,
        };
        let is_taken = key.is_some_and(|key| !taken.insert(key.clone()));
        let fate = if is_taken { Fate::left_out("it stands in the source twice") } else { item.fate };
        self.items.push(Item { fate, ..item });
        Ok(())
    }

    /// The jobs, in the order of the source.
    pub fn jobs(&self) -> impl Iterator<Item = &PlannedJob> {
        self.items.iter().filter_map(|item| match &item.fate {
            Fate::Job(job) => Some(&**job),
            Fate::Schedule(_) | Fate::NeedsMapping { .. } | Fate::LeftOut { .. } => None,
        })
    }

    /// The schedules, in the order of the source.
    pub fn schedules(&self) -> impl Iterator<Item = &PlannedSchedule> {
        self.items.iter().filter_map(|item| match &item.fate {
            Fate::Schedule(schedule) => Some(&**schedule),
            Fate::Job(_) | Fate::NeedsMapping { .. } | Fate::LeftOut { .. } => None,
        })
    }

    /// The jobs that are not there yet, in rounds: whoever waits for another job comes in a later round.
    #[must_use]
    pub fn rounds(&self, present: &Present) -> Vec<Vec<&PlannedJob>> {
        let missing: BTreeMap<&str, &PlannedJob> =
            self.jobs().filter(|job| !present.jobs.contains_key(&job.key)).map(|job| (job.key.as_str(), job)).collect();
        let waits = missing.iter().map(|(key, job)| (*key, job.after.iter().map(String::as_str).collect())).collect();
        let rounds = order::rounds(&waits);
        let placed: usize = rounds.iter().map(Vec::len).sum();
        assert_eq!(placed, missing.len(), "a plan's jobs never wait in a circle");
        let jobs = |round: Vec<&str>| round.into_iter().filter_map(|key| missing.get(key).copied()).collect();
        rounds.into_iter().map(jobs).collect()
    }
}
