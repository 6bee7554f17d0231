//! Groups of tasks: arrays, whose tasks are made by their start, and open groups, which take tasks until they are
//! closed. The group is a job as well: it runs while any task may still come, and ends when the last one has.
//!
//! A million tasks that wait are one row and one entry of the ready queue.

use std::sync::Arc;

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::{Epoch, JobId, JobNumber, JobSpec, JobState};
use jobmesh_store::{Group, Job, NewJob, Plan, StoreError};

use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::ready::Profile;
use crate::run::Claim;
use crate::step::Step;
use crate::submit::Answer;
use crate::transition::Shift;
use crate::unique::live_rival;

/// A group that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Tasked {
    /// Its own job.
    pub(crate) job: Job,
    /// Its tasks, as they are written.
    pub(crate) row: Group,
    /// How many of its tasks run.
    pub(crate) running: u32,
}

impl Tasked {
    /// Whether there are tasks that were not made yet.
    pub(crate) const fn has_more(&self) -> bool {
        self.row.is_array && self.row.made < self.row.of
    }
}

impl Engine {
    /// Puts an array into the ready queue while it has tasks to make. An open group, or one whose tasks have all been
    /// made, has nothing to start.
    pub(crate) fn ready_group(&mut self, job: &Job) {
        let Some(group) = self.groups.get(&job.number) else { return };
        if group.has_more() && job.held.is_none() {
            let profile = self.profile(job);
            self.ready.insert(profile, job.number);
            self.stirred = true;
        }
    }

    /// Makes the next task of an array, to be started at once.
    pub(crate) fn next_task(
        &mut self,
        step: &mut Step<'_>,
        number: JobNumber,
        profile: &Profile,
    ) -> Result<Option<Claim>, StoreError> {
        let job = self.new_task(step, number)?;
        self.after_task(step, number, profile)?;
        Ok(job.map(|job| Claim { job, is_written: false }))
    }

    /// Makes the next task of an array as a job of its own that waits.
    pub(crate) fn make_task(&mut self, step: &mut Step<'_>, number: JobNumber) -> Result<Option<Job>, StoreError> {
        let Some(group) = self.groups.get(&number) else { return Ok(None) };
        let profile = self.profile(&group.job.clone());
        let job = self.new_task(step, number)?;
        self.after_task(step, number, &profile)?;
        if let Some(job) = &job {
            self.write_task(step, job)?;
        }
        Ok(job)
    }

    pub(crate) fn write_task(&mut self, step: &Step<'_>, job: &Job) -> Result<(), StoreError> {
        step.txn.insert_job(&NewJob { job, has_spec: false, unique_key: None })?;
        self.announce(step, job, &Shift::new(job, Cause::Ready))?;
        self.follow(step, job);
        Ok(())
    }

    /// The next task of an array.
    fn new_task(&mut self, step: &mut Step<'_>, number: JobNumber) -> Result<Option<Job>, StoreError> {
        let Some(task) = self.next_of(step, number)? else { return Ok(None) };
        let Some(group) = self.groups.get_mut(&number) else { return Ok(None) };
        group.row.made += 1;
        self.changed_groups.insert(number);
        let parent = group.job.clone();
        Ok(Some(task_of(step, &parent, task)))
    }

    /// The number of the next task of an array to be made, past those that were made out of turn.
    pub(crate) fn next_of(&mut self, step: &Step<'_>, number: JobNumber) -> Result<Option<JobNumber>, StoreError> {
        loop {
            let Some(group) = self.groups.get_mut(&number).filter(|group| group.has_more()) else { return Ok(None) };
            let Some(task) = group.row.task_at(group.row.made) else { return Ok(None) };
            if group.row.early == 0 || step.view().state_of(task)?.is_none() {
                return Ok(Some(task));
            }
            group.row.made += 1;
            group.row.early -= 1;
            self.changed_groups.insert(number);
        }
    }

    /// The group has one task less to make: it runs now, and leaves the ready queue after the last one.
    fn after_task(&mut self, step: &Step<'_>, number: JobNumber, profile: &Profile) -> Result<(), StoreError> {
        let Some(group) = self.groups.get(&number) else { return Ok(()) };
        if !group.has_more() {
            self.ready.remove(profile, number);
        }
        if group.job.state == JobState::Available {
            let mut job = group.job.clone();
            let shift = Shift::new(&job, Cause::Admitted).on(self.me);
            self.shift(step, &mut job, &shift)?;
        }
        Ok(())
    }

