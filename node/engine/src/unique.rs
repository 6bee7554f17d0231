//! Jobs of which there may be only one: who holds the key, and what becomes of the second.
//!
//! The key is a column with a unique index, given to the job in the transaction that inserts it and taken from it in
//! the one that ends its right to it, so it can neither leak nor gap. A job that is tried again takes it again.
//!
//! **The hard case** is a key that goes on to a newer job while the older one runs: the newer one waits for its end, and
//! whoever takes the newer one's place waits for that end as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jobmesh_protocol::job::JobSpec;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Conflict, Span, Unique};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{Epoch, Hash, JobId, JobNumber, JobState, Submission, UnixMillis};
use jobmesh_store::{Job, StoreError};

use crate::engine::Engine;
use crate::output::{Refusal, Taken};
use crate::step::Step;
use crate::submit::{INSTANT_VARIABLE, SCHEDULE_VARIABLE};
use crate::transition::Shift;

/// What came of claiming a unique key.
pub(crate) enum Claimed {
    /// The submission becomes a job of its own.
    Free {
        /// The key that it holds.
        key: Option<Hash>,
        /// The jobs that had the key and have not ended: it waits for them, so that no two of a key run at once.
        follows: Vec<JobId>,
    },
    /// Another job answers for it.
    By(Taken),
}

impl Claimed {
    const fn free(key: Option<Hash>) -> Self {
        Self::Free { key, follows: Vec::new() }
    }
}

/// How a submission and the job that has its key stand to each other.
pub(crate) enum Meeting {
    /// Nobody has the key.
    Alone,
    /// The job that has it answers for both.
    Answered(Job),
    /// A new job takes it on, and waits for the end of the one that has it.
    Following(Job),
    /// A new job takes the place of the one that has it.
    Replacing(Job),
    /// The job that has it does this from now on, which is the work of both.
    Merging(Job, Box<JobSpec>),
    /// The job that has it waits anew, until then.
    PuttingOff(Job, UnixMillis),
    /// A new job takes it on, and waits for nobody.
    Passing(Job),
}

impl Engine {
    /// Whether a submission would be refused for its key.
    pub(crate) fn check_unique(
        &self,
        step: &Step<'_>,
        submission: &Submission,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(unique) = &submission.unique else { return Ok(Ok(())) };
        let Some(holder) = self.holder(step, unique, submission)? else { return Ok(Ok(())) };
        // A group would wait for its own task.
        let is_own_group = submission.into == Some(holder.id);
        let is_refused = unique.on_conflict == Conflict::Reject || is_own_group;
        Ok(if is_refused { Err(Refusal::Duplicate(holder.number)) } else { Ok(()) })
    }

    /// The job that keeps a submission out.
    fn holder(&self, step: &Step<'_>, unique: &Unique, submission: &Submission) -> Result<Option<Job>, StoreError> {
        let Some(job) = step.view().unique_holder(&unique.digest(&submission.spec))? else { return Ok(None) };
        let is_in_the_way = match job.plan.unique {
            Some(Span::Period(period)) => step.wall() < job.created_at.plus(period),
            Some(Span::Incomplete | Span::Retained) | None => true,
        };
        Ok(is_in_the_way.then_some(job))
    }

