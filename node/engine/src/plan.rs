//! What would become of a submission, without taking it on.
//!
//! It goes through the same questions as a real one, in the same order: the checks, an earlier submission of the same
//! name, the job that has its unique key, and then the job that it would be. **The hard case** is a submission that
//! another job answers for: it is that job which is explained, as it would be then.

use std::sync::Arc;

use jobmesh_protocol::submission::{Condition, Dependency};
use jobmesh_protocol::{JobState, Submission};
use jobmesh_store::{Job, StoreError};

use crate::engine::Engine;
use crate::explain::Explanation;
use crate::output::Response;
use crate::step::Step;
use crate::submit::{Answer, hypothetical};
use crate::unique::{Meeting, followed};

impl Engine {
    /// Says what would become of a submission.
    pub(crate) fn plan(&self, step: &mut Step<'_>, submission: Submission) -> Answer {
        if let Err(refusal) = self.check_all(step, std::slice::from_ref(&submission))? {
            return Ok(Err(refusal));
        }
        let explanation = match self.answering(step, &submission)? {
            Some((job, how)) => self.present(step, &job, how)?,
            None => self.prospect(step, submission)?,
        };
        Ok(Ok(Response::Explained(Box::new(explanation))))
    }

    /// The job that would answer for a submission, as it would be then, and how it stands to it.
    fn answering(&self, step: &Step<'_>, submission: &Submission) -> Result<Option<(Job, &'static str)>, StoreError> {
        if let Some(taken) = self.named(step, submission)? {
            let job = step.view().job(taken.job)?;
            return Ok(job.map(|job| (job, "was submitted under the same idempotency key")));
        }
        let Some(unique) = &submission.unique else { return Ok(None) };
        Ok(match self.meeting(step, unique, submission)? {
            Meeting::Answered(holder) => Some((holder, "has the same unique key")),
            Meeting::Merging(mut holder, spec) => {
                holder.spec = Arc::from(spec);
                Some((holder, "has the same unique key and would do the work of both"))
            }
            Meeting::PuttingOff(mut holder, until) => {
                (holder.state, holder.run_at) = (JobState::Scheduled, Some(until));
                Some((holder, "has the same unique key and would be put off"))
            }
            Meeting::Alone | Meeting::Following(_) | Meeting::Replacing(_) | Meeting::Passing(_) => None,
        })
    }

    /// Explains a job that is there already.
    fn present(&self, step: &Step<'_>, job: &Job, how: &str) -> Result<Explanation, StoreError> {
        let edges = step.view().dependencies(job.number)?;
        let mut explanation = self.explanation(step, (job, &edges), Some(job.number))?;
        explanation.summary = format!("{how}; nothing new would be queued. It {}", explanation.summary);
        Ok(explanation)
    }

    /// Explains the job that a submission would become.
    fn prospect(&self, step: &mut Step<'_>, mut submission: Submission) -> Result<Explanation, StoreError> {
        let mut replaced = None;
        let follows = match &submission.unique {
            None => Vec::new(),
            Some(unique) => match self.meeting(step, unique, &submission)? {
                Meeting::Following(holder) => followed(&holder),
                Meeting::Replacing(holder) => {
                    replaced = Some(holder.number);
                    self.replaced(step, &unique.digest(&submission.spec), holder)?.1
                }
                Meeting::Alone
                | Meeting::Answered(_)
                | Meeting::Merging(..)
                | Meeting::PuttingOff(..)
                | Meeting::Passing(_) => Vec::new(),
            },
        };
        let end = |job| Dependency { job, on: Some(Condition::Done) };
        submission.after.extend(follows.into_iter().map(end));
        let (job, edges) = hypothetical(self, step, submission)?;
        let mut explanation = self.explanation(step, (&job, &edges), None)?;
        if job.state == JobState::Skipped {
            explanation.summary = explanation.summary.replacen("was skipped", "would be skipped", 1);
        }
        if let Some(replaced) = replaced {
            explanation.summary = format!("would take the place of job {replaced}. It {}", explanation.summary);
        }
        for reason in &mut explanation.reasons {
            // It has no number yet that a command could name.
            match reason.kind {
                "held" => "submit it without --hold".clone_into(&mut reason.remedy),
                "time" => "submit it without --at and --delay".clone_into(&mut reason.remedy),
                _ => {}
            }
        }
        Ok(explanation)
    }
}