    /// Counts the end of a task, and ends its group if that was all.
    pub(crate) fn on_task_ended(&mut self, step: &Step<'_>, task: &Job) -> Result<(), StoreError> {
        let number = task.number.group();
        let Some(group) = self.groups.get_mut(&number) else { return Ok(()) };
        group.row.count(task.state);
        self.changed_groups.insert(number);
        let has_failed_too_often = group.row.max_fails.is_some_and(|limit| group.row.failed > limit);
        if has_failed_too_often && !self.failed_groups.contains(&number) {
            self.failed_groups.push(number);
        }
        self.end_group_if_over(step, number)
    }

    /// A group that had ended, or counted a task as ended, has it back.
    pub(crate) fn on_task_revived(&mut self, step: &Step<'_>, task: &Job, from: JobState) -> Result<(), StoreError> {
        let number = task.number.group();
        let is_known = self.groups.contains_key(&number);
        if !is_known {
            let Some(job) = step.view().job_by_number(number)?.filter(|job| job.state.is_final()) else {
                return Ok(());
            };
            self.retry_own(step, job)?;
        }
        if let Some(group) = self.groups.get_mut(&number) {
            group.row.uncount(from);
            self.changed_groups.insert(number);
        }
        Ok(())
    }

    /// A group that had ended takes its tasks up again.
    pub(crate) fn on_group_revived(&mut self, step: &Step<'_>, group: &Job) -> Result<(), StoreError> {
        if let Some(row) = step.view().group(group.number)? {
            self.groups.insert(group.number, Tasked { job: group.clone(), row, running: 0 });
        }
        Ok(())
    }

