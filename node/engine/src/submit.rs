//! Taking jobs on: checks first, then all of a request or nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jobmesh_protocol::job::{JobSpec, Scope};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Condition, Conflict, Dependency, Span, Start, Tasks, Unique};
use jobmesh_protocol::{DurationMillis, Epoch, Hash, JobId, JobNumber, JobState, Submission, UnixMillis, number};
use jobmesh_store::{Edge, Group, Job, NewJob, Plan, StoreError};

use crate::dependency::Looked;
use crate::engine::Engine;
use crate::group::Tasked;
use crate::isolation;
use crate::output::{Refusal, Response, Taken};
use crate::step::Step;
use crate::transition::Shift;
use crate::unique::Claimed;

/// What a command comes to: an answer for whoever asked, or a database that failed under it.
pub(crate) type Answer = Result<Result<Response, Refusal>, StoreError>;

/// How long the name of a submission stands for it: longer than anybody goes on repeating one.
pub(crate) const NAME_KEPT: DurationMillis = DurationMillis::from_secs(86_400);

/// The variable that names the schedule of a scheduled job.
pub(crate) const SCHEDULE_VARIABLE: &str = "JOBMESH_SCHEDULE";
/// The variable that says which of its instants a scheduled job is for, in UTC.
pub(crate) const INSTANT_VARIABLE: &str = "JOBMESH_INSTANT";

impl Engine {
    pub(crate) fn submit(&mut self, step: &mut Step<'_>, submissions: Vec<Submission>) -> Answer {
        if let Err(refusal) = self.check_all(step, &submissions)? {
            return Ok(Err(refusal));
        }
        let mut taken = Vec::with_capacity(submissions.len());
        for submission in submissions {
            taken.push(self.take_in(step, submission, None)?);
        }
        Ok(Ok(Response::Submitted(taken)))
    }

    /// Finds whatever is wrong with any of the submissions before the first is written.
    pub(crate) fn check_all(
        &self,
        step: &Step<'_>,
        submissions: &[Submission],
    ) -> Result<Result<(), Refusal>, StoreError> {
        if self.is_draining {
            return Ok(Err(Refusal::Draining));
        }
        let mut request = Looked::default();
        let has_tasks = submissions.iter().any(|submission| submission.into.is_some());
        for (index, submission) in submissions.iter().enumerate() {
            let bound = self.bound_by_secret(&submission.spec).map_or(Ok(()), |why| Err(Refusal::BadSpec(why)));
            if let Err(refusal) = self.check(step, submission, &mut request)?.and(bound) {
                let place = (submissions.len() > 1).then_some(index + 1);
                return Ok(Err(refusal.of_submission(place)));
            }
            if let Some(unique) = submission.unique.as_ref().filter(|_| has_tasks) {
                let upstream = self.upstream(step, submission, &request)?;
                request.by_key.entry(unique.digest(&submission.spec)).or_default().extend(upstream);
            }
        }
        Ok(Ok(()))
    }

