//! Taking a job on.

use jobmesh_protocol::job::{JobSpec, Scope, Task};
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{Epoch, JobId, JobState};
use jobmesh_store::{NewJob, StoreError};

use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::step::Step;
use crate::transition::Shift;

/// What a command comes to: an answer for whoever asked, or a database that failed under it.
pub(crate) type Answer = Result<Result<Response, Refusal>, StoreError>;

impl Engine {
    pub(crate) fn submit(&mut self, step: &mut Step<'_>, spec: &JobSpec) -> Answer {
        if self.is_draining {
            return Ok(Err(Refusal::Draining));
        }
        if let Err(error) = check(spec) {
            return Ok(Err(Refusal::BadSpec(error)));
        }
        let id = JobId::new(step.wall(), &step.random());
        let new =
            NewJob { id, state: JobState::Available, spec, epoch: Epoch::default(), origin: None, at: step.wall() };
        let number = step.txn.insert_job(&new)?;
        self.enter(step, id)?;
        Ok(Ok(Response::Submitted { job: id, number }))
    }

    /// Announces a job that was just inserted as available.
    pub(crate) fn enter(&mut self, step: &Step<'_>, id: JobId) -> Result<(), StoreError> {
        if let Some(job) = step.view().job(id)? {
            self.announce(step, &job, &Shift::new(&job, Cause::Ready))?;
            self.follow(step, &job);
        }
        Ok(())
    }
}

/// The bounds of a spec, and what its parts forbid each other.
fn check(spec: &JobSpec) -> Result<(), String> {
    spec.check().map_err(|error| error.to_string())?;
    let Task::Process(process) = &spec.task;
    if process.directory.is_some() && spec.scope != Scope::Local {
        return Err(
            "a working directory exists on this node only; run the job here or leave the directory out".to_owned()
        );
    }
    Ok(())
}
