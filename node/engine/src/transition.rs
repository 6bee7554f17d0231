//! The one place where a job changes state: the table says whether it may, a guarded update does it, the event log
//! and the watchers hear of it, and everything that depends on the state follows.

use jobmesh_protocol::state::{Cause, FinishReason, transition};
use jobmesh_protocol::submission::Span;
use jobmesh_protocol::{DurationMillis, Epoch, JobId, JobState, NodeId, UnixMillis};
use jobmesh_store::{Job, Move, NewEvent, StoreError};

use crate::engine::Engine;
use crate::output::{Change, Output};
use crate::step::Step;
use crate::timers::Timer;

/// A change of a job, beside its new state.
#[derive(Clone, Debug)]
pub(crate) struct Shift<'a> {
    pub(crate) cause: Cause,
    pub(crate) epoch: Epoch,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) snoozes: u32,
    pub(crate) run_at: Option<UnixMillis>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) node: Option<NodeId>,
    pub(crate) note: Option<&'a str>,
    /// How long the attempt ran whose end this is.
    pub(crate) ran: DurationMillis,
}

impl<'a> Shift<'a> {
    /// A change that leaves all counters as they are.
    pub(crate) const fn new(job: &Job, cause: Cause) -> Self {
        Self {
            cause,
            epoch: job.epoch,
            failures: job.failures,
            crashes: job.crashes,
            snoozes: job.snoozes,
            run_at: None,
            finish: None,
            node: None,
            note: None,
            ran: DurationMillis(0),
        }
    }

    pub(crate) const fn after(mut self, ran: DurationMillis) -> Self {
        self.ran = ran;
        self
    }

    pub(crate) const fn on(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    pub(crate) const fn at(mut self, run_at: UnixMillis) -> Self {
        self.run_at = Some(run_at);
        self
    }

    pub(crate) const fn because(mut self, note: Option<&'a str>) -> Self {
        self.note = note;
        self
    }

    pub(crate) const fn finish(mut self, reason: FinishReason) -> Self {
        self.finish = Some(reason);
        self
    }
}

impl Engine {
    /// Moves `job` and updates it. False, and nothing happens, if the table or the guard forbids it.
    pub(crate) fn shift(&mut self, step: &Step<'_>, job: &mut Job, shift: &Shift<'_>) -> Result<bool, StoreError> {
        let from = job.state;
        let Some(to) = transition(from, shift.cause) else {
            self.count("illegal_transition");
            return Ok(false);
        };
        let expires_at = expiry(job, to, shift, step.wall());
        let moved = step.txn.move_job(&Move {
            job: job.number,
            from,
            epoch: job.epoch,
            to,
            new_epoch: shift.epoch,
            failures: shift.failures,
            crashes: shift.crashes,
            snoozes: shift.snoozes,
            run_at: shift.run_at,
            expires_at,
            finish_reason: shift.finish,
            at: step.wall(),
        })?;
        if !moved {
            self.count("stale_move");
            return Ok(false);
        }
        if from == JobState::Available || job.plan.is_group {
            self.unready(job);
        }
        (job.state, job.state_since, job.epoch) = (to, step.wall(), shift.epoch);
        (job.failures, job.crashes, job.snoozes) = (shift.failures, shift.crashes, shift.snoozes);
        (job.run_at, job.expires_at) = (shift.run_at, expires_at);
        if from.is_final() || to.is_final() {
            job.finish_reason = shift.finish;
        }
        job.finished_at = to.is_final().then_some(step.wall());
        if from.is_final() && !to.is_final() {
            self.on_revived(step, job, from)?;
        }
        self.announce(step, job, shift)?;
        self.occupy(job, from, to);
        self.follow(step, job);
        match (from.is_final(), to.is_final()) {
            (false, true) => {
                self.count_end(step, job, shift.ran);
                self.on_final(step, job)?;
            }
            // What a revived job had kept waiting is found by whoever revives it: a chain of any length costs no stack.
            (true, false) if shift.cause != Cause::Revived => self.revive_dependants(step, job.number)?,
            (true, false) | (false, false) | (true, true) => {}
        }
        Ok(true)
    }

