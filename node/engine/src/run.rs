//! Attempts on this node, and what the end of any attempt, here or on a peer, makes of its job.

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::outcome::{Exit, Outputs as Written};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::{AttemptState, JobState, NodeId, Outcome, Resources, RunId};
use jobmesh_store::{Job, NewAttempt, StoreError};

use crate::engine::Engine;
use crate::input::{Ended, Process};
use crate::output::{Output, RunOrder, StopReason};
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;

/// A job whose attempts vanish more often than this is taken to bring its nodes down.
const CRASHES_MAX: u32 = 5;

/// An attempt that takes room on this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) resources: Resources,
    /// Whether the executor was told: an awarded job may wait for its input first.
    pub(crate) is_ordered: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Conclusion<'a> {
    pub(crate) node: NodeId,
    pub(crate) outcome: &'a Outcome,
    pub(crate) exit: Exit,
    pub(crate) written: Written,
}

impl<'a> Conclusion<'a> {
    /// An end that left nothing behind.
    pub(crate) fn bare(node: NodeId, outcome: &'a Outcome) -> Self {
        Self { node, outcome, exit: Exit::default(), written: Written::default() }
    }
}

impl Engine {
    /// Starts the next attempt of an available job on this node. Returns whether it could.
    pub(crate) fn start_run(&mut self, step: &mut Step<'_>, mut job: Job) -> Result<bool, StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch.next() };
        let mut shift = Shift::new(&job, Cause::Admitted).on(self.me);
        shift.epoch = run.epoch;
        if !self.shift(step, &mut job, &shift)? {
            self.ready.remove(&job);
            return Ok(false);
        }
        let (state, boot) = (AttemptState::Starting, Some(self.config.boot));
        step.txn.insert_attempt(&NewAttempt { run, state, node: self.me, boot, award: None, at: step.wall() })?;
        self.running.insert(run, Running { resources: job.spec.resources, is_ordered: false });
        match job.spec.task.input().zip(job.origin) {
            Some((blob, origin)) if !self.has_arrived(blob) => self.fetch(step, origin, blob, job.id),
            Some(_) | None => self.order_run(step, &job),
        }
        Ok(true)
    }

    /// Tells the executor to start, now that everything the run needs is here.
    pub(crate) fn order_run(&mut self, step: &Step<'_>, job: &Job) {
        let run = RunId { job: job.id, epoch: job.epoch };
        let Some(running) = self.running.get_mut(&run) else { return };
        running.is_ordered = true;
        self.watch_run(step, job);
        self.outputs.push(Output::Run(Box::new(RunOrder {
            run,
            number: job.number,
            task: job.spec.task.clone(),
            kill_grace: job.spec.kill_grace_ms,
            origin: job.origin,
        })));
    }

    /// Gives a run its time, from now.
    pub(crate) fn watch_run(&mut self, step: &Step<'_>, job: &Job) {
        if let Some(timeout) = job.spec.timeout_ms {
            let run = RunId { job: job.id, epoch: job.epoch };
            self.timers.set(Timer::RunTimeout(run), step.now.mono.plus(timeout));
        }
    }

    pub(crate) fn on_started(&mut self, step: &Step<'_>, run: RunId, process: Process) -> Result<(), StoreError> {
        if !self.running.contains_key(&run) {
            self.count("started_unknown_run");
            return Ok(());
        }
        step.txn.start_attempt(run, Some((process.pid, process.started)), step.wall())
    }

    pub(crate) fn on_run_timeout(&mut self, run: RunId) {
        if self.running.contains_key(&run) {
            self.outputs.push(Output::Stop { run, reason: StopReason::Timeout });
        }
    }

