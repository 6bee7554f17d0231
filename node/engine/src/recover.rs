//! Building the engine from its database, at every start and after every commit whose fate is unknown.

use std::collections::BTreeMap;

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::ticket::ReleaseCause;
use jobmesh_protocol::{AttemptState, JobState, MonoMillis, Now, Outcome, RunId};
use jobmesh_store::{Attempt, Job, LeasePhase, StoreError, Txn};
use rand_core::Rng;

use crate::capability::own_record;
use crate::config::Config;
use crate::engine::Engine;
use crate::input::Process;
use crate::learning::Learned;
use crate::output::{Output, Outputs};
use crate::peers::{Peer, Peers};
use crate::ready::Ready;
use crate::run::{Conclusion, Running};
use crate::step::Step;
use crate::timers::Timers;
use crate::transition::Shift;

impl Engine {
    /// Rebuilds the engine from the database inside an open transaction. Its outputs wait for the commit.
    ///
    /// Attempts that an earlier boot of this node left open are lost, at once: nobody runs them any more, or what
    /// still runs is killed. Attempts of `config.boot` itself are alive: the database failed, not the daemon.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn recover(config: Config, now: Now, rng: &mut dyn Rng, txn: &Txn<'_>) -> Result<Self, StoreError> {
        let record = own_record(&config, txn.view(), now.wall)?;
        let mut engine = Self {
            me: config.identity.node(),
            mesh: config.mesh,
            config,
            outputs: Outputs::default(),
            timers: Timers::default(),
            stirred: true,
            is_draining: false,
            record,
            record_envelope: Vec::new(),
            ready: Ready::default(),
            running: BTreeMap::new(),
            auctions: BTreeMap::new(),
            patience: BTreeMap::new(),
            awarded: BTreeMap::new(),
            holds: BTreeMap::new(),
            held: BTreeMap::new(),
            fetches: BTreeMap::new(),
            peers: Peers::new(),
            meet_after: MonoMillis(0),
            learned: Learned::default(),
            counters: BTreeMap::new(),
        };
        engine.record_envelope = engine.seal(Kind::Capability, &engine.record);
        let mut step = Step { now, rng, txn };
        engine.recover_state(&mut step)?;
        engine.schedule(&mut step)?;
        Ok(engine)
    }

    fn recover_state(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        self.write_membership(step)?;
        self.forget_outbox_if_broken(step)?;
        for row in step.view().peers()? {
            let peer = Peer { name: row.name, addresses: row.addresses, is_member: true, ..Peer::default() };
            self.peers.insert(row.node, peer);
        }
        self.recover_records(step)?;
        self.recover_learning(step)?;
        for job in step.view().live_jobs()? {
            self.recover_job(step, job)?;
        }
        self.publish_digest(step)
    }

    #[cfg(feature = "mutants")]
    fn forget_outbox_if_broken(&self, step: &Step<'_>) -> Result<(), StoreError> {
        match self.config.mutant {
            Some(crate::Mutant::ForgetOutbox) => step.txn.clear_outbox(),
            Some(_) | None => Ok(()),
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the other half is a seeded bug of the simulator"
    )]
    const fn forget_outbox_if_broken(&self, _step: &Step<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn recover_job(&mut self, step: &mut Step<'_>, job: Job) -> Result<(), StoreError> {
        match job.state {
            JobState::Available | JobState::Scheduled | JobState::Retryable => {
                self.follow(step, &job);
                Ok(())
            }
            JobState::Offered | JobState::Running => self.recover_attempt(step, job),
            JobState::Pending | JobState::Suspended => Ok(()),
            JobState::Completed | JobState::Discarded | JobState::Cancelled | JobState::Skipped => Ok(()),
        }
    }

    fn recover_attempt(&mut self, step: &mut Step<'_>, mut job: Job) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let open = step.view().attempt(run)?.filter(|attempt| !attempt.state.is_final());
        match open {
            Some(attempt) if attempt.node != self.me => self.recover_award(step, &job, &attempt),
            Some(attempt) if attempt.boot == Some(self.config.boot) => self.recover_run(step, &job, &attempt),
            Some(attempt) => self.lose_run(step, job, run, &attempt),
            None => {
                // Out for bids when the daemon stopped: nothing was awarded.
                let shift = Shift::new(&job, Cause::Unclaimed).because(Some("the node restarted during the auction"));
                self.shift(step, &mut job, &shift)?;
                Ok(())
            }
        }
    }

    fn recover_award(&mut self, step: &mut Step<'_>, job: &Job, attempt: &Attempt) -> Result<(), StoreError> {
        self.resume_award(step, job, attempt.node);
        if attempt.state == AttemptState::Uploading {
            let receipt = self.stored_receipt(step, attempt)?;
            for blob in receipt.iter().flat_map(|(_, receipt)| receipt.outputs.blobs()) {
                if step.view().blob(blob.hash)?.is_none() {
                    self.fetch(step, attempt.node, blob, job.id);
                }
            }
            self.extend_for_outputs(step, job.id);
        }
        Ok(())
    }

    /// A run of this very boot: the executor still has it, or was never told. A driver drops an order for a run
    /// that it has.
    fn recover_run(&mut self, step: &mut Step<'_>, job: &Job, attempt: &Attempt) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let (resources, is_ordered) = (job.spec.resources, attempt.state == AttemptState::Running);
        self.running.insert(run, Running { resources, is_ordered });
        if let Some(lease) = step.view().lease(job.id)? {
            // How much of the lease is left is not known here. Work that may run once only must not outlive it.
            let since = match job.spec.effects {
                Effects::Once => MonoMillis(step.now.mono.0.saturating_sub(lease.lease_ms.0)),
                Effects::Pure | Effects::Idempotent => step.now.mono,
            };
            self.hold_lease(&lease, job.spec.effects, since);
        }
        match job.spec.task.input().zip(job.origin) {
            Some(_) | None if is_ordered => self.watch_run(step, job),
            Some((blob, origin)) if !self.has_arrived(blob) => self.fetch(step, origin, blob, job.id),
            Some(_) | None => self.order_run(step, job),
        }
        if job.cancel_reason.is_some() {
            // The order to stop may have been among the outputs that were never released.
            self.stop_run(step, job.clone(), run)?;
        }
        Ok(())
    }

    /// A run of an earlier boot: whatever is left of it is killed, and the attempt is lost.
    fn lose_run(&mut self, step: &mut Step<'_>, job: Job, run: RunId, attempt: &Attempt) -> Result<(), StoreError> {
        let (pid, started) = attempt.process.unwrap_or_default();
        self.outputs.push(Output::EndOrphan { run, process: Process { pid, started } });
        let outcome = Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() };
        let end = Conclusion::bare(self.me, &outcome);
        let lease = step.view().lease(job.id)?.filter(|lease| lease.phase == LeasePhase::Held);
        match (job.origin, lease) {
            (None, _) => self.conclude(step, job, run, &end),
            (Some(_), _) => self.release_lease(step, job, run, &end, ReleaseCause::Crashed),
        }
    }
}