    /// Writes a job's event and tells the watchers.
    pub(crate) fn announce(&mut self, step: &Step<'_>, job: &Job, shift: &Shift<'_>) -> Result<(), StoreError> {
        let event = step.txn.append_event(&NewEvent {
            job: job.id,
            epoch: job.epoch,
            state: job.state,
            cause: shift.cause,
            node: shift.node,
            note: shift.note,
            at: step.wall(),
        })?;
        self.outputs.push(Output::Changed(Change {
            event,
            job: job.id,
            number: job.number,
            state: job.state,
            cause: shift.cause,
            epoch: job.epoch,
            node: shift.node,
            at: step.wall(),
        }));
        Ok(())
    }

    /// Keeps the counts of what runs by queue, key and group.
    pub(crate) fn occupy(&mut self, job: &Job, from: JobState, to: JobState) {
        if job.plan.is_group || job.origin.is_some() {
            return;
        }
        let key = job.spec.concurrency.as_ref().map(|key| key.key.as_str());
        let group = job.number.index().and_then(|_| self.groups.get_mut(&job.number.group()));
        match (occupies(from), occupies(to)) {
            (false, true) => {
                self.queues.enter(&job.queue, key);
                if let Some(group) = group {
                    group.running = group.running.saturating_add(1);
                }
            }
            (true, false) => {
                self.queues.leave(&job.queue, key);
                self.stirred = true;
                if let Some(group) = group {
                    group.running = group.running.saturating_sub(1);
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Takes a job out of the ready queue, if it is there.
    pub(crate) fn unready(&mut self, job: &Job) {
        let profile = self.profile(job);
        self.ready.remove(&profile, job.number);
    }

    /// Keeps queue and timers in step with a job's state.
    pub(crate) fn follow(&mut self, step: &Step<'_>, job: &Job) {
        if let Some(deadline) = job.deadline.filter(|_| !job.state.is_final()) {
            self.set_dated(step, Timer::Deadline(job.id), deadline);
        }
        if let Some(group) = self.groups.get_mut(&job.number) {
            group.job = job.clone();
        }
        match job.state {
            JobState::Running if job.plan.is_group => {
                self.timers.clear(Timer::Expires(job.id));
                self.ready_group(job);
            }
            JobState::Available => {
                self.watch_expiry(step, job);
                // What has waited too long is dropped by its timer, at once.
                let is_late = self.timers.is_due(Timer::Expires(job.id), step.now.mono);
                if job.plan.is_group {
                    self.ready_group(job);
                } else if job.held.is_none() && !is_late {
                    let profile = self.profile(job);
                    self.ready.insert(profile, job.number);
                    self.stirred = true;
                }
            }
            JobState::Scheduled | JobState::Retryable => {
                self.timers.clear(Timer::Expires(job.id));
                self.clear_due(job.id);
                let timer = if is_dated(job) { Timer::Date(job.id) } else { Timer::Due(job.id) };
                self.timers.set(timer, step.now.mono.plus(wait_of(job, step.wall())));
            }
            JobState::Offered | JobState::Running => self.watch_expiry(step, job),
            JobState::Pending | JobState::Suspended => {}
            JobState::Completed | JobState::Discarded | JobState::Cancelled | JobState::Skipped => {
                self.clear_due(job.id);
                self.timers.clear(Timer::Reoffer(job.id));
                self.timers.clear(Timer::Expires(job.id));
                self.timers.clear(Timer::Deadline(job.id));
                self.patience.remove(&job.id);
            }
        }
    }

    /// Sets the timer of a job that must start in time. One that runs already is kept: it knows nothing of what became
    /// of the wall clock since.
    pub(crate) fn watch_expiry(&mut self, step: &Step<'_>, job: &Job) {
        let timer = Timer::Expires(job.id);
        match job.expires_at.filter(|_| !is_held_back(job)) {
            Some(at) => self.timers.set_if_unset(timer, step.now.mono.plus(patience_of(job, at, step.wall()))),
            None => self.timers.clear(timer),
        }
    }

    /// A job waits for no time any more, or for another one.
    pub(crate) fn clear_due(&mut self, job: JobId) {
        self.timers.clear(Timer::Due(job));
        self.timers.clear(Timer::Date(job));
    }

    /// Sets a timer for a date; it is looked at again if the wall clock jumps.
    pub(crate) fn set_dated(&mut self, step: &Step<'_>, timer: Timer, at: UnixMillis) {
        self.timers.set(timer, step.now.mono.plus(at.since(step.wall())));
    }

    /// Everything that waits for the end of a job.
    fn on_final(&mut self, step: &Step<'_>, job: &Job) -> Result<(), StoreError> {
        if let Some(keep) = job.spec.keep_ms.filter(|_| job.number.index().is_none()) {
            step.txn.set_keep_until(job.number, Some(step.wall().plus(keep)))?;
        }
        self.give_up_all_late(step, job.id)?;
        if job.plan.unique == Some(Span::Incomplete) {
            step.txn.free_unique_key(job.number)?;
        }
        if self.awaited.contains(&job.number) {
            self.ended_upstream.push((job.number, job.state));
        }
        if job.number.index().is_some() {
            self.on_task_ended(step, job)?;
        }
        if job.plan.is_group {
            self.groups.remove(&job.number);
        }
        Ok(())
    }

    /// A job that had ended is tried again. Its group must be back before it is put into the ready queue, since that
    /// tells jobs apart by the limits of their groups.
    fn on_revived(&mut self, step: &Step<'_>, job: &Job, from: JobState) -> Result<(), StoreError> {
        self.take_key_again(step, job)?;
        self.removing.remove(&job.number);
        if job.plan.is_group {
            self.on_group_revived(step, job)?;
        }
        if job.number.index().is_some() {
            self.on_task_revived(step, job, from)?;
        }
        Ok(())
    }
}

/// Whether a job in this state counts against the limits of its queue and key.
const fn occupies(state: JobState) -> bool {
    match state {
        JobState::Offered | JobState::Running => true,
        JobState::Pending
        | JobState::Scheduled
        | JobState::Available
        | JobState::Suspended
        | JobState::Retryable
        | JobState::Completed
        | JobState::Discarded
        | JobState::Cancelled
        | JobState::Skipped => false,
    }
}

/// Until when a job in its new state must have started. The time runs from when it first may, which is its date if it
/// has one, and is over when an attempt has started: an auction or a claim in advance that comes to nothing leaves it as
/// it was.
fn expiry(job: &Job, to: JobState, shift: &Shift<'_>, now: UnixMillis) -> Option<UnixMillis> {
    let within = job.plan.start_within_ms?;
    let known = job.expires_at;
    let has_started = job.epoch > Epoch::default() && known.is_none();
    match to {
        JobState::Available if has_started => None,
        JobState::Available if job.state == JobState::Scheduled => {
            let since = job.run_at.filter(|at| is_dated(job) && *at < now).unwrap_or(now);
            Some(since.plus(within))
        }
        JobState::Available => Some(known.unwrap_or(now.plus(within))),
        // Told from one that has started by having an end to its patience at all; it counts once its time has come.
        JobState::Scheduled if shift.cause == Cause::Deferred && !has_started => {
            Some(shift.run_at.unwrap_or(now).plus(within))
        }
        JobState::Offered => known,
        JobState::Running if shift.cause == Cause::Admitted && !job.plan.is_group => known,
        JobState::Running
        | JobState::Scheduled
        | JobState::Pending
        | JobState::Suspended
        | JobState::Retryable
        | JobState::Completed
        | JobState::Discarded
        | JobState::Cancelled
        | JobState::Skipped => None,
    }
}

/// How long a job waits for its time. A wait that was a length of time is never longer than that, whatever became of
/// the wall clock since.
fn wait_of(job: &Job, now: UnixMillis) -> DurationMillis {
    let run_at = job.run_at.unwrap_or(now);
    let left = run_at.since(now);
    if is_dated(job) { left } else { left.min(run_at.since(job.state_since)) }
}

/// Whether a job waits for a date, which comes when the clock says so, and not for a length of time to pass.
pub(crate) fn is_dated(job: &Job) -> bool {
    job.state == JobState::Scheduled && job.plan.is_dated && job.epoch == Epoch::default()
}

/// Whether it is somebody's wish that a job doesn't start: then no time runs in which it must. It begins anew with the
/// release.
pub(crate) fn is_held_back(job: &Job) -> bool {
    job.held.is_some() && job.state == JobState::Available
}

/// How long a job still waits to start: never longer than it asked for, whatever became of the wall clock.
fn patience_of(job: &Job, expires_at: UnixMillis, now: UnixMillis) -> DurationMillis {
    let left = expires_at.since(now);
    job.plan.start_within_ms.map_or(left, |within| left.min(within))
}