    pub(crate) fn on_ended(&mut self, step: &mut Step<'_>, run: RunId, ended: &Ended) -> Result<(), StoreError> {
        if self.running.remove(&run).is_none() {
            self.count("ended_unknown_run");
            return Ok(());
        }
        self.timers.clear(Timer::RunTimeout(run));
        self.stirred = true;
        let Some(job) = step.view().job(run.job)? else { return Ok(()) };
        if job.epoch != run.epoch || job.state != JobState::Running {
            self.count("ended_old_run");
            return Ok(());
        }
        let conclusion =
            Conclusion { node: self.me, outcome: &ended.outcome, exit: ended.exit, written: ended.outputs };
        match job.origin {
            Some(_) => self.conclude_lease(step, job, run, &conclusion, &ended.inline),
            None => self.conclude(step, job, run, &conclusion),
        }
    }

    /// Ends an attempt of this node's own job and decides what comes next.
    pub(crate) fn conclude(
        &mut self,
        step: &mut Step<'_>,
        mut job: Job,
        run: RunId,
        end: &Conclusion<'_>,
    ) -> Result<(), StoreError> {
        let ended = (end.outcome, end.exit, end.written);
        step.txn.finish_attempt(run, attempt_state(end.outcome), ended, step.wall())?;
        self.observe(step, &job, run, end)?;
        let note = note(end);
        let shift = self.verdict(step, &job, end).on(end.node).because(Some(&note));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Where the end of an attempt leads.
    fn verdict(&self, step: &mut Step<'_>, job: &Job, end: &Conclusion<'_>) -> Shift<'static> {
        let shift = |cause| Shift::new(job, cause);
        let is_cancelled = job.cancel_reason.is_some();
        match end.outcome {
            Outcome::Ok => shift(Cause::Succeeded).finish(FinishReason::Ok),
            _ if is_cancelled => shift(Cause::Cancelled).finish(FinishReason::User),
            Outcome::Error { .. } | Outcome::Cancelled => failed(step, job, FinishReason::Exhausted),
            Outcome::Timeout => failed(step, job, FinishReason::Timeout),
            Outcome::Permanent { .. } => {
                let mut shift = shift(Cause::Permanent).finish(FinishReason::Permanent);
                shift.failures = job.failures.saturating_add(1);
                shift
            }
            Outcome::Released { .. } => shift(Cause::Released),
            Outcome::Lost { .. } => lost(job),
        }
    }
}

/// Another attempt after a wait, or the end if there is none left.
fn failed(step: &mut Step<'_>, job: &Job, reason: FinishReason) -> Shift<'static> {
    let failures = job.failures.saturating_add(1);
    let mut shift = if failures >= job.spec.max_attempts {
        Shift::new(job, Cause::Exhausted).finish(reason)
    } else {
        Shift::new(job, Cause::Failed)
    };
    if shift.finish.is_none() {
        shift.run_at = Some(step.wall().plus(job.spec.backoff.wait(failures, step.rng.next_u64())));
    }
    shift.failures = failures;
    shift
}

/// Another attempt at once, unless the job may not run twice or vanishes too often.
fn lost(job: &Job) -> Shift<'static> {
    let crashes = job.crashes.saturating_add(1);
    let mut shift = match job.spec.effects {
        Effects::Once => Shift::new(job, Cause::Abandoned).finish(FinishReason::Lost),
        Effects::Pure | Effects::Idempotent if crashes > CRASHES_MAX => {
            Shift::new(job, Cause::Abandoned).finish(FinishReason::CrashLimit)
        }
        Effects::Pure | Effects::Idempotent => Shift::new(job, Cause::Lost),
    };
    shift.crashes = crashes;
    shift
}

/// How an attempt with this outcome is filed.
pub(crate) const fn attempt_state(outcome: &Outcome) -> AttemptState {
    match outcome {
        Outcome::Ok => AttemptState::Succeeded,
        Outcome::Error { .. } | Outcome::Permanent { .. } => AttemptState::Failed,
        Outcome::Timeout => AttemptState::TimedOut,
        Outcome::Cancelled => AttemptState::Cancelled,
        Outcome::Released { .. } => AttemptState::Released,
        Outcome::Lost { .. } => AttemptState::Lost,
    }
}

/// What the event log says about the end of an attempt.
fn note(end: &Conclusion<'_>) -> String {
    end.outcome.message().unwrap_or(end.outcome.word()).to_owned()
}