    /// Whether a submission may be taken on, as one of a request.
    pub(crate) fn check(
        &self,
        step: &Step<'_>,
        submission: &Submission,
        request: &mut Looked,
    ) -> Result<Result<(), Refusal>, StoreError> {
        if let Err(error) = check(submission) {
            return Ok(Err(Refusal::BadSpec(error)));
        }
        let level = self.level_of(&submission.spec, None);
        if let Some(why) = isolation::hidden_directory(&submission.spec, level) {
            return Ok(Err(Refusal::BadSpec(why)));
        }
        if self.named(step, submission)?.is_some() {
            return Ok(Ok(()));
        }
        if self.queues.is_draining(&submission.spec.queue) {
            return Ok(Err(Refusal::QueueDraining(submission.spec.queue.clone())));
        }
        let mut conditions = BTreeMap::new();
        for dependency in &submission.after {
            if conditions.insert(dependency.job, dependency.on).is_some_and(|on| on != dependency.on) {
                let both = format!("it waits for job {} in two ways; name that once", dependency.job);
                return Ok(Err(Refusal::BadSpec(both)));
            }
            // Of a group that is being deleted no more than its rows are there.
            let upstream = step.view().job_number(dependency.job)?;
            if upstream.is_none_or(|number| self.removing.contains(&number.group())) {
                return Ok(Err(Refusal::NoSuchJob(dependency.job)));
            }
        }
        if let Some(into) = submission.into {
            let number = step.view().job_number(into)?;
            let Some(number) = number else { return Ok(Err(Refusal::NoSuchJob(into))) };
            if !self.groups.get(&number).is_some_and(|group| group.row.is_open) {
                return Ok(Err(Refusal::NotOpen(number)));
            }
            if self.waits_for_group(step, submission, number, request)? {
                let circle = format!("it would be a task of group {number} and wait for its end");
                return Ok(Err(Refusal::BadSpec(circle)));
            }
        }
        self.check_unique(step, submission)
    }

    /// Takes on one submission that was checked.
    pub(crate) fn take_in(
        &mut self,
        step: &mut Step<'_>,
        mut submission: Submission,
        fire: Option<(String, UnixMillis)>,
    ) -> Result<Taken, StoreError> {
        if let Some(taken) = self.named(step, &submission)? {
            return Ok(taken);
        }
        let asked = submission.after.len();
        let key = match self.claim_unique(step, &submission)? {
            Claimed::Free { key, follows } => {
                let end = |job| Dependency { job, on: Some(Condition::Done) };
                submission.after.extend(follows.into_iter().map(end));
                key
            }
            Claimed::By(taken) => return Ok(taken),
        };
        self.insert(step, submission, fire, Claim { key, asked })
    }

    /// What became of an earlier submission of the same name.
    #[expect(clippy::unused_self, reason = "it is asked of the engine like every other check")]
    pub(crate) fn named(&self, step: &Step<'_>, submission: &Submission) -> Result<Option<Taken>, StoreError> {
        let Some(name) = &submission.idempotency_key else { return Ok(None) };
        let Some((number, at)) = step.view().submitted_as(name)? else { return Ok(None) };
        if step.wall().since(at) >= NAME_KEPT {
            return Ok(None);
        }
        let job = step.view().job_id(number)?;
        Ok(job.map(|job| Taken { job, number, is_new: false, is_merged: false }))
    }

