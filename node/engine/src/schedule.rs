//! What starts next: jobs that this node can run while it has room, then auctions for the others.

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{JobId, JobSpec, JobState};
use jobmesh_store::StoreError;

use crate::admission::{Snapshot, blocked, lacks};
use crate::engine::Engine;
use crate::step::Step;
use crate::transition::Shift;

/// How far past a job that does not fit the scheduler looks: a bound on the work of one step.
const LOOKAHEAD: usize = 64;
/// Auctions open at once: each costs a few messages, and a burst must not flood the peers.
const AUCTIONS_MAX: usize = 16;

impl Engine {
    /// Starts whatever can start, if anything changed since the last time.
    pub(crate) fn schedule(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.stirred) || self.is_draining {
            return Ok(());
        }
        self.fill_slots(step)?;
        self.open_auctions(step)
    }

    fn fill_slots(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        while self.idle().1 > 0 {
            let mut started = false;
            for id in self.ready.here(LOOKAHEAD) {
                let Some(job) = step.view().job(id)? else { continue };
                if blocked(&job.spec, &self.snapshot()).is_empty() {
                    started |= self.start_run(step, job)?;
                }
                if self.idle().1 == 0 {
                    return Ok(());
                }
            }
            if !started {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open_auctions(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        let overflow = self.ready.here(LOOKAHEAD);
        for id in self.ready.away(LOOKAHEAD).into_iter().chain(overflow) {
            if self.auctions.len() >= AUCTIONS_MAX {
                return Ok(());
            }
            if self.patience.get(&id).is_some_and(|patience| patience.until > step.now.mono) {
                continue;
            }
            let Some(job) = step.view().job(id)? else { continue };
            if job.state == JobState::Available && job.origin.is_none() && job.spec.scope != Scope::Local {
                self.open_auction(step, job)?;
            }
        }
        Ok(())
    }

    /// What admission looks at.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let (free, free_slots) = self.idle();
        Snapshot { record: &self.record, free, free_slots, is_draining: self.is_draining }
    }

    /// Whether this node could run such a job when idle.
    pub(crate) fn is_capable(&self, spec: &JobSpec) -> bool {
        spec.scope != Scope::Network && lacks(&self.record, spec).is_empty()
    }

    /// A scheduled or retryable job's time has come.
    pub(crate) fn on_due(&mut self, step: &Step<'_>, id: JobId) -> Result<(), StoreError> {
        let Some(mut job) = step.view().job(id)? else { return Ok(()) };
        match job.state {
            JobState::Scheduled | JobState::Retryable if job.run_at.is_some_and(|at| at > step.wall()) => {
                // The wall clock was set back meanwhile: wait for what is left.
                self.follow(step, &job);
            }
            JobState::Scheduled | JobState::Retryable => {
                let shift = Shift::new(&job, Cause::Due);
                self.shift(step, &mut job, &shift)?;
            }
            JobState::Pending
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => {}
        }
        Ok(())
    }
}