    /// How a submission with a unique key and the job that has it stand to each other.
    pub(crate) fn meeting(
        &self,
        step: &Step<'_>,
        unique: &Unique,
        submission: &Submission,
    ) -> Result<Meeting, StoreError> {
        let Some(holder) = self.holder(step, unique, submission)? else { return Ok(Meeting::Alone) };
        // A group has no attempts of its own, and its tasks may run while it waits itself.
        let has_started = holder.epoch > Epoch::default()
            || holder.state.is_final()
            || holder.state == JobState::Running
            || self.has_tasks(&holder);
        let is_underway = self.is_underway(&holder);
        Ok(match unique.on_conflict {
            Conflict::Return | Conflict::Reject => Meeting::Answered(holder),
            // A job that runs is never changed: its key goes to the one that follows it.
            Conflict::Replace if is_underway => Meeting::Following(holder),
            Conflict::Merge | Conflict::Debounce(_) if has_started => Meeting::Following(holder),
            Conflict::Replace => Meeting::Replacing(holder),
            Conflict::Merge => match merged(&holder, submission) {
                Some(spec) => Meeting::Merging(holder, Box::new(spec)),
                None => Meeting::Following(holder),
            },
            // It waits for other jobs, and must not start without them when its time has come.
            Conflict::Debounce(_) if holder.state == JobState::Pending => Meeting::Answered(holder),
            Conflict::Debounce(wait) => Meeting::PuttingOff(holder, step.wall().plus(wait)),
            Conflict::Throttle(pause) if step.wall() >= holder.created_at.plus(pause) && has_started => {
                Meeting::Passing(holder)
            }
            Conflict::Throttle(_) => Meeting::Answered(holder),
        })
    }

    /// The jobs that a submission would wait for on account of its key.
    pub(crate) fn key_upstream(&self, step: &Step<'_>, submission: &Submission) -> Result<Vec<JobId>, StoreError> {
        let Some(unique) = &submission.unique else { return Ok(Vec::new()) };
        match self.meeting(step, unique, submission)? {
            Meeting::Following(holder) => Ok(followed(&holder)),
            Meeting::Replacing(holder) => {
                let (_, follows) = self.replaced(step, &unique.digest(&submission.spec), holder)?;
                Ok(follows)
            }
            Meeting::Alone
            | Meeting::Answered(_)
            | Meeting::Merging(..)
            | Meeting::PuttingOff(..)
            | Meeting::Passing(_) => Ok(Vec::new()),
        }
    }

    /// Claims the key of a submission, or does to the job that has it what the submission says.
    pub(crate) fn claim_unique(&mut self, step: &mut Step<'_>, submission: &Submission) -> Result<Claimed, StoreError> {
        let Some(unique) = &submission.unique else { return Ok(Claimed::free(None)) };
        let key = unique.digest(&submission.spec);
        match self.meeting(step, unique, submission)? {
            Meeting::Alone => {
                // Whoever still has it has outlived its period.
                if let Some(late) = step.view().unique_holder(&key)? {
                    step.txn.free_unique_key(late.number)?;
                }
                Ok(Claimed::free(Some(key)))
            }
            Meeting::Answered(holder) => Ok(Claimed::By(answer(&holder))),
            Meeting::Following(holder) => {
                step.txn.free_unique_key(holder.number)?;
                Ok(Claimed::Free { key: Some(key), follows: followed(&holder) })
            }
            Meeting::Replacing(holder) => {
                step.txn.free_unique_key(holder.number)?;
                let (replaced, follows) = self.replaced(step, &key, holder)?;
                for job in replaced {
                    self.replace(step, job)?;
                }
                Ok(Claimed::Free { key: Some(key), follows })
            }
            Meeting::Merging(holder, spec) => self.merge(step, holder, *spec).map(Claimed::By),
            Meeting::PuttingOff(holder, until) => self.put_off(step, holder, until).map(Claimed::By),
            Meeting::Passing(holder) => {
                step.txn.free_unique_key(holder.number)?;
                Ok(Claimed::free(Some(key)))
            }
        }
    }

    /// Whether a job can't be replaced any more, only waited for. Between two attempts there is nothing to wait for; those
    /// that were stay in its history.
    fn is_underway(&self, job: &Job) -> bool {
        match job.state {
            JobState::Running | JobState::Suspended => true,
            JobState::Offered => self.awarded.contains_key(&job.id),
            JobState::Completed | JobState::Discarded | JobState::Cancelled | JobState::Skipped => true,
            JobState::Pending | JobState::Scheduled | JobState::Available | JobState::Retryable => self.has_tasks(job),
        }
    }

