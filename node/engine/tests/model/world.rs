//! The node under test, what happens to it, and everything that must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Command, Declared, Ended, Input, JobAction, QueueAction, QueueLimits, Response};
use jobmesh_protocol::job::{Concurrency, Effects, JobSpec, Scope};
use jobmesh_protocol::submission::{Array, Dependency, Range, Start, Tasks, Unique};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, JobId, JobState, Outcome, RunId, Submission, UnixMillis};
use jobmesh_store::{Job, Selection};

use crate::executor::stopped;
use crate::node::{Fate, Node, Setup};
use crate::reference::Reference;
use crate::wishes::{Action, How, QueueWish, Shape, StartWish, Step, What, Wish};

const SLOTS: u32 = 3;
const CPUS: u32 = 4;
const QUEUES: [&str; 2] = ["narrow", "wide"];
/// How many of the narrow queue's jobs run at once, until somebody raises that.
const NARROW: u32 = 2;
/// How many jobs of each concurrency key run at once.
const KEYS: [(&str, u32); 2] = [("one", 1), ("two", 2)];

pub(crate) struct World {
    node: Node,
    pub(crate) reference: Reference,
    /// Every job that was acknowledged, in order, and what was found out by itself: tasks of arrays.
    jobs: Vec<JobId>,
    /// How runs ended, as the executor said last.
    ends: BTreeMap<RunId, Ended>,
    /// Whether the narrow queue still is as narrow as it was and nothing that runs was moved into it.
    is_narrow: bool,
    /// Whether nobody set the clock: an engine that is built anew knows the time from the wall clock alone.
    is_steady: bool,
    /// The latest time from which somebody set the clock: dates were told by it.
    latest: UnixMillis,
    started: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = QueueLimits { concurrency: Some(Some(NARROW)), rate: None };
        let queues = BTreeMap::from([(QUEUES[0].to_owned(), limits)]);
        let declared = Declared { queues, ..Declared::default() };
        Self {
            node: Node::new(Setup { slots: SLOTS, cpus: CPUS, declared }),
            reference: Reference::default(),
            jobs: Vec::new(),
            ends: BTreeMap::new(),
            is_narrow: true,
            is_steady: true,
            latest: UnixMillis(0),
            started: 0,
        }
    }

    fn pick(&self, pick: usize) -> Option<JobId> {
        // The newest are the most interesting.
        let newest = self.jobs.len().min(12);
        self.jobs.iter().rev().nth(pick % newest.max(1)).copied()
    }

    /// Lets one thing happen, and looks at everything.
    pub(crate) fn take(&mut self, step: &Step) {
        match &step.what {
            What::Submit(wish) => {
                let submission = self.submission(wish);
                self.submit(submission, step.fate);
            }
            What::End(pick, how) => self.end(*pick, *how, step.fate),
            What::Act(pick, action) => self.act(*pick, *action, step.fate),
            What::Queue(queue, wish) => self.set_queue(*queue, *wish, step.fate),
            What::Pass(millis) => self.node.pass(DurationMillis(*millis)),
            What::Clock(seconds) => {
                let wall = self.node.now.wall.0.saturating_add_signed(seconds * 1000);
                self.is_steady = false;
                self.latest = self.latest.max(self.node.now.wall);
                self.node.set_clock(UnixMillis(wall));
            }
            What::Kill(lives) => self.node.restart(DurationMillis(5000), |place| (lives >> (place % 8)) & 1 == 1),
            What::KillUnheard => {
                self.node.restart_unheard();
                self.node.step(&[], step.fate);
                self.node.restart(DurationMillis(1), |_| true);
            }
            What::Prune => {
                let before = UnixMillis(self.node.now.wall.0.saturating_sub(200_000));
                self.node.ask(Command::Prune { limit: 3, ended_before: Some(before) }, step.fate);
            }
        }
        self.hear();
        self.node.settle();
        self.hear();
        let deletes = matches!(step.what, What::Prune | What::Act(_, Action::Remove));
        if deletes && step.fate == Fate::Unknown || matches!(step.what, What::KillUnheard) {
            self.miss();
        }
        self.check();
    }

    /// Finds out what was deleted by a commit whose outputs were lost.
    fn miss(&mut self) {
        for id in self.jobs.clone() {
            if self.job(id).is_none() {
                self.node.forgotten.push(id);
            }
        }
    }

    /// Remembers how runs ended before the executor forgets it.
    fn hear(&mut self) {
        self.ends.extend(self.node.executor.ends.iter().map(|(run, ended)| (*run, ended.clone())));
    }

    fn submit(&mut self, submission: Submission, fate: Fate) {
        match self.node.ask(Command::Submit(vec![submission]), fate) {
            Some(Ok(Response::Submitted(taken))) => {
                self.jobs.extend(taken.iter().filter(|taken| taken.is_new).map(|taken| taken.job))
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => {}
        }
    }

    fn submission(&self, wish: &Wish) -> Submission {
        let task = Task::Process(ProcessTask::new(vec!["work".to_owned()]));
        let mut spec = JobSpec::new(if wish.is_brief { "brief" } else { "long" }, task);
        spec.scope = Scope::Local;
        spec.queue = QUEUES[wish.queue].to_owned();
        spec.priority = wish.priority;
        spec.concurrency = wish.key.map(|key| Concurrency { key: KEYS[key].0.to_owned(), limit: KEYS[key].1 });
        spec.resources = format!("cpus={}", wish.cpus).parse().unwrap();
        spec.effects = if wish.is_once { Effects::Once } else { Effects::Idempotent };
        spec.retry.max_attempts = if wish.is_once { 1 } else { wish.max_attempts };
        spec.retry.crash_limit = wish.crash_limit;
        spec.retry.max_snoozes = wish.max_snoozes;
        let mut submission = Submission::new(spec);
        submission.start = match wish.start {
            StartWish::Now => Start::Now,
            StartWish::After(millis) => Start::After(DurationMillis(millis)),
            StartWish::At(millis) => Start::At(self.node.now.wall.plus(DurationMillis(millis))),
        };
        submission.start_within_ms = wish.within.then_some(DurationMillis(30_000));
        submission.deadline = wish.deadline.then(|| self.node.now.wall.plus(DurationMillis(60_000)));
        submission.held = wish.is_held;
        let after = wish.after.iter().filter_map(|(pick, on)| Some(Dependency { job: self.pick(*pick)?, on: *on }));
        submission.after = after.collect();
        if !submission.after.is_empty() {
            submission.rule = wish.rule;
        }
        let unique = |(scope, on_conflict)| Unique { key: Some("u".to_owned()), by: Vec::new(), scope, on_conflict };
        submission.unique = wish.unique.map(unique);
        submission.idempotency_key = wish.is_named.then(|| "name".to_owned());
        match wish.shape {
            Shape::Plain => {}
            Shape::Array { count, at_a_time, max_fails } => {
                let tasks = Tasks::Ranges(vec![Range { first: 1, last: count * 2, step: 2 }]);
                submission.array = Some(Array { tasks, at_a_time, max_fails });
            }
            Shape::Open => {
                submission.open = true;
                submission.spec.retry.max_attempts = 1;
            }
            Shape::Into(pick) => submission.into = self.pick(pick),
        }
        submission
    }

    fn end(&mut self, pick: usize, how: How, fate: Fate) {
        let running = self.node.executor.running();
        let Some(run) = running.get(pick % running.len().max(1)).copied() else { return };
        let stop = self.node.executor.stops.iter().find(|stop| stop.0 == run).map(|stop| stop.1);
        let (outcome, code) = stop.map_or_else(|| how.outcome(), |reason| (stopped(reason), 143));
        let is_brief = self.job(run.job).is_some_and(|job| job.spec.job_type == "brief");
        self.node.executor.takes_micros = if is_brief { 700 } else { 3_000_000 };
        self.node.executor.end(run, outcome, code);
        self.hear();
        let said: Vec<Input> = self.node.executor.said.drain(..).collect();
        self.node.step(&said, fate);
    }

    fn act(&mut self, pick: usize, action: Action, fate: Fate) {
        let Some(id) = self.pick(pick) else { return };
        let Some(job) = self.job(id) else { return };
        let action = match action {
            Action::Cancel => JobAction::Cancel { reason: "not wanted".to_owned(), is_forced: false },
            Action::Retry => {
                self.reference.retried.insert(job.number.group());
                JobAction::Retry
            }
            Action::Hold => JobAction::Hold { reason: "not now".to_owned() },
            Action::Release => JobAction::Release,
            Action::Reschedule(millis) => JobAction::Reschedule(self.node.now.wall.plus(DurationMillis(millis))),
            Action::Prioritize(priority) => JobAction::Prioritize(priority),
            Action::Move(queue) => {
                self.is_narrow &= queue != 0 || job.state != JobState::Running;
                JobAction::Move(QUEUES[queue].to_owned())
            }
            Action::Close => JobAction::Close,
            Action::Remove => JobAction::Remove,
            Action::Name(index) => {
                drop(self.node.ask(Command::NameTasks(vec![job.number.group().task(index)]), fate));
                return;
            }
        };
        let answer = self.node.ask(Command::Job(id, action), fate);
        drop(answer);
    }

    fn set_queue(&mut self, queue: usize, wish: QueueWish, fate: Fate) {
        let action = match wish {
            QueueWish::Pause => QueueAction::Pause,
            QueueWish::Resume => QueueAction::Resume,
            QueueWish::Drain => QueueAction::Drain,
            QueueWish::Raise => {
                self.is_narrow = false;
                QueueAction::Set(QueueLimits { concurrency: Some(Some(NARROW + 1)), rate: None })
            }
        };
        let answer = self.node.ask(Command::Queue(QUEUES[queue].to_owned(), action), fate);
        assert!(answer.is_none_or(|answer| answer.is_ok()));
    }

    fn job(&mut self, id: JobId) -> Option<Job> {
        self.node.read().view().job(id).unwrap()
    }

    /// Everything that must hold between two steps.
    fn check(&mut self) {
        // What is due by now is dealt with first.
        self.node.pass(DurationMillis(0));
        self.hear();
        for id in std::mem::take(&mut self.node.forgotten) {
            self.jobs.retain(|job| *job != id);
            self.reference.forget(id);
        }
        self.check_starts();
        self.check_room();
        let live = self.node.read().view().live_jobs().unwrap();
        for job in &live {
            if !self.jobs.contains(&job.id) {
                // A task, or a submission whose acknowledgement was lost.
                self.jobs.push(job.id);
            }
        }
        let was_live: Vec<JobId> = self.reference.live();
        let is_live: BTreeSet<JobId> = live.iter().map(|job| job.id).collect();
        let ended: Vec<Job> =
            was_live.iter().filter(|id| !is_live.contains(id)).filter_map(|id| self.job(*id)).collect();
        for job in live.iter().chain(&ended) {
            let events = self.node.read().view().events(job.id).unwrap();
            self.reference.witness(job, &events, &self.ends);
        }
        for job in &live {
            self.check_groups(job);
            self.check_waits(job);
        }
    }

    /// No run starts twice.
    fn check_starts(&mut self) {
        let started = &self.node.executor.started;
        for (place, run) in started.iter().enumerate().skip(self.started) {
            assert!(!started[..place].contains(run), "{run} was started twice");
        }
        self.started = started.len();
    }

    /// No more runs than may, and nothing is given to two of them.
    fn check_room(&mut self) {
        let running = self.node.executor.running();
        assert!(running.len() <= usize::try_from(SLOTS).unwrap(), "{} run", running.len());
        let mut cpus = BTreeSet::new();
        for order in self.node.executor.orders() {
            let indices = order.allocation.iter().flat_map(|all| all.variables());
            let indices = indices.filter(|(name, _)| name == "JOBMESH_RESOURCE_CPUS").map(|(_, value)| value);
            for index in indices.flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()) {
                assert!(cpus.insert(index.clone()), "processor {index} was given twice");
            }
        }
        let jobs: Vec<Job> = running.iter().filter_map(|run| self.job(run.job)).collect();
        assert_eq!(jobs.len(), running.len(), "what runs has a row");
        let count = |is: &dyn Fn(&Job) -> bool| u32::try_from(jobs.iter().filter(|job| is(job)).count()).unwrap();
        for (key, limit) in KEYS {
            let runs = count(&|job| job.spec.concurrency.as_ref().is_some_and(|concurrency| concurrency.key == key));
            assert!(runs <= limit, "{runs} jobs of key {key} run");
        }
        let narrow = count(&|job| job.queue == QUEUES[0]);
        assert!(!self.is_narrow || narrow <= NARROW, "{narrow} jobs of the narrow queue run");
        let groups: BTreeSet<_> =
            jobs.iter().filter(|job| job.number.index().is_some()).map(|job| job.number.group()).collect();
        for number in groups {
            let row = self.node.read().view().group(number).unwrap().unwrap();
            let runs = count(&|job| job.number.index().is_some() && job.number.group() == number);
            assert!(row.at_a_time.is_none_or(|limit| runs <= limit), "{runs} tasks of {number} run");
        }
    }

    /// The counts of a group are those of its tasks.
    fn check_groups(&mut self, group: &Job) {
        if !group.plan.is_group {
            return;
        }
        let numbers = vec![(group.number.task(0), group.number.task(u32::MAX))];
        let tasks = Selection { numbers, with_tasks: true, limit: u32::MAX, ..Selection::default() };
        let txn = self.node.read();
        let row = txn.view().group(group.number).unwrap().unwrap();
        let tasks = txn.view().jobs(&tasks).unwrap();
        let count = |states: &[JobState]| {
            u32::try_from(tasks.iter().filter(|task| states.contains(&task.state)).count()).unwrap()
        };
        // Those that were made out of turn are not among the made ones unless the rest was dropped.
        let unmade = row.made.saturating_sub(u32::try_from(tasks.len()).unwrap());
        let expected = (
            count(&[JobState::Completed]),
            count(&[JobState::Discarded]),
            count(&[JobState::Cancelled, JobState::Skipped]) + unmade,
        );
        assert_eq!((row.completed, row.failed, row.dropped), expected, "group {}: {row:?}", group.number);
        drop(txn);
        assert!(!row.is_over(), "group {} is over and has not ended: {row:?}{}", group.number, self.history(group));
    }

    /// What waits has something to wait for.
    fn check_waits(&mut self, job: &Job) {
        if job.state == JobState::Pending {
            let edges = self.node.read().view().dependencies(job.number).unwrap();
            let is_open =
                edges.iter().any(|(edge, state)| !edge.is_met && state.is_some_and(|state| !state.is_final()));
            assert!(is_open, "job {} waits for nothing: {edges:?}", job.number);
        }
        let is_startable = job.state == JobState::Available && !job.plan.is_group;
        if is_startable && self.reasons(job.id).is_empty() {
            panic!("job {} could start and does not:{}", job.number, self.history(job));
        }
    }

    /// What happened to a job and to those of its group, for people.
    fn history(&mut self, job: &Job) -> String {
        let all = Selection { with_tasks: true, limit: u32::MAX, ..Selection::default() };
        let txn = self.node.read();
        let jobs = txn.view().jobs(&all).unwrap();
        let family = jobs.iter().filter(|other| other.number.group() == job.number.group());
        let lines = family.map(|job| {
            let events = txn.view().events(job.id).unwrap();
            let events: Vec<String> = events.iter().map(|event| format!("{}→{}", event.cause, event.state)).collect();
            format!("\n{} {} held {:?}: {}", job.number, job.state, job.held, events.join(" "))
        });
        lines.collect()
    }

    fn reasons(&mut self, job: JobId) -> Vec<&'static str> {
        match self.node.ask(Command::Explain(job), Fate::Kept) {
            Some(Ok(Response::Explained(why))) => why.reasons.iter().map(|reason| reason.kind).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn explain_all(&mut self) -> Vec<(JobId, JobState, Vec<&'static str>)> {
        let live = self.node.read().view().live_jobs().unwrap();
        live.into_iter().map(|job| (job.id, job.state, self.reasons(job.id))).collect()
    }

    /// Once nothing disturbs it any more, everything ends and all room is free again.
    pub(crate) fn wind_up(&mut self) {
        self.check();
        let before = self.explain_all();
        self.node.step(&[], Fate::Unknown);
        self.node.settle();
        let again = self.explain_all();
        assert!(
            !self.is_steady || again == before,
            "an engine that is built anew gives other answers: {again:?} and not {before:?}"
        );
        for queue in 0..QUEUES.len() {
            self.set_queue(queue, QueueWish::Resume, Fate::Kept);
        }
        let live = self.node.read().view().live_jobs().unwrap();
        for job in live {
            for action in [JobAction::Release, JobAction::Close] {
                drop(self.node.ask(Command::Job(job.id, action), Fate::Kept));
            }
        }
        // Dates of a clock that was years ahead would take as many to come.
        self.node.set_clock(self.latest.max(self.node.now.wall));
        for _ in 0..400 {
            self.node.settle();
            while let Some(run) = self.node.executor.running().first().copied() {
                let stop = self.node.executor.stops.iter().find(|stop| stop.0 == run).map(|stop| stop.1);
                self.node.executor.end(run, stop.map_or(Outcome::Ok, stopped), 0);
                self.hear();
                self.node.settle();
                self.check();
            }
            if self.node.read().view().live_jobs().unwrap().is_empty() {
                break;
            }
            self.node.pass(DurationMillis::from_secs(86_400 * 2));
        }
        self.check();
        let left = self.node.read().view().live_jobs().unwrap();
        assert!(left.is_empty(), "these never end: {left:?}");
        self.check_free();
        let wakeup = self.node.wakeup();
        let soon = self.node.now.mono.plus(DurationMillis(1000));
        assert!(wakeup.is_none_or(|at| at > soon), "it wants to be woken at once though nothing is left to do");
    }

    /// Every processor and slot is free.
    fn check_free(&mut self) {
        let task = Task::Process(ProcessTask::new(vec!["work".to_owned()]));
        let mut spec = JobSpec::new("all", task);
        spec.scope = Scope::Local;
        spec.resources = format!("cpus={CPUS}").parse().unwrap();
        match self.node.ask(Command::Plan(Box::new(Submission::new(spec))), Fate::Kept) {
            Some(Ok(Response::Explained(why))) => assert_eq!(why.reasons, [], "something was not given back"),
            other => panic!("{other:?}"),
        }
        let jobs = self.jobs.clone();
        let kept = jobs.iter().filter(|id| self.job(**id).is_none()).count();
        assert_eq!(kept, 0, "jobs that were acknowledged are gone");
    }
}
