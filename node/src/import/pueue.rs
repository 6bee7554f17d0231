//! The state of a pueue daemon: its tasks become jobs, its groups become queues.
//!
//! Tasks run as they did there: `sh -c` in their directory, at most as many of a group at once as it allowed, after the
//! tasks that they waited for. What had begun (running, paused) and what a person kept back (stashed, locked) is held
//! even if the rest is released, because nobody can know how far it got or when it is wanted.
//!
//! **The hard case** is the environment. Pueue keeps that of the shell for every task, with whatever secrets are in
//! it; it is dropped unless asked for. Layouts of pueue 2, 3 and 4 are read: before 4, a status is a mere word, and the
//! times stand beside it.

mod state;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::QueueLimits;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::submission::{AFTER_MAX, Start};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{Submission, UnixMillis};

use super::{Draft, Fate, Finished, ImportError, Item, Kind, Plan, PlannedQueue, Release, key, name_of, shell_spec};
use state::{GroupStatus, State, Status, StoredTask};

/// The group that each pueue has. Its limit must not become that of everything else on this node.
const GROUP_DEFAULT: &str = "default";
/// What that group is called here.
const QUEUE_DEFAULT: &str = "pueue";
/// Variables that pueue sets itself, and those that only told about the shell.
const VARIABLES_DROPPED: [&str; 6] = ["PUEUE_GROUP", "PUEUE_WORKER_ID", "_", "SHLVL", "PWD", "OLDPWD"];

/// How a state is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only tasks that were made at or after this.
    pub since: Option<UnixMillis>,
    /// Whether jobs get the environment that pueue kept.
    pub environment: Environment,
    /// Whether tasks that have ended are listed.
    pub finished: Finished,
    /// Whether the jobs may run.
    pub release: Release,
}

/// What becomes of the environment that was kept with each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// It is dropped.
    Drop,
    /// The jobs get it.
    Keep,
}

/// Reads the text of a `state.json` that is called `source`.
///
/// # Errors
/// [`ImportError`] says where the text is no state of pueue.
pub fn read(source: &str, text: &str, options: &Options) -> Result<Plan, ImportError> {
    let state = State::parse(text)?;
    let mut reader = Reader::new(source, &state, options);
    let mut taken = BTreeSet::new();
    for (id, task) in &state.tasks {
        let status = state.status(*id).map_or(Status::Queued, Clone::clone);
        if matches!(status, Status::Done { .. }) && options.finished == Finished::Count {
            reader.plan.finished += 1;
            continue;
        }
        if task.made_at().is_some_and(|made| options.since.is_some_and(|since| made < since)) {
            reader.plan.older += 1;
            continue;
        }
        let item = reader.item(*id, task, &status);
        reader.plan.push(item, &mut taken)?;
    }
    Ok(reader.finish())
}

struct Reader<'s> {
    state: &'s State,
    options: &'s Options,
    plan: Plan,
    /// Tasks that stand in a circle of dependencies, which pueue would never run either.
    circular: BTreeSet<u64>,
    /// The key of each task that becomes a job.
    keys: BTreeMap<u64, String>,
    dropped_variables: usize,
}

impl<'s> Reader<'s> {
    fn new(source: &str, state: &'s State, options: &'s Options) -> Self {
        let mut plan = Plan::new(Kind::Pueue, source);
        plan.queues = state.groups.iter().map(|(name, group)| queue(name, group)).collect();
        let circular = state.circular();
        let mut reader = Self { state, options, plan, circular, keys: BTreeMap::new(), dropped_variables: 0 };
        // A task may wait for one with a higher number, so all keys are needed before the first job.
        reader.keys = state.tasks.iter().filter_map(|(id, task)| Some((*id, reader.key_of(*id, task)?))).collect();
        reader
    }

    /// The key of a task that becomes a job. Judged by the same draft as the job itself.
    fn key_of(&self, id: u64, task: &StoredTask) -> Option<String> {
        let is_done = matches!(self.state.status(id), Some(Status::Done { .. }) | None);
        let is_old = task.made_at().is_some_and(|made| self.options.since.is_some_and(|since| made < since));
        if is_done || is_old || self.circular.contains(&id) {
            return None;
        }
        let draft = self.draft(id, task, None);
        let key = draft.key.clone();
        matches!(draft.finish(Vec::new(), self.options.release), Fate::Job(_)).then_some(key)
    }

    fn item(&mut self, id: u64, task: &StoredTask, status: &Status) -> Item {
        let mut notes = Vec::new();
        let fate = if let Status::Done { words, .. } = status {
            Fate::left_out(format!("it has ended: {words}"))
        } else if self.circular.contains(&id) {
            Fate::left_out("it waits, in a circle, for itself")
        } else {
            self.job(id, task, status, &mut notes)
        };
        Item { origin: format!("task {id}"), title: task.command.clone(), fate, notes }
    }