    /// Whose place a new job takes if it takes that of this one, the last to wait on account of the key: every one of
    /// those before it that is not under way. And for whom it waits instead.
    pub(crate) fn replaced(
        &self,
        step: &Step<'_>,
        key: &Hash,
        holder: Job,
    ) -> Result<(Vec<Job>, Vec<JobId>), StoreError> {
        let (mut replaced, mut follows) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::from([holder.number]);
        let mut open = vec![holder];
        while let Some(job) = open.pop() {
            for before in inherited(step, key, &job)?.into_iter().filter(|before| seen.insert(before.number)) {
                if self.is_underway(&before) {
                    follows.push(before.id);
                } else {
                    open.push(before);
                }
            }
            replaced.push(job);
        }
        Ok((replaced, follows))
    }

    /// A job that has not started makes room for a newer one.
    fn replace(&mut self, step: &mut Step<'_>, holder: Job) -> Result<(), StoreError> {
        self.drop_job(step, holder, FinishReason::Replaced, "a newer job of its unique key took its place")
    }

    /// A job that has not started also does what the newer one would have done.
    fn merge(&mut self, step: &Step<'_>, mut holder: Job, spec: JobSpec) -> Result<Taken, StoreError> {
        self.withdraw_offer(step, &mut holder, "it is to do more than was offered")?;
        step.txn.set_spec(holder.number, &spec)?;
        if holder.state == JobState::Available {
            self.unready(&holder);
        }
        holder.spec = Arc::new(spec);
        self.follow(step, &holder);
        Ok(Taken { is_merged: true, ..answer(&holder) })
    }

    /// The job that holds the unique key which a job that has ended would need again, or its group that has ended and
    /// would be taken up with it. Only a job that may still run is in the way.
    pub(crate) fn key_in_the_way(&self, step: &Step<'_>, job: &Job) -> Result<Option<JobNumber>, StoreError> {
        let own = live_rival(step, job)?;
        if own.is_some() || job.number.index().is_none() {
            return Ok(own);
        }
        match step.view().job_by_number(job.number.group())? {
            Some(group) => live_rival(step, &group),
            None => Ok(None),
        }
    }

    /// A job that is tried again has its unique key again.
    pub(crate) fn take_key_again(&self, step: &Step<'_>, job: &Job) -> Result<(), StoreError> {
        let Some(key) = job.plan.unique_key else { return Ok(()) };
        match step.view().unique_holder(&key)? {
            Some(holder) if holder.number == job.number || !holder.state.is_final() => return Ok(()),
            Some(holder) => step.txn.free_unique_key(holder.number)?,
            None => {}
        }
        step.txn.give_unique_key(job.number, &key)
    }

    /// A job that has not started waits anew.
    fn put_off(&mut self, step: &mut Step<'_>, mut holder: Job, until: UnixMillis) -> Result<Taken, StoreError> {
        self.withdraw_offer(step, &mut holder, "it is put off")?;
        let shift = Shift::new(&holder, Cause::Deferred).at(until);
        self.shift(step, &mut holder, &shift)?;
        Ok(answer(&holder))
    }
}

/// The jobs that a new one waits for if it takes on the key of this one.
pub(crate) fn followed(holder: &Job) -> Vec<JobId> {
    if holder.state.is_final() { Vec::new() } else { vec![holder.id] }
}

/// The jobs that have not ended and that this one waits for on account of the key.
fn inherited(step: &Step<'_>, key: &Hash, holder: &Job) -> Result<Vec<Job>, StoreError> {
    let mut before = Vec::new();
    for (edge, _) in step.view().dependencies(holder.number)? {
        let job = step.view().job_by_number(edge.upstream)?;
        before.extend(job.filter(|job| job.plan.unique_key.as_ref() == Some(key) && !job.state.is_final()));
    }
    Ok(before)
}

const fn answer(job: &Job) -> Taken {
    Taken { job: job.id, number: job.number, is_new: false, is_merged: false }
}

