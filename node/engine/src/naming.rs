//! Tasks of arrays that somebody names before their turn: they are made then, so that they can be told apart.

use std::collections::BTreeSet;

use jobmesh_protocol::{Epoch, JobNumber, JobState};
use jobmesh_store::{Group, StoreError};

use crate::engine::Engine;
use crate::group::task_of;
use crate::output::{Refusal, Response, Taken};
use crate::step::Step;
use crate::submit::Answer;

/// Most tasks that one command makes: as many as one question can mean jobs. A transaction of a few hundred
/// milliseconds.
pub const NAMED_MAX: usize = 10_000;
/// Why a task is held that was made out of turn, if its array is.
const HELD_WITH_ARRAY: &str = "its array is held";

impl Engine {
    /// Makes tasks of arrays out of turn, so that they can be told apart from the others: somebody has named them.
    pub(crate) fn name_tasks(&mut self, step: &mut Step<'_>, numbers: &[JobNumber]) -> Answer {
        let numbers: BTreeSet<JobNumber> = numbers.iter().copied().take(NAMED_MAX).collect();
        for number in &numbers {
            if let Err(refusal) = self.check_name(step, *number)? {
                return Ok(Err(refusal));
            }
        }
        let taken = numbers.into_iter().map(|number| self.name_task(step, number)).collect::<Result<_, _>>()?;
        Ok(Ok(Response::Submitted(taken)))
    }

    /// The same of all tasks from `first` to `last` of one group that are still to be made. Those that ended, or were
    /// dropped before they began, are what they are.
    pub(crate) fn name_range(&mut self, step: &mut Step<'_>, first: JobNumber, last: JobNumber) -> Answer {
        let group = first.group();
        let row = match self.row_of(step, group)? {
            Ok(row) => row,
            Err(why) => return Ok(Err(Refusal::NoSuchTask { number: first, why })),
        };
        let end = row.of.checked_sub(1).and_then(|end| row.task_at(end));
        let (from, to) = (row.task_at(0).filter(|_| row.of > 0), end);
        let is_before = from.is_none_or(|from| first < from);
        if is_before || to.is_none_or(|to| last > to) {
            let number = if is_before { first } else { last };
            return Ok(Err(Refusal::NoSuchTask { number, why: tasks_of(&row, group) }));
        }
        if !row.is_array || !self.groups.contains_key(&group) {
            return Ok(Ok(Response::Unchanged));
        }
        let mut unmade = Vec::new();
        let ahead = (row.made..row.of).map_while(|place| row.task_at(place));
        for task in ahead.skip_while(|task| *task < first).take_while(|task| *task <= last) {
            if row.early == 0 || step.view().state_of(task)?.is_none() {
                unmade.push(task);
            }
            if unmade.len() > NAMED_MAX {
                return Ok(Err(Refusal::TooMany { what: "tasks of one range", limit: NAMED_MAX }));
            }
        }
        if let (Some(number), Some(why)) = (unmade.first().copied(), self.not_begun(group)) {
            return Ok(Err(Refusal::NoSuchTask { number, why }));
        }
        let taken = unmade.into_iter().map(|task| self.name_task(step, task)).collect::<Result<_, _>>()?;
        Ok(Ok(Response::Submitted(taken)))
    }

    /// Whether there is such a task, or can be by naming it.
    fn check_name(&self, step: &Step<'_>, number: JobNumber) -> Result<Result<(), Refusal>, StoreError> {
        if step.view().job_id(number)?.is_some() {
            return Ok(Ok(()));
        }
        let refuse = |why: String| Ok(Err(Refusal::NoSuchTask { number, why }));
        let group = number.group();
        let row = match self.row_of(step, group)? {
            Ok(row) => row,
            Err(why) => return refuse(why),
        };
        let Some(place) = row.place_of(number).filter(|place| row.is_array && *place < row.of) else {
            return refuse(tasks_of(&row, group));
        };
        if place < row.made || !self.groups.contains_key(&group) {
            return refuse(format!(
                "it was dropped with its array before it began; `jobmesh retry {group}` brings it back"
            ));
        }
        match self.not_begun(group) {
            Some(why) => refuse(why),
            None => Ok(Ok(())),
        }
    }