    fn job(&mut self, id: u64, task: &StoredTask, status: &Status, notes: &mut Vec<String>) -> Fate {
        let mut held_because = held_because(status);
        if let Status::Running = status {
            notes.push("pueue runs it now: release it here only once it has ended there without success".to_owned());
        }
        let group = self.state.groups.get(&task.group);
        if group.is_some_and(|group| group.status != GroupStatus::Running) && held_because.is_none() {
            held_because = Some(format!("the group {:?} was paused", task.group));
        }
        let (after, unmet) = self.after(task, notes);
        if let Some(unmet) = unmet {
            // That it is held for another reason makes it no less true.
            match &held_because {
                Some(_) => notes.push(unmet),
                None => held_because = Some(unmet),
            }
        }
        if self.options.environment == Environment::Drop {
            self.dropped_variables += task.envs.len();
        }
        let mut draft = self.draft(id, task, held_because);
        if let Status::Stashed { enqueue_at: Some(at) } = status {
            draft.submission.start = Start::At(*at);
        }
        draft.finish(after, self.options.release)
    }

    /// The keys of the jobs to wait for, and why the job must be held if one of them can't be waited for.
    fn after(&self, task: &StoredTask, notes: &mut Vec<String>) -> (Vec<String>, Option<String>) {
        let mut keys = Vec::new();
        let mut unmet = None;
        for id in &task.dependencies {
            match (self.state.status(*id), self.keys.get(id)) {
                (_, Some(key)) => keys.push(key.clone()),
                (Some(Status::Done { is_success: true, .. }), None) => {
                    notes.push(format!("task {id}, which it waited for, has succeeded"));
                }
                (Some(Status::Done { words, .. }), None) => {
                    unmet = Some(format!("it waited for task {id}, which has ended: {words}"));
                }
                (Some(_), None) => unmet = Some(format!("it waited for task {id}, which is not imported")),
                (None, None) => unmet = Some(format!("it waited for task {id}, which is gone")),
            }
        }
        if keys.len() > AFTER_MAX {
            let count = keys.len();
            keys.clear();
            unmet = Some(format!("it waited for {count} tasks, and a job can wait for {AFTER_MAX}"));
        }
        (keys, unmet)
    }

    fn draft(&self, id: u64, task: &StoredTask, held_because: Option<String>) -> Draft {
        let argv = ["sh", "-c", &task.command].map(str::to_owned).to_vec();
        let mut spec = shell_spec(argv, &task.command);
        spec.effects = Effects::Once;
        spec.priority = task.priority;
        spec.queue = queue_name(&task.group);
        if let Some(name) = task.label.as_deref().map(name_of).filter(|name| !name.is_empty()) {
            spec.name = Some(name);
        }
        if let Task::Process(process) = &mut spec.task {
            process.directory = Some(task.path.clone());
            if self.options.environment == Environment::Keep {
                let kept = task.envs.iter().filter(|(name, _)| !VARIABLES_DROPPED.contains(&name.as_str()));
                process.environment = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
            }
        }
        let id = id.to_string();
        // A copy of a state is the same state. Only where it does not say when a task was made, the source must tell it
        // from that of another pueue.
        let made = task.created_at.as_deref().unwrap_or(&self.plan.source);
        // What a person can still change there (group, priority, label, the state) makes no other job of it.
        let key = key(Kind::Pueue, &[&id, made, &task.command, &task.path]);
        Draft { kind: Kind::Pueue, key, submission: Submission::new(spec), held_because }
    }

    fn finish(mut self) -> Plan {
        if self.dropped_variables > 0 {
            let count = self.dropped_variables;
            let warning =
                format!("{count} kept variables are dropped, they may hold secrets; --with-env carries them over");
            self.plan.warnings.push(warning);
        }
        if self.plan.jobs().next().is_some() {
            let warning = "pueue would still run its tasks: stop pueued before they are released here".to_owned();
            self.plan.warnings.push(warning);
        }
        self.plan
    }
}

/// Why a task of this status stays held even if the rest is released.
fn held_because(status: &Status) -> Option<String> {
    let reason = match status {
        Status::Queued | Status::Stashed { enqueue_at: Some(_) } => return None,
        Status::Stashed { enqueue_at: None } => "it was stashed",
        Status::Locked => "its command was being edited",
        Status::Running => "it was running",
        Status::Paused => "it had begun and was paused",
        Status::Done { .. } => "it has ended",
    };
    Some(reason.to_owned())
}

fn queue(name: &str, group: &state::Group) -> PlannedQueue {
    let mut notes = Vec::new();
    if name == GROUP_DEFAULT {
        notes.push("named so that its limit does not hold for every job of this node".to_owned());
    }
    if group.status != GroupStatus::Running {
        notes.push("the group was paused: its jobs are held, the queue is not".to_owned());
    }
    // Pueue takes 0 for no limit.
    let concurrency = Some(group.parallel_tasks).filter(|limit| *limit > 0);
    let limits = QueueLimits { concurrency: Some(concurrency), rate: None };
    PlannedQueue { name: queue_name(name), origin: name.to_owned(), limits, notes }
}

fn queue_name(group: &str) -> String {
    if group == GROUP_DEFAULT { QUEUE_DEFAULT.to_owned() } else { name_of(group) }
}
