//! Changing a job that waits: holding it back, its time, its place, its queue.

use jobmesh_protocol::state::Cause;
use jobmesh_protocol::time::DATE_MAX;
use jobmesh_protocol::{JobId, JobState, UnixMillis};
use jobmesh_store::Job;

use crate::cancel::REASON_CHARS_MAX;
use crate::command::JobAction;
use crate::engine::Engine;
use crate::group::Force;
use crate::output::{Refusal, Response};
use crate::step::Step;
use crate::submit::Answer;
use crate::transition::{Shift, is_held_back};

impl Engine {
    pub(crate) fn act_on_job(&mut self, step: &mut Step<'_>, id: JobId, action: JobAction) -> Answer {
        let Some(job) = step.view().job(id)? else { return Ok(Err(Refusal::NoSuchJob(id))) };
        match action {
            JobAction::Cancel { reason, is_forced } => {
                let force = if is_forced { Force::Hard } else { Force::Gentle };
                self.cancel(step, job, &reason, force)
            }
            JobAction::Retry => self.retry(step, job),
            JobAction::Hold { reason } => self.hold(step, job, &reason),
            JobAction::Release => self.release(step, job),
            JobAction::Reschedule(at) => self.reschedule(step, job, at),
            JobAction::Prioritize(priority) => {
                let queue = job.queue.clone();
                self.place(step, job, queue, priority)
            }
            JobAction::Move(queue) => self.move_to(step, job, queue),
            JobAction::Close => self.close_group(step, &job),
            JobAction::Remove => self.remove(step, &job),
        }
    }

    pub(crate) fn hold(&mut self, step: &Step<'_>, mut job: Job, reason: &str) -> Answer {
        if let Some(refusal) = ended(&job) {
            return Ok(Err(refusal));
        }
        if job.held.is_some() {
            return Ok(Ok(Response::Unchanged));
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        step.txn.set_held(job.number, Some(&reason))?;
        if job.state == JobState::Available || job.plan.is_group {
            self.unready(&job);
        }
        job.held = Some(reason);
        self.keep_in_step(&job);
        if job.state == JobState::Available {
            self.watch_expiry(step, &job);
        }
        self.hold_tasks(step, job.number)?;
        self.has_misplaced = true;
        Ok(Ok(Response::Done))
    }

    fn release(&mut self, step: &Step<'_>, mut job: Job) -> Answer {
        if let Some(refusal) = ended(&job) {
            return Ok(Err(refusal));
        }
        if job.held.is_none() {
            return Ok(Ok(Response::Unchanged));
        }
        step.txn.set_held(job.number, None)?;
        if is_held_back(&job)
            && let Some(within) = job.plan.start_within_ms.filter(|_| job.expires_at.is_some())
        {
            job.expires_at = Some(step.wall().plus(within));
            step.txn.set_expiry(job.number, job.expires_at)?;
        }
        job.held = None;
        self.keep_in_step(&job);
        self.follow(step, &job);
        self.release_tasks(step, job.number)?;
        Ok(Ok(Response::Done))
    }

    /// What is in memory of a job that runs or has tasks.
    fn keep_in_step(&mut self, job: &Job) {
        let run = jobmesh_protocol::RunId { job: job.id, epoch: job.epoch };
        if let Some(running) = self.running.get_mut(&run) {
            running.job = job.clone();
        }
        if let Some(group) = self.groups.get_mut(&job.number) {
            group.job = job.clone();
        }
    }

    fn reschedule(&mut self, step: &Step<'_>, mut job: Job, at: UnixMillis) -> Answer {
        if at > DATE_MAX {
            return Ok(Err(Refusal::BadSpec("its new time is after the year 9999".to_owned())));
        }
        let cause = match job.state {
            JobState::Scheduled | JobState::Available | JobState::Retryable => Cause::Deferred,
            JobState::Pending
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => {
                let rule = "only a job that waits to start can be given another time";
                return Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
            }
        };
        let shift = Shift::new(&job, cause).at(at);
        self.shift(step, &mut job, &shift)?;
        Ok(Ok(Response::Done))
    }

    fn move_to(&mut self, step: &Step<'_>, job: Job, queue: String) -> Answer {
        if let Err(error) = jobmesh_protocol::job::check_name("queue", &queue) {
            return Ok(Err(Refusal::BadQueue(error.to_string())));
        }
        if self.queues.is_draining(&queue) {
            return Ok(Err(Refusal::QueueDraining(queue)));
        }
        let priority = job.priority;
        self.place(step, job, queue, priority)
    }

    fn place(&mut self, step: &Step<'_>, mut job: Job, queue: String, priority: i32) -> Answer {
        if let Some(refusal) = ended(&job) {
            return Ok(Err(refusal));
        }
        if (job.queue.as_str(), job.priority) == (queue.as_str(), priority) {
            return Ok(Ok(Response::Unchanged));
        }
        step.txn.set_place(job.number, &queue, priority)?;
        // A run that waits behind another one counts for nothing yet.
        let run = jobmesh_protocol::RunId { job: job.id, epoch: job.epoch };
        let is_behind = self.running.get(&run).is_some_and(|running| running.follows.is_some());
        let occupied = if is_behind { JobState::Pending } else { job.state };
        if job.state == JobState::Available || job.plan.is_group {
            self.unready(&job);
        }
        self.occupy(&job, occupied, JobState::Pending);
        (job.queue, job.priority) = (queue, priority);
        self.occupy(&job, JobState::Pending, occupied);
        self.keep_in_step(&job);
        let profile = std::sync::Arc::new(self.profile(&job));
        if let Some(running) = self.running.get_mut(&run).filter(|running| running.profile.is_some()) {
            // What follows it next must be like what it is now.
            running.profile = Some(profile);
        }
        self.has_misplaced = true;
        if job.state == JobState::Available || job.plan.is_group {
            self.follow(step, &job);
        }
        Ok(Ok(Response::Done))
    }
}

fn ended(job: &Job) -> Option<Refusal> {
    let rule = "it has ended";
    job.state.is_final().then_some(Refusal::WrongState { number: job.number, state: job.state, rule })
}