    /// What is known of a group, or why it has no tasks.
    fn row_of(&self, step: &Step<'_>, group: JobNumber) -> Result<Result<Group, String>, StoreError> {
        if let Some(known) = self.groups.get(&group) {
            return Ok(Ok(known.row.clone()));
        }
        if let Some(row) = step.view().group(group)? {
            return Ok(Ok(row));
        }
        Ok(Err(match step.view().state_of(group)? {
            Some(_) => format!("job {group} has no tasks"),
            None if group.number() <= self.last_number => format!("job {group} was deleted"),
            None => format!("this node has had no job {group} yet"),
        }))
    }

    /// Why no task of an array can be made yet.
    fn not_begun(&self, group: JobNumber) -> Option<String> {
        let state = self.groups.get(&group)?.job.state;
        let has_begun = matches!(state, JobState::Available | JobState::Running);
        (!has_begun).then(|| format!("array {group} is {state} and has no tasks until it begins"))
    }

    /// Makes a task that was found to be still to be made, or says which job it is.
    fn name_task(&mut self, step: &mut Step<'_>, number: JobNumber) -> Result<Taken, StoreError> {
        let known_as = step.view().job_id(number)?;
        let group = number.group();
        let Some(known) = self.groups.get_mut(&group).filter(|_| known_as.is_none()) else {
            let job = known_as.ok_or(StoreError::Damaged { what: "group" })?;
            return Ok(Taken { job, number, is_new: false, is_merged: false });
        };
        known.row.early += 1;
        let parent = known.job.clone();
        self.changed_groups.insert(group);
        let mut job = task_of(step, &parent, number);
        job.held = parent.held.map(|_| HELD_WITH_ARRAY.to_owned());
        self.write_task(step, &job)?;
        Ok(Taken { job: job.id, number, is_new: true, is_merged: false })
    }

    /// Tasks that were made out of turn and have not begun are held with their array.
    pub(crate) fn hold_tasks(&mut self, step: &Step<'_>, group: JobNumber) -> Result<(), StoreError> {
        if self.groups.get(&group).is_none_or(|group| group.row.early == 0) {
            return Ok(());
        }
        for task in step.view().live_tasks(group)? {
            let Some(job) = step.view().job_by_number(task)? else { continue };
            let is_new =
                job.epoch == Epoch::default() && matches!(job.state, JobState::Available | JobState::Scheduled);
            if is_new && job.held.is_none() {
                step.txn.set_held(task, Some(HELD_WITH_ARRAY))?;
                self.unready(&job);
            }
        }
        Ok(())
    }

    /// Tasks that are held with their array are released with it.
    pub(crate) fn release_tasks(&mut self, step: &Step<'_>, group: JobNumber) -> Result<(), StoreError> {
        if self.groups.get(&group).is_none_or(|group| !group.row.is_array) {
            return Ok(());
        }
        for task in step.view().live_tasks(group)? {
            let Some(mut job) = step.view().job_by_number(task)? else { continue };
            if job.held.as_deref() == Some(HELD_WITH_ARRAY) {
                step.txn.set_held(task, None)?;
                job.held = None;
                self.follow(step, &job);
            }
        }
        Ok(())
    }
}

/// Which tasks a group has.
fn tasks_of(row: &Group, group: JobNumber) -> String {
    match (row.task_at(0), row.of.checked_sub(1).and_then(|last| row.task_at(last))) {
        (Some(first), Some(last)) if row.is_array => format!("the tasks of job {group} are {first} to {last}"),
        _ => format!("job {group} has {} tasks so far", row.of),
    }
}