    /// A group runs from the start of its first task.
    pub(crate) fn begin_group(&mut self, step: &Step<'_>, task: JobNumber) -> Result<(), StoreError> {
        let waits = |group: &&Tasked| group.job.state == JobState::Available;
        let found = task.index().and_then(|_| self.groups.get(&task.group())).filter(waits);
        let Some(mut job) = found.map(|group| group.job.clone()) else { return Ok(()) };
        let shift = Shift::new(&job, Cause::Admitted).on(self.me);
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Whether a job is a group that has made tasks.
    pub(crate) fn has_tasks(&self, job: &Job) -> bool {
        self.groups.get(&job.number).is_some_and(|group| group.row.made > 0 || group.row.early > 0)
    }

    /// Too many tasks of a group have failed: what is left of it is dropped. Not done where the failure is counted,
    /// since dropping tasks ends others in turn.
    pub(crate) fn give_up_groups(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        while let Some(number) = self.failed_groups.pop() {
            let reason = "too many tasks of the group have failed";
            self.drop_tasks(step, number, FinishReason::MaxFails, reason, Force::Gentle)?;
        }
        Ok(())
    }

    /// Drops every task of a group that has not ended, made or not.
    pub(crate) fn drop_tasks(
        &mut self,
        step: &mut Step<'_>,
        number: JobNumber,
        finish: FinishReason,
        reason: &str,
        force: Force,
    ) -> Result<(), StoreError> {
        let Some(group) = self.groups.get_mut(&number) else { return Ok(()) };
        let unmade = group.row.of.saturating_sub(group.row.made).saturating_sub(group.row.early);
        group.row.dropped = group.row.dropped.saturating_add(unmade);
        group.row.made = group.row.of;
        group.row.is_open = false;
        let parent = group.job.clone();
        let spec = group.row.is_array.then(|| Arc::clone(&parent.spec));
        self.changed_groups.insert(number);
        self.unready(&parent);
        for task in step.view().live_tasks(number)? {
            let Some(job) = task_row(step, task, spec.as_ref())? else { continue };
            if finish == FinishReason::User {
                self.cancel_job(step, job, reason, force)?;
            } else {
                self.drop_job(step, job, finish, reason)?;
            }
        }
        self.end_group_if_over(step, number)
    }

    fn end_group_if_over(&mut self, step: &Step<'_>, number: JobNumber) -> Result<(), StoreError> {
        let Some(group) = self.groups.get(&number).filter(|group| group.row.is_over()) else { return Ok(()) };
        let (mut job, row) = (group.job.clone(), group.row.clone());
        // Counts are written with the end, since nobody has them in memory afterwards.
        step.txn.update_group(&row)?;
        self.changed_groups.remove(&number);
        let note = format!("{} of {} tasks completed, {} failed", row.completed, row.of, row.failed);
        let shift = if job.cancel_reason.is_some() {
            stopped_group(&job)
        } else if row.failed == 0 && row.dropped == 0 {
            Shift::new(&job, Cause::Succeeded).finish(FinishReason::Ok)
        } else if row.failed == 0 && step.view().has_cancelled_task(number)? {
            Shift::new(&job, Cause::Cancelled).finish(FinishReason::User)
        } else {
            Shift::new(&job, Cause::Exhausted).finish(FinishReason::TasksFailed)
        };
        let shift = shift.because(Some(&note));
        let is_dropped = matches!(shift.cause, Cause::Cancelled | Cause::Skipped);
        // Tasks of an open group may end while it still waits for others or for its time.
        let waits_for = match job.state {
            JobState::Pending if !is_dropped => Some(Cause::Ready),
            JobState::Scheduled if !is_dropped => Some(Cause::Due),
            JobState::Pending
            | JobState::Scheduled
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Retryable
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => None,
        };
        if let Some(cause) = waits_for {
            let ready = Shift::new(&job, cause);
            self.shift(step, &mut job, &ready)?;
        }
        if job.state == JobState::Available && shift.cause == Cause::Exhausted {
            // Nothing of it ever ran.
            let started = Shift::new(&job, Cause::Admitted);
            self.shift(step, &mut job, &started)?;
        }
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Takes no more tasks into a group.
    pub(crate) fn close_group(&mut self, step: &Step<'_>, job: &Job) -> Answer {
        let Some(group) = self.groups.get_mut(&job.number) else {
            return Ok(Err(Refusal::NotOpen(job.number)));
        };
        if !group.row.is_open {
            return Ok(Ok(Response::Unchanged));
        }
        group.row.is_open = false;
        let row = group.row.clone();
        step.txn.update_group(&row)?;
        self.end_group_if_over(step, job.number)?;
        Ok(Ok(Response::Done))
    }

    /// Gives the tasks of a group that did not complete another try, those included that were dropped before they were
    /// made.
    pub(crate) fn retry_group(&mut self, step: &mut Step<'_>, group: Job) -> Answer {
        let refuse = |rule| Ok(Err(Refusal::WrongState { number: group.number, state: group.state, rule }));
        let number = group.number;
        if let Some(refusal) = self.keeps_out(step, &group) {
            return Ok(Err(refusal));
        }
        if let Some(holder) = self.key_in_the_way(step, &group)? {
            return Ok(Err(Refusal::KeyTaken { number, holder }));
        }
        let (again, why_not) = self.tasks_to_retry(step, &group)?;
        let undone = self.dropped_unmade(step, number)?;
        let is_dropped = match group.state {
            JobState::Cancelled | JobState::Skipped => true,
            JobState::Pending
            | JobState::Scheduled
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Retryable
            | JobState::Completed
            | JobState::Discarded => false,
        };
        if again.is_empty() && undone.unmade == 0 && !is_dropped {
            let every = "every task of it has completed, may still do so, or must not run twice";
            return why_not.map_or_else(|| refuse(every), |refusal| Ok(Err(refusal)));
        }
        if group.state.is_final() {
            self.retry_own(step, group)?;
        } else {
            step.txn.set_cancel_reason(number, None)?;
        }
        if let Some(group) = self.groups.get_mut(&number) {
            (group.job.cancel_reason, group.job.finish_reason) = (None, None);
            if undone.unmade > 0 {
                (group.row.made, group.row.early) = (undone.made, undone.early);
                group.row.dropped = group.row.dropped.saturating_sub(undone.unmade);
            }
            self.changed_groups.insert(number);
            let job = group.job.clone();
            self.follow(step, &job);
        }
        for job in again {
            // Two tasks may have had the same key, one after the other.
            if live_rival(step, &job)?.is_none() {
                self.retry_job(step, job)?;
            }
        }
        self.end_group_if_over(step, number)?;
        Ok(Ok(Response::Done))
    }

    /// The tasks of a group that can be tried again, and why the first of the others can't be.
    fn tasks_to_retry(&self, step: &Step<'_>, group: &Job) -> Result<(Vec<Job>, Option<Refusal>), StoreError> {
        let (mut again, mut why_not) = (Vec::new(), None);
        let spec = step.view().group(group.number)?.filter(|row| row.is_array).map(|_| Arc::clone(&group.spec));
        for task in step.view().unfinished_tasks(group.number)? {
            let Some(job) = task_row(step, task, spec.as_ref())? else { continue };
            if job.spec.effects == Effects::Once && job.epoch > Epoch::default() {
                continue;
            }
            // The key of the group itself is free.
            let taken = live_rival(step, &job)?.map(|holder| Refusal::KeyTaken { number: task, holder });
            match taken.or_else(|| self.keeps_out(step, &job)) {
                None => again.push(job),
                Some(refusal) => why_not = why_not.or(Some(refusal)),
            }
        }
        Ok((again, why_not))
    }

    /// Takes up a group that had ended, itself and none of its tasks.
    fn retry_own(&mut self, step: &Step<'_>, mut group: Job) -> Result<(), StoreError> {
        step.txn.set_cancel_reason(group.number, None)?;
        (group.cancel_reason, group.finish_reason) = (None, None);
        let shift = Shift::new(&group, Cause::Retried);
        self.shift(step, &mut group, &shift)?;
        Ok(())
    }

    /// The tasks of an array that were dropped before they were made, if any were.
    fn dropped_unmade(&self, step: &Step<'_>, number: JobNumber) -> Result<Undone, StoreError> {
        let row = match self.groups.get(&number) {
            Some(group) => Some(group.row.clone()),
            None => step.view().group(number)?,
        };
        let Some(row) = row.filter(|row| row.is_array) else { return Ok(Undone::default()) };
        if row.early == 0 {
            let last = step.view().last_task(number)?;
            let made = last.and_then(|last| row.place_of(last)).map_or(0, |place| place + 1);
            return Ok(Undone { unmade: row.made.saturating_sub(made), made, early: 0 });
        }
        let rows = step.view().task_count(number)?;
        let mut made = 0;
        while let Some(task) = row.task_at(made).filter(|_| made < row.of)
            && step.view().state_of(task)?.is_some()
        {
            made += 1;
        }
        Ok(Undone { unmade: row.made.saturating_sub(rows), made, early: rows.saturating_sub(made) })
    }

    /// Writes the counts of groups: once per transaction, however many tasks moved in it.
    pub(crate) fn write_groups(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for number in std::mem::take(&mut self.changed_groups) {
            if let Some(group) = self.groups.get(&number) {
                step.txn.update_group(&group.row)?;
            }
        }
        Ok(())
    }
}

/// A task as it stands; those of an array have the spec of their group, which need not be read again for each.
fn task_row(step: &Step<'_>, task: JobNumber, spec: Option<&Arc<JobSpec>>) -> Result<Option<Job>, StoreError> {
    match spec {
        Some(spec) => step.view().task(task, spec),
        None => step.view().job_by_number(task),
    }
}

/// The end of a group that was stopped: by a person, or by the system for a reason that was kept.
const fn stopped_group(group: &Job) -> Shift<'static> {
    match group.finish_reason {
        None => Shift::new(group, Cause::Cancelled).finish(FinishReason::User),
        Some(FinishReason::Deadline) if matches!(group.state, JobState::Running) => {
            Shift::new(group, Cause::Exhausted).finish(FinishReason::Deadline)
        }
        Some(reason) => Shift::new(group, crate::cancel::cause_of(reason)).finish(reason),
    }
}

/// Tasks of an array that were dropped before they were made, and where its making goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Undone {
    unmade: u32,
    made: u32,
    early: u32,
}

/// A task of an array as it comes into being.
pub(crate) fn task_of(step: &mut Step<'_>, parent: &Job, number: JobNumber) -> Job {
    Job {
        id: JobId::new(step.wall(), &step.random()),
        number,
        state: JobState::Available,
        state_since: step.wall(),
        spec: Arc::clone(&parent.spec),
        queue: parent.queue.clone(),
        priority: parent.priority,
        epoch: Epoch::default(),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        waits: 0,
        run_at: None,
        expires_at: None,
        deadline: parent.deadline,
        held: None,
        plan: Plan::default(),
        fire: None,
        cancel_reason: None,
        finish_reason: None,
        origin: None,
        created_at: step.wall(),
        finished_at: None,
    }
}

/// How much time a job that is stopped gets to end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// As much as it asked for.
    Gentle,
    /// None.
    Hard,
}
