//! The job table of Oban: each row becomes a job, by a map that says what its worker is here.
//!
//! A worker is an Elixir module, which no node can run; a [`WorkerMap`] names the command or the job type that does its
//! work, with places for its arguments. A worker without an entry is reported, not guessed. Rows come from the SQLite
//! file itself or from a dump of a Postgres table, and all three forms lead to the same keys: id, worker, arguments and
//! time of insertion. A row whose state nobody knows is left out, and the others come.
//!
//! **The hard case** is a job that was executing: nobody can know how far it got. It is held, even if the rest is
//! released; so is a suspended one, and one that was given up, which is listed only if asked for.

mod csv;
mod dump;
mod record;
mod worker_map;

use std::collections::BTreeSet;

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::retry::{ATTEMPTS_MAX, Backoff};
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{DurationMillis, Submission, UnixMillis};

use super::{Draft, Fate, Finished, ImportError, Item, Kind, Plan, Release, key, label, name_of};
use record::{Row, State};

pub use dump::{Form, read, read_sqlite};
pub use worker_map::{TypeError, WorkerMap};

/// Finds what a job type of this node makes of its parameters.
pub type JobTypes<'t> = &'t dyn Fn(&str, &serde_json::Map<String, serde_json::Value>) -> Result<Submission, TypeError>;

/// The wait before the first retry, as Oban has it: 15 seconds and a bit (`Oban.Backoff`).
const BACKOFF_BASE: DurationMillis = DurationMillis::from_secs(16);
/// The longest wait before a retry: a day.
const BACKOFF_MAX: DurationMillis = DurationMillis::from_secs(86_400);
/// What has a job type's name of its own, and is no word of its module.
const LABEL_WORKER: &str = "worker";
const LABEL_TAGS: &str = "tags";

/// How a table is read.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// What workers are here.
    pub map: &'o WorkerMap,
    /// The job types of this node.
    pub types: JobTypes<'o>,
    /// Only jobs that were inserted at or after this.
    pub since: Option<UnixMillis>,
    /// Whether jobs that have ended are listed.
    pub finished: Finished,
    /// Whether the jobs may run.
    pub release: Release,
}

/// Takes row after row.
struct Reader<'o> {
    options: Options<'o>,
    plan: Plan,
    taken: BTreeSet<String>,
    ids: BTreeSet<i64>,
    has_queues: bool,
}

impl<'o> Reader<'o> {
    fn new(source: &str, options: Options<'o>) -> Self {
        let plan = Plan::new(Kind::Oban, source);
        Self { options, plan, taken: BTreeSet::new(), ids: BTreeSet::new(), has_queues: false }
    }

    fn take(&mut self, row: &Row) -> Result<(), ImportError> {
        if row.state.has_ended() && self.options.finished == Finished::Count {
            self.plan.finished += 1;
            return Ok(());
        }
        let is_old = self.options.since.is_some_and(|since| row.inserted_at.is_some_and(|at| at < since));
        if is_old {
            self.plan.older += 1;
            return Ok(());
        }
        let mut notes = Vec::new();
        if !self.ids.insert(row.id) {
            notes.push("a row before it has the same id: is this the export of one table?".to_owned());
        }
        let fate = self.fate(row, &mut notes);
        let title = format!("{} {}", row.worker, row.args_text());
        let item = Item { origin: format!("job {}", row.id), title, fate, notes };
        self.plan.push(item, &mut self.taken)
    }

    fn fate(&mut self, row: &Row, notes: &mut Vec<String>) -> Fate {
        let held_because = match &row.state {
            State::Available | State::Scheduled | State::Retryable => None,
            State::Executing => Some("it was executing, and may have done its work"),
            State::Suspended => Some("it was suspended"),
            State::Discarded => Some("it was discarded: a dead letter"),
            State::Completed => return Fate::left_out("it has completed"),
            State::Cancelled => return Fate::left_out("it was cancelled"),
            State::Unknown(word) => return Fate::left_out(format!("its state is {word:?}, which is none of Oban's")),
        };
        let mut submission = match self.options.map.submission(row, self.options.types) {
            Ok(submission) => submission,
            Err(worker_map::Unmapped::Needed) => {
                let reason = format!("no entry for {:?} in the map", row.worker);
                return Fate::NeedsMapping { reason };
            }
            Err(worker_map::Unmapped::Skipped) => return Fate::left_out("the map says to skip it"),
            Err(worker_map::Unmapped::Impossible(reason)) => return Fate::left_out(reason),
        };
        self.has_queues |= row.queue != "default";
        fill(&mut submission, row, notes);
        let key = key(
            Kind::Oban,
            &[&row.id.to_string(), &row.worker, &row.args_text(), &row.inserted_at.unwrap_or_default().0.to_string()],
        );
        let held_because = held_because.map(str::to_owned);
        Draft { kind: Kind::Oban, key, submission, held_because }.finish(Vec::new(), self.options.release)
    }

    fn finish(mut self) -> Plan {
        if self.has_queues {
            let warning = "the limits of Oban's queues stand in its configuration, not in the table: set them with \
                           `jobmesh queue set NAME concurrency=N`";
            self.plan.warnings.push(warning.to_owned());
        }
        if self.plan.jobs().next().is_some() {
            let warning = "Oban would still run its jobs: stop it before they are released here";
            self.plan.warnings.push(warning.to_owned());
        }
        self.plan
    }
}

/// Carries over what the row says beside its work.
fn fill(submission: &mut Submission, row: &Row, notes: &mut Vec<String>) {
    let spec = &mut submission.spec;
    spec.scope = if spec.requirements.is_empty() { Scope::Local } else { spec.scope };
    // There 0 comes first and 9 last, here higher comes first.
    spec.priority = row.priority.saturating_neg();
    let left = row.attempts_left();
    spec.retry.max_attempts = left.clamp(1, ATTEMPTS_MAX);
    spec.retry.backoff = Backoff::exponential(BACKOFF_BASE, BACKOFF_MAX);
    if row.attempt > 0 {
        notes.push(format!("attempt {} of {} was made there, {} remain", row.attempt, row.max_attempts, left.max(1)));
    }
    if spec.name.is_none() {
        spec.name = Some(name_of(&row.worker)).filter(|name| !name.is_empty());
    }
    label(spec, LABEL_WORKER, &row.worker);
    label(spec, LABEL_TAGS, &row.tags.join(","));
    if !row.meta.is_empty() {
        let names: Vec<&str> = row.meta.keys().map(String::as_str).take(8).collect();
        notes.push(format!("its meta is left out: {}", names.join(", ")));
    }
    match (&row.state, row.scheduled_at) {
        (State::Scheduled | State::Retryable, Some(at)) => submission.start = Start::At(at),
        (State::Scheduled | State::Retryable, None) | (State::Available | State::Executing, _) => {}
        (State::Suspended | State::Completed | State::Discarded | State::Cancelled | State::Unknown(_), _) => {}
    }
}