/// What a job that waits is to do if it does the work of a newer one as well: its process with the arguments of both.
/// `None` if they differ in more, or are too much for one job.
fn merged(holder: &Job, submission: &Submission) -> Option<JobSpec> {
    if holder.plan.is_group || submission.array.is_some() || submission.open {
        return None;
    }
    let mut spec = (*holder.spec).clone();
    let (Task::Process(ours), Task::Process(theirs)) = (&mut spec.task, &submission.spec.task) else { return None };
    let is_alike = ours.argv.first() == theirs.argv.first()
        && ours.directory == theirs.directory
        && is_same_environment(&ours.environment, &theirs.environment)
        && ours.stdin == theirs.stdin;
    if !is_alike {
        return None;
    }
    let same = ours.argv.iter().zip(&theirs.argv).take_while(|(a, b)| a == b).count();
    if !are_mere_arguments(&ours.argv, &theirs.argv, same) {
        return None;
    }
    ours.argv.extend(theirs.argv.iter().skip(same).cloned());
    spec.check().is_ok().then_some(spec)
}

/// Whether two environments are the same but for the instants that the jobs are for.
fn is_same_environment(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> bool {
    let of_job = |(name, _): &(&String, &String)| ![SCHEDULE_VARIABLE, INSTANT_VARIABLE].contains(&name.as_str());
    ours.iter().filter(of_job).eq(theirs.iter().filter(of_job))
}

/// Programs whose first argument says what to run, so that another one there is another program.
const INTERPRETERS: [&str; 18] = [
    "sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "busybox", "env", "sudo", "nice", "perl", "ruby", "node", "php",
    "lua", "java", "pwsh",
];

/// Whether what two commands of one program don't have in common, after their first `same` words, are arguments of
/// the same thing. Behind an option stands its value, such as the script of `sh -c`, and an option changes what the
/// others mean; neither can be added to another command.
fn are_mere_arguments(ours: &[String], theirs: &[String], same: usize) -> bool {
    if same == theirs.len() {
        return true;
    }
    let mut own = ours.iter().skip(same).chain(theirs.iter().skip(same));
    let is_option = |word: &String| word.starts_with('-') && word.len() > 1;
    let is_behind_option = ours.iter().take(same).skip(1).last().is_some_and(|word| is_option(word) && word != "--");
    let program = ours.first().map(|program| program.rsplit('/').next().unwrap_or(program)).unwrap_or_default();
    let is_interpreter = INTERPRETERS.contains(&program) || program.starts_with("python");
    !is_behind_option && !own.any(is_option) && (same > 1 || !is_interpreter)
}

/// Another job that has not ended and holds the key which an ended job does not hold any more.
pub(crate) fn live_rival(step: &Step<'_>, job: &Job) -> Result<Option<JobNumber>, StoreError> {
    let Some(key) = job.plan.unique_key.filter(|_| job.state.is_final()) else { return Ok(None) };
    let holder = step.view().unique_holder(&key)?;
    Ok(holder.filter(|holder| holder.number != job.number && !holder.state.is_final()).map(|holder| holder.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second script was given to the first one as its arguments.
    #[test]
    fn only_what_is_an_argument_of_the_same_thing_is_added() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (ours, theirs, expected) in [
            ("work a", "work b", true),
            ("work", "work b", true),
            ("work a", "work", true),
            ("work -v a", "work -v a", true),
            ("gzip -- a", "gzip -- b", true),
            ("sh -c script x a", "sh -c script x b", true),
            ("sh -c one", "sh -c two", false),
            ("/bin/sh -c one", "/bin/sh two", false),
            ("/bin/sh one", "/bin/sh two", false),
            ("sh one a", "sh one b", true),
            ("python3.12 one.py", "python3.12 two.py", false),
            ("perl -e one", "perl -e two", false),
            ("work --fast a", "work b", false),
            ("work a", "work --to x b", false),
        ] {
            let (ours, theirs) = (words(ours), words(theirs));
            let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            assert_eq!(are_mere_arguments(&ours, &theirs, same), expected, "{ours:?} {theirs:?}");
        }
    }
}