    fn insert(
        &mut self,
        step: &mut Step<'_>,
        mut submission: Submission,
        fire: Option<(String, UnixMillis)>,
        claim: Claim,
    ) -> Result<Taken, StoreError> {
        let number = self.next_number(step, submission.into)?;
        let (after, array) = (std::mem::take(&mut submission.after), submission.array.take());
        let name = submission.idempotency_key.take();
        let is_open = submission.open;
        let mut job = new_job(step, number, submission, fire);
        job.plan.is_group = is_open || array.is_some();
        tell_instant(&mut job);
        let edges = self.edges(step, &mut job, &after, claim.asked)?;
        let doomed = self.is_doomed(&job, &edges);
        enter_state(&mut job, step.wall());
        step.txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: claim.key })?;
        for (edge, _) in &edges {
            step.txn.insert_edge(edge)?;
            self.awaited.insert(edge.upstream);
        }
        if let Some(name) = name {
            step.txn.name_submission(&name, number, step.wall())?;
        }
        if job.plan.is_group {
            let of = array.as_ref().map_or(0, jobmesh_protocol::submission::Array::count);
            let ranges = array.as_ref().and_then(|array| match &array.tasks {
                Tasks::Ranges(ranges) => Some(ranges.clone()),
                Tasks::Items(_) => None,
            });
            let row = Group {
                job: number,
                ranges,
                is_array: array.is_some(),
                is_open,
                at_a_time: array.as_ref().and_then(|array| array.at_a_time),
                max_fails: array.as_ref().and_then(|array| array.max_fails),
                of,
                made: 0,
                early: 0,
                completed: 0,
                failed: 0,
                dropped: 0,
            };
            step.txn.insert_group(&row, array.as_ref().map(|array| &array.tasks))?;
            self.groups.insert(number, Tasked { job: job.clone(), row, running: 0 });
        }
        let taken = Taken { job: job.id, number, is_new: true, is_merged: false };
        let cause = if job.state == JobState::Scheduled { Cause::Deferred } else { Cause::Ready };
        self.announce(step, &job, &Shift::new(&job, cause))?;
        self.follow(step, &job);
        let is_over = job.deadline.is_some_and(|deadline| deadline <= step.wall());
        if doomed {
            self.skip_for_upstream(step, job)?;
        } else if is_over {
            // The timer would fire only after the job has had its chance to start.
            self.on_deadline(step, job.id)?;
        }
        Ok(taken)
    }

    /// The number of a new job: the next one, or the next task of an open group.
    fn next_number(&mut self, step: &Step<'_>, into: Option<JobId>) -> Result<JobNumber, StoreError> {
        let group = match into {
            Some(into) => step.view().job_number(into)?,
            None => None,
        };
        if let Some(group) = group.and_then(|number| self.groups.get_mut(&number)) {
            group.row.of = group.row.of.saturating_add(1);
            group.row.made = group.row.of;
            let number = group.row.job.task(group.row.of);
            let group = group.row.job;
            self.changed_groups.insert(group);
            return Ok(number);
        }
        self.last_number = self.last_number.saturating_add(1).min(number::NUMBER_MAX);
        Ok(JobNumber::new(self.last_number))
    }

    /// The first `asked` are those that were asked for, the others are for the unique key.
    fn edges(&self, step: &Step<'_>, job: &mut Job, after: &[Dependency], asked: usize) -> Result<Edges, StoreError> {
        let mut edges = Edges::with_capacity(after.len());
        let mut seen = BTreeSet::new();
        for (place, dependency) in after.iter().enumerate().filter(|(_, dependency)| seen.insert(dependency.job)) {
            let Some(upstream) = step.view().job_number(dependency.job)? else { continue };
            let Some(state) = step.view().state_of(upstream)? else { continue };
            let mut edge =
                Edge { upstream, job: job.number, condition: dependency.on, is_met: false, is_of_key: place >= asked };
            edge.is_met = crate::dependency::is_met(&edge, job.plan.rule, state);
            edges.push((edge, Some(state)));
        }
        job.waits = crate::dependency::waits(job.plan.rule, edges.iter().map(|(edge, _)| edge));
        Ok(edges)
    }
}

/// What claiming its unique key has come to for a job, if it has one.
struct Claim {
    key: Option<Hash>,
    /// How many of the jobs that it waits for were asked for. It waits for the others on account of the key.
    asked: usize,
}

/// What a job waits for, and in which state that is.
pub(crate) type Edges = Vec<(Edge, Option<JobState>)>;

/// The job that a submission would become, and what it would wait for.
pub(crate) fn hypothetical(
    engine: &Engine,
    step: &mut Step<'_>,
    mut submission: Submission,
) -> Result<(Job, Edges), StoreError> {
    let after = std::mem::take(&mut submission.after);
    let group = match submission.into {
        Some(into) => step.view().job_number(into)?,
        None => None,
    };
    let number = match group.and_then(|number| engine.groups.get(&number)) {
        Some(group) => group.row.job.task(group.row.of.saturating_add(1)),
        None => JobNumber::new(engine.last_number.saturating_add(1)),
    };
    let mut job = new_job(step, number, submission, None);
    let edges = engine.edges(step, &mut job, &after, after.len())?;
    enter_state(&mut job, step.wall());
    let over = if engine.is_doomed(&job, &edges) {
        Some(FinishReason::UpstreamFailed)
    } else {
        job.deadline.filter(|deadline| *deadline <= step.wall()).map(|_| FinishReason::Deadline)
    };
    if over.is_some() {
        job.state = JobState::Skipped;
        job.finish_reason = over;
    }
    Ok((job, edges))
}

