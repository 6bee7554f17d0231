//! What an import does, item by item: the same document before and after.
//!
//! A report is made of the plan and of what is on the node already. It has no place for what happened while the plan
//! was carried out, so that the report of a dry run and that of the import are equal byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Schedule;
use jobmesh_protocol::JobId;
use serde::Serialize;

use super::{Fate, Item, Kind, Plan, PlannedQueue};

/// What of a plan is on the node already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The jobs by their keys.
    pub jobs: BTreeMap<String, JobId>,
    /// The schedules by their names.
    pub schedules: BTreeMap<String, Schedule>,
    /// The names of the queues that have limits.
    pub queues: BTreeSet<String>,
}

/// What an import does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which program the source belongs to.
    pub kind: Kind,
    /// What the source is called.
    pub source: String,
    /// Whether the node could say what is there already.
    pub is_node_known: bool,
    /// Every item, in the order of the source.
    pub items: Vec<Line>,
    /// Every queue, by name.
    pub queues: Vec<QueueLine>,
    /// How many of which.
    pub totals: Totals,
    /// What concerns the whole source.
    pub warnings: Vec<String>,
    /// The source with the imported items switched off, where that can be written down.
    pub replacement: Option<String>,
}

/// What becomes of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it stands in the source.
    pub origin: String,
    /// What it runs.
    pub title: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The key of the job or the name of the schedule.
    pub becomes: Option<String>,
    /// Whether it waits for a person: a held job, or a paused schedule.
    pub is_held: bool,
    /// Where a job waits.
    pub queue: Option<String>,
    /// When a schedule fires next.
    pub next: Option<String>,
    /// Why nothing becomes of it, or why it is held in any case.
    pub reason: Option<String>,
    /// What is different here from there.
    pub notes: Vec<String>,
}

/// What becomes of an item, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A job that is not there yet.
    Job,
    /// A schedule that is not there yet.
    Schedule,
    /// A schedule that is there since an earlier import, and gets another zone.
    Changed,
    /// It is there since an earlier import.
    AlreadyThere,
    /// Nothing, before a person says what it means here.
    NeedsMapping,
    /// Nothing.
    LeftOut,
}

/// What becomes of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueLine {
    /// Its name at the source.
    pub origin: String,
    /// Its name here.
    pub name: String,
    /// How many of its jobs run at once; none is without limit.
    pub concurrency: Option<u32>,
    /// Whether it has limits here already, which stay as they are.
    pub is_there: bool,
    /// What is different here from there.
    pub notes: Vec<String>,
}

/// How many items become what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// New jobs.
    pub jobs: usize,
    /// New schedules.
    pub schedules: usize,
    /// Schedules that are there since an earlier import and get another zone.
    pub changed: usize,
    /// There since an earlier import.
    pub already_there: usize,
    /// Waiting for a mapping.
    pub needs_mapping: usize,
    /// Left out, with a reason each.
    pub left_out: usize,
    /// Ended at the source, and not listed.
    pub finished: usize,
    /// Older than asked for, and not listed.
    pub older: usize,
    /// New limits of queues.
    pub queues: usize,
}

impl Report {
    /// The report on `plan` for a node that has `present`; none is a node that does not answer.
    #[must_use]
    pub fn new(plan: &Plan, present: Option<&Present>) -> Self {
        let nothing = Present::default();
        let there = present.unwrap_or(&nothing);
        let items: Vec<Line> = plan.items.iter().map(|item| line(item, there)).collect();
        let queues: Vec<QueueLine> = plan.queues.iter().map(|queue| queue_line(queue, there)).collect();
        let count = |verdict| items.iter().filter(|line| line.verdict == verdict).count();
        let totals = Totals {
            jobs: count(Verdict::Job),
            schedules: count(Verdict::Schedule),
            changed: count(Verdict::Changed),
            already_there: count(Verdict::AlreadyThere),
            needs_mapping: count(Verdict::NeedsMapping),
            left_out: count(Verdict::LeftOut),
            finished: plan.finished,
            older: plan.older,
            queues: queues.iter().filter(|queue| !queue.is_there).count(),
        };
        Self {
            kind: plan.kind,
            source: plan.source.clone(),
            is_node_known: present.is_some(),
            items,
            queues,
            totals,
            warnings: plan.warnings.clone(),
            replacement: plan.replacement.clone(),
        }
    }
}

fn line(item: &Item, present: &Present) -> Line {
    let empty = Line {
        origin: item.origin.clone(),
        title: item.title.clone(),
        verdict: Verdict::LeftOut,
        becomes: None,
        is_held: false,
        queue: None,
        next: None,
        reason: None,
        notes: item.notes.clone(),
    };
    match &item.fate {
        Fate::Job(job) => Line {
            verdict: if present.jobs.contains_key(&job.key) { Verdict::AlreadyThere } else { Verdict::Job },
            becomes: Some(job.key.clone()),
            is_held: job.submission.held,
            queue: Some(job.submission.spec.queue.clone()),
            reason: job.held_because.clone(),
            ..empty
        },
        Fate::Schedule(schedule) => Line {
            verdict: match present.schedules.get(&schedule.name) {
                Some(there) if schedule.change(there).is_some() => Verdict::Changed,
                Some(_) => Verdict::AlreadyThere,
                None => Verdict::Schedule,
            },
            becomes: Some(schedule.name.clone()),
            is_held: schedule.is_paused,
            queue: Some(schedule.schedule.submission.spec.queue.clone()),
            next: schedule.next.clone(),
            ..empty
        },
        Fate::NeedsMapping { reason } => Line { verdict: Verdict::NeedsMapping, reason: Some(reason.clone()), ..empty },
        Fate::LeftOut { reason } => Line { reason: Some(reason.clone()), ..empty },
    }
}

fn queue_line(queue: &PlannedQueue, present: &Present) -> QueueLine {
    QueueLine {
        origin: queue.origin.clone(),
        name: queue.name.clone(),
        concurrency: queue.limits.concurrency.flatten(),
        is_there: present.queues.contains(&queue.name),
        notes: queue.notes.clone(),
    }
}
