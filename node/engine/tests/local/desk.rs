//! What tests say often: plain jobs, and one-line wishes and questions.

use jobmesh_engine::{Command, Explanation, JobAction, QueueAction, Refusal, Response, Taken};
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Array, Condition, Dependency, Range, Tasks};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, JobId, JobNumber, JobSpec, JobState, Outcome, RunId, Submission};
use jobmesh_store::{Attempt, Job, Selection};

use crate::node::{Fate, Node, Setup};

pub(crate) const SECOND: DurationMillis = DurationMillis::from_secs(1);
pub(crate) const MINUTE: DurationMillis = DurationMillis::from_secs(60);
pub(crate) const HOUR: DurationMillis = DurationMillis::from_secs(3600);
pub(crate) const DAY: DurationMillis = DurationMillis::from_secs(86_400);
pub(crate) const YEAR: DurationMillis = DurationMillis::from_secs(365 * 86_400);

pub(crate) fn node(slots: u32) -> Node {
    Node::new(Setup { slots, cpus: slots, ..Setup::default() })
}

pub(crate) fn spec() -> JobSpec {
    let mut spec = JobSpec::new("test", Task::Process(ProcessTask::new(vec!["work".to_owned()])));
    spec.scope = Scope::Local;
    spec
}

pub(crate) fn plain() -> Submission {
    Submission::new(spec())
}

/// A plain job with something changed.
pub(crate) fn with(change: impl FnOnce(&mut Submission)) -> Submission {
    let mut submission = plain();
    change(&mut submission);
    submission
}

pub(crate) fn after(upstream: &[JobId], on: Option<Condition>) -> Vec<Dependency> {
    upstream.iter().map(|job| Dependency { job: *job, on }).collect()
}

pub(crate) fn array(count: u32) -> Array {
    let ranges = vec![Range { first: 1, last: count, step: 1 }];
    Array { tasks: Tasks::Ranges(ranges), at_a_time: None, max_fails: None }
}

pub(crate) fn cancel() -> JobAction {
    JobAction::Cancel { reason: "not wanted".to_owned(), is_forced: false }
}

pub(crate) fn failure() -> Outcome {
    Outcome::error("it broke")
}

impl Node {
    pub(crate) fn command(&mut self, command: Command) -> Result<Response, Refusal> {
        let answer = self.ask(command, Fate::Kept).unwrap();
        self.settle();
        answer
    }

    pub(crate) fn take(&mut self, submission: Submission) -> Result<Taken, Refusal> {
        match self.command(Command::Submit(vec![submission]))? {
            Response::Submitted(taken) => Ok(taken[0]),
            other => panic!("{other:?}"),
        }
    }

    /// Submits what must become a job of its own.
    pub(crate) fn submit(&mut self, submission: Submission) -> JobId {
        let taken = self.take(submission).unwrap();
        assert!(taken.is_new);
        taken.job
    }

    pub(crate) fn act(&mut self, job: JobId, action: JobAction) -> Response {
        self.command(Command::Job(job, action)).unwrap()
    }

    /// Why something can't be done to a job.
    pub(crate) fn refused(&mut self, job: JobId, action: JobAction) -> String {
        self.command(Command::Job(job, action)).unwrap_err().to_string()
    }

    pub(crate) fn queue(&mut self, name: &str, action: QueueAction) -> Response {
        self.command(Command::Queue(name.to_owned(), action)).unwrap()
    }

    pub(crate) fn explain(&mut self, job: JobId) -> Explanation {
        match self.command(Command::Explain(job)).unwrap() {
            Response::Explained(explanation) => *explanation,
            other => panic!("{other:?}"),
        }
    }

    /// The kinds of reasons for which a job does not run.
    pub(crate) fn kinds(&mut self, job: JobId) -> Vec<&'static str> {
        self.explain(job).reasons.iter().map(|reason| reason.kind).collect()
    }

    pub(crate) fn job(&mut self, job: JobId) -> Job {
        self.read().view().job(job).unwrap().unwrap()
    }

    pub(crate) fn state(&mut self, job: JobId) -> JobState {
        self.job(job).state
    }

    pub(crate) fn states(&mut self, jobs: &[JobId]) -> Vec<JobState> {
        jobs.iter().map(|job| self.state(*job)).collect()
    }

    /// The state of a job and why it ended.
    pub(crate) fn fate(&mut self, job: JobId) -> (JobState, Option<FinishReason>) {
        let job = self.job(job);
        (job.state, job.finish_reason)
    }

    pub(crate) fn causes(&mut self, job: JobId) -> Vec<Cause> {
        self.read().view().events(job).unwrap().iter().map(|event| event.cause).collect()
    }

    pub(crate) fn attempts(&mut self, job: JobId) -> Vec<Attempt> {
        self.read().view().attempts(job).unwrap()
    }

    /// Every job of the node, tasks included, oldest first.
    pub(crate) fn jobs(&mut self) -> Vec<Job> {
        let everything = Selection { with_tasks: true, limit: u32::MAX, ..Selection::default() };
        let mut jobs = self.read().view().jobs(&everything).unwrap();
        jobs.reverse();
        jobs
    }

    /// The jobs that run now, as far as the executor is concerned.
    pub(crate) fn running(&self) -> Vec<JobId> {
        self.executor.running().iter().map(|run| run.job).collect()
    }

    /// The task of a group with this index.
    pub(crate) fn task(&mut self, group: JobId, index: u32) -> JobId {
        let number: JobNumber = self.job(group).number.task(index);
        self.read().view().job_id(number).unwrap().unwrap()
    }

    pub(crate) fn end_with(&mut self, job: JobId, outcome: Outcome, code: i32) {
        let run: RunId = self.executor.running().into_iter().find(|run| run.job == job).unwrap();
        self.executor.end(run, outcome, code);
        self.settle();
    }

    pub(crate) fn end(&mut self, job: JobId, outcome: Outcome) {
        let code = i32::from(outcome != Outcome::Ok);
        self.end_with(job, outcome, code);
    }

    pub(crate) fn ok(&mut self, job: JobId) {
        self.end(job, Outcome::Ok);
    }

    /// Ends whatever runs well, until nothing does. Returns in which order the jobs ran.
    pub(crate) fn finish_all(&mut self) -> Vec<JobId> {
        let mut order = Vec::new();
        while let Some(job) = self.running().first().copied() {
            order.push(job);
            self.ok(job);
        }
        order
    }
}