fn new_job(step: &mut Step<'_>, number: JobNumber, submission: Submission, fire: Option<(String, UnixMillis)>) -> Job {
    let now = step.wall();
    let run_at = match submission.start {
        // There must be a time in which the next one can put it off.
        Start::Now => debounce(&submission).map(|wait| now.plus(wait)),
        Start::After(wait) => Some(now.plus(wait)),
        Start::At(at) => Some(at),
    };
    let plan = Plan {
        rule: submission.rule,
        reduce: submission.reduce,
        start_within_ms: submission.start_within_ms,
        unique: submission.unique.as_ref().map(key_span),
        unique_key: submission.unique.as_ref().map(|unique| unique.digest(&submission.spec)),
        is_group: false,
        is_dated: matches!(submission.start, Start::At(_)),
    };
    Job {
        id: JobId::new(now, &step.random()),
        number,
        state: JobState::Pending,
        state_since: now,
        queue: submission.spec.queue.clone(),
        priority: submission.spec.priority,
        epoch: Epoch::default(),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        waits: 0,
        run_at: run_at.filter(|at| *at > now),
        expires_at: None,
        deadline: submission.deadline,
        held: submission.held.then(|| "held at submission".to_owned()),
        plan,
        fire,
        cancel_reason: None,
        finish_reason: None,
        origin: None,
        created_at: now,
        finished_at: None,
        spec: Arc::new(submission.spec),
    }
}

/// Tells the command of a scheduled job which instant it is for. That is a part of the job, so that tasks and peers are
/// told as well.
fn tell_instant(job: &mut Job) {
    let Some((schedule, at)) = &job.fire else { return };
    if let Some(environment) = Arc::make_mut(&mut job.spec).task.environment_mut() {
        environment.insert(SCHEDULE_VARIABLE.to_owned(), schedule.clone());
        environment.insert(INSTANT_VARIABLE.to_owned(), at.to_rfc3339());
    }
}

fn debounce(submission: &Submission) -> Option<DurationMillis> {
    match submission.unique.as_ref()?.on_conflict {
        Conflict::Debounce(wait) => Some(wait),
        Conflict::Return | Conflict::Reject | Conflict::Replace | Conflict::Merge | Conflict::Throttle(_) => None,
    }
}

/// For how long a job has its key. A throttle is over after its time, not when the job happens to end.
fn key_span(unique: &Unique) -> Span {
    match (unique.on_conflict, unique.scope) {
        (Conflict::Throttle(pause), Span::Incomplete) => Span::Period(pause),
        (_, scope) => scope,
    }
}

/// The first state of a job: it waits for others, for its time, or for nothing.
fn enter_state(job: &mut Job, now: UnixMillis) {
    job.state = if job.waits > 0 {
        JobState::Pending
    } else if job.run_at.is_some() {
        JobState::Scheduled
    } else {
        JobState::Available
    };
    if job.state == JobState::Available {
        job.expires_at = job.plan.start_within_ms.map(|within| now.plus(within));
    }
}

/// The bounds of a submission, and what its parts forbid each other.
fn check(submission: &Submission) -> Result<(), String> {
    submission.check().map_err(|error| error.to_string())?;
    let spec: &JobSpec = &submission.spec;
    if let Some(why) = isolation::impossible(spec) {
        return Err(why.to_owned());
    }
    if spec.task.directory().is_some() && spec.scope != Scope::Local {
        return Err(
            "a working directory exists on this node only; run the job here or leave the directory out".to_owned()
        );
    }
    Ok(())
}
