//! Building the engine from its database, at every start and after every commit whose fate is unknown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::ticket::ReleaseCause;
use jobmesh_protocol::{AttemptState, DurationMillis, JobState, MonoMillis, Now, Outcome, RunId, cbor};
use jobmesh_store::{Attempt, Job, LeasePhase, StoreError, Txn};
use rand_core::Rng;

use crate::capability::{own_record, renew_version};
use crate::config::Config;
use crate::ends::Ends;
use crate::engine::Engine;
use crate::group::Tasked;
use crate::input::Process;
use crate::late::Late;
use crate::learning::Learned;
use crate::mutant::Mutant;
use crate::output::{Output, Outputs, StopReason};
use crate::peers::{Peer, Peers};
use crate::pool::{Allocation, Pools};
use crate::queue::Queues;
use crate::ready::Ready;
use crate::report::Reported;
use crate::run::{Conclusion, Running};
use crate::session::Outgoing;
use crate::start::SUCCESSOR_PATIENCE;
use crate::step::Step;
use crate::timers::{Timer, Timers};
use crate::transition::Shift;

/// Largest encoded allocation.
const ALLOCATION_BYTES_MAX: usize = 256 * 1024;

impl Engine {
    /// Rebuilds the engine from the database inside an open transaction. Its outputs wait for the commit.
    ///
    /// Attempts that an earlier boot of this node left open are looked for, at once: what still runs is watched
    /// again, what does not is lost, and nothing waits for a timer. Attempts of `config.boot` itself are alive: the
    /// database failed, not the daemon.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn recover(config: Config, now: Now, rng: &mut dyn Rng, txn: &Txn<'_>) -> Result<Self, StoreError> {
        let pools = Pools::new(config.detected.pools.clone()).map_err(|_| StoreError::Damaged { what: "pool" })?;
        let mut record = own_record(&config, &pools, txn.view(), now.wall)?;
        renew_version(&mut record, txn)?;
        let mut engine = Self {
            me: config.identity.node(),
            mesh: config.mesh,
            queues: Queues::new(config.declared.queues.clone()),
            config,
            outputs: Outputs::default(),
            timers: Timers::default(),
            stirred: true,
            looks_on: false,
            sweeps: BTreeMap::new(),
            offered_up_to: BTreeMap::new(),
            has_misplaced: false,
            is_draining: false,
            record,
            record_envelope: Vec::new(),
            ready: Ready::default(),
            running: BTreeMap::new(),
            holders: BTreeMap::new(),
            slots_taken: 0,
            pools,
            groups: BTreeMap::new(),
            changed_groups: BTreeSet::new(),
            failed_groups: Vec::new(),
            schedules: BTreeMap::new(),
            next_schedule: 0,
            awaited: BTreeSet::new(),
            ended_upstream: Vec::new(),
            removing: BTreeSet::new(),
            last_number: 0,
            durations: BTreeMap::new(),
            clock_offset: i128::from(now.wall.0) - i128::from(now.mono.0),
            auctions: BTreeMap::new(),
            patience: BTreeMap::new(),
            awarded: BTreeMap::new(),
            late: Late::new(),
            holds: BTreeMap::new(),
            slot_leases: BTreeMap::new(),
            hosted: BTreeMap::new(),
            held: BTreeMap::new(),
            unaccepted: BTreeMap::new(),
            fetches: BTreeMap::new(),
            peers: Peers::new(),
            outgoing: Outgoing::default(),
            sent_up_to: txn.view().last_numbers()?.into_iter().collect(),
            renew_after: MonoMillis(0),
            heard: VecDeque::new(),
            unfit: crate::quota::Unfit::default(),
            crowd: BTreeSet::new(),
            matches: crate::matching::Matches::default(),
            seek_after: MonoMillis(0),
            addresses: Vec::new(),
            meet_after: MonoMillis(0),
            outgrow_after: MonoMillis(0),
            learned: Learned::default(),
            ends: Ends::default(),
            counters: BTreeMap::new(),
        };
        engine.record_envelope = engine.seal(Kind::Capability, &engine.record);
        let mut step = Step { now, rng, txn };
        engine.recover_state(&mut step)?;
        // What fell due while nobody was here comes before anything starts: a deadline may have passed.
        engine.on_due_timers(&mut step)?;
        engine.finish_step(&mut step)?;
        Ok(engine)
    }

    fn recover_state(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        self.write_membership(step)?;
        if self.config.plays(Mutant::ForgetOutbox) {
            step.txn.clear_outbox()?;
        }
        for row in step.view().peers()? {
            let peer = Peer { name: row.name, addresses: row.addresses, is_member: true, ..Peer::default() };
            self.peers.insert(row.node, peer);
        }
        self.recover_records(step)?;
        self.recover_learning(step)?;
        self.recover_queues(step)?;
        self.recover_schedules(step)?;
        self.awaited = step.view().awaited()?.into_iter().collect();
        self.last_number = step.view().last_job_number()?.map_or(0, jobmesh_protocol::JobNumber::number);
        self.recover_jobs(step)?;
        self.recover_removals(step)?;
        let declared = self.config.declared.schedules.clone();
        if !self.declare_schedules(step, declared)?.is_empty() {
            // The daemon checks its configuration before it starts, so this is a zone that went away meanwhile.
            self.count("refused_declared_schedule");
        }
        self.publish_digest(step)
    }

    fn recover_jobs(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        // What is open is looked at after the rest, since what becomes of it changes rows that are being read here.
        let mut open = Vec::new();
        let view = step.txn.view();
        view.each_live_job(|job| {
            if job.plan.is_group
                && let Some(row) = view.group(job.number)?
            {
                self.groups.insert(job.number, Tasked { job: job.clone(), row, running: 0 });
            }
            match job.state {
                JobState::Offered | JobState::Running if !job.plan.is_group => {
                    self.occupy(&job, JobState::Available, job.state);
                    self.watch_expiry(step, &job);
                    open.push(job);
                }
                JobState::Available
                | JobState::Scheduled
                | JobState::Retryable
                | JobState::Pending
                | JobState::Offered
                | JobState::Running
                | JobState::Suspended
                | JobState::Completed
                | JobState::Discarded
                | JobState::Cancelled
                | JobState::Skipped => self.follow(step, &job),
            }
            Ok::<(), StoreError>(())
        })?;
        let mut unstarted = Vec::new();
        for job in open {
            unstarted.extend(self.recover_attempt(step, job)?);
        }
        for (job, attempt) in unstarted {
            self.recover_run(step, &job, &attempt)?;
        }
        self.has_misplaced = true;
        self.recover_late(step)
    }

    /// Takes an open attempt up. Gives back one of this boot that has not started, for when it is known which have.
    fn recover_attempt(&mut self, step: &mut Step<'_>, mut job: Job) -> Result<Option<(Job, Attempt)>, StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let open = step.view().attempt(run)?.filter(|attempt| !attempt.state.is_final());
        match open {
            Some(attempt) if attempt.node != self.me => self.recover_award(step, &job, &attempt)?,
            Some(attempt) if attempt.boot == Some(self.config.boot) => match attempt.state {
                AttemptState::Running => self.recover_run(step, &job, &attempt)?,
                AttemptState::Awarded
                | AttemptState::Starting
                | AttemptState::Uploading
                | AttemptState::Succeeded
                | AttemptState::Failed
                | AttemptState::TimedOut
                | AttemptState::Cancelled
                | AttemptState::Released
                | AttemptState::Rejected
                | AttemptState::Lost
                | AttemptState::Superseded => return Ok(Some((job, attempt))),
            },
            Some(attempt) if job.origin.is_some() || self.config.has_rebooted => {
                self.lose_run(step, job, run, &attempt)?;
            }
            Some(attempt) => self.look_for_run(step, job, run, &attempt)?,
            None => {
                // Out for bids when the daemon stopped: nothing was awarded.
                let shift = Shift::new(&job, Cause::Unclaimed).because(Some("the node restarted during the auction"));
                self.shift(step, &mut job, &shift)?;
            }
        }
        Ok(None)
    }

    fn recover_award(&mut self, step: &mut Step<'_>, job: &Job, attempt: &Attempt) -> Result<(), StoreError> {
        self.resume_award(step, job, attempt.node);
        if attempt.state == AttemptState::Uploading {
            let receipt = self.stored_receipt(step, attempt)?;
            let missing = match receipt {
                Some((_, receipt)) => self.missing(step, (attempt.node, &receipt))?,
                None => Vec::new(),
            };
            for wanted in missing {
                self.fetch(step, wanted, RunId { job: job.id, epoch: job.epoch });
            }
            self.extend_for_outputs(step, job.id);
        }
        Ok(())
    }

    /// Takes a run up again that was given room before. What it was given is recorded; if that is not there any more
    /// it goes on without, since it runs all the same.
    fn resume_run(&mut self, job: &Job, run: RunId, attempt: &Attempt, is_ordered: bool) {
        let claimed = recorded(attempt).filter(|allocation| self.pools.claim(allocation).is_ok());
        let nothing = Allocation { variant: 0, shares: Vec::new() };
        let running = Running {
            job: job.clone(),
            allocation: Some(claimed.unwrap_or(nothing)),
            follows: None,
            first: None,
            successors: VecDeque::new(),
            profile: None,
            is_ordered,
            level: self.level_of(&job.spec, job.origin),
            reported: Reported::default(),
            stopped_for: None,
        };
        self.insert_running(run, running);
    }

    /// A run of this very boot: the executor still has it, or was never told. A driver drops an order for a run
    /// that it has.
    fn recover_run(&mut self, step: &mut Step<'_>, job: &Job, attempt: &Attempt) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let is_ordered = attempt.state == AttemptState::Running;
        if let Some(head) = self.head_for(job, attempt).filter(|_| !is_ordered) {
            self.resume_behind(step, job, run, head);
            return self.stop_if_cancelled(step, job, run);
        }
        let has_input = job.origin.is_some() && job.spec.blobs().next().is_some();
        if has_input && !is_ordered && job.spec.effects == Effects::Once {
            return self.lose_unsure_run(step, job.clone(), run);
        }
        self.resume_run(job, run, attempt, is_ordered);
        if let Some(lease) = step.view().lease(job.id)? {
            // How much of the lease is left is not known here. Work that may run once only must not outlive it.
            let since = match job.spec.effects {
                Effects::Once => MonoMillis(step.now.mono.0.saturating_sub(lease.lease_ms.0)),
                Effects::Pure | Effects::Idempotent => step.now.mono,
            };
            self.hold_lease(&lease, (job.spec.effects, None), since);
        }
        if is_ordered {
            self.watch_run(step, run, ran(step, attempt));
        } else {
            self.order_when_ready(step, run);
        }
        self.stop_if_cancelled(step, job, run)
    }

    /// A run of this very boot that must not run twice and waited for its input, as far as the database knows. The input
    /// may have come, and the run have begun, in steps that wrote nothing down. So it can't be given back for another
    /// attempt: nobody knows that it did not start. What may live of it is stopped, and its origin hears that it is lost.
    fn lose_unsure_run(&mut self, step: &mut Step<'_>, job: Job, run: RunId) -> Result<(), StoreError> {
        self.outputs.push(Output::Stop { run, reason: StopReason::LeaseEnded });
        let outcome = Outcome::Lost { reason: "the database failed before it was known to have started".to_owned() };
        self.release_lease(step, job, run, &Conclusion::bare(self.me, &outcome), ReleaseCause::Crashed)
    }

    /// Stops a run that was to be stopped: the order may have been among the outputs that were never released.
    fn stop_if_cancelled(&mut self, step: &mut Step<'_>, job: &Job, run: RunId) -> Result<(), StoreError> {
        match job.cancel_reason {
            Some(_) => self.stop_run(step, run, crate::group::Force::Gentle),
            None => Ok(()),
        }
    }

    /// The run behind which one that has not started waits, if every slot is taken: it had been claimed as a
    /// successor, and if its order was lost with a failed commit it must not start beside the others.
    ///
    /// The executor may have the order all the same, and starts the run behind the one it was claimed behind, in its
    /// place and with its resources. So what was given to it must be what the head has: behind another one, the pools
    /// would get resources back that it still uses.
    fn head_for(&self, job: &Job, attempt: &Attempt) -> Option<RunId> {
        let is_like = |running: &Running| running.follows.is_none() && running.job.origin == job.origin;
        if let Some(given) = recorded(attempt).filter(|given| !given.shares.is_empty()) {
            let has_it = |running: &Running| running.allocation.as_ref() == Some(&given);
            return self.running.iter().find(|(_, other)| is_like(other) && has_it(other)).map(|(run, _)| *run);
        }
        if self.free_slots() > 0 {
            return None;
        }
        let profile = self.profile(job);
        let alike =
            self.running.iter().filter(|(_, running)| is_like(running) && self.profile(&running.job) == profile);
        alike.min_by_key(|(_, running)| running.successors.len()).map(|(run, _)| *run)
    }

    /// Takes a run up that waits behind another one.
    fn resume_behind(&mut self, step: &Step<'_>, job: &Job, run: RunId, head: RunId) {
        self.occupy(job, JobState::Running, JobState::Available);
        let running = Running {
            job: job.clone(),
            allocation: None,
            follows: Some(head),
            first: None,
            successors: VecDeque::new(),
            profile: Some(std::sync::Arc::new(self.profile(job))),
            is_ordered: false,
            level: self.level_of(&job.spec, job.origin),
            reported: Reported::default(),
            stopped_for: None,
        };
        self.insert_running(run, running);
        self.order_run(step, run);
        if let Some(running) = self.running.get_mut(&head) {
            running.successors.push_back(run);
        }
        self.timers.set(Timer::SuccessorWaits(run), step.now.mono.plus(SUCCESSOR_PATIENCE));
    }

    /// A run of an earlier daemon of this node, on a machine that was not restarted: its process may live. Whether it
    /// does is for the driver to see; until it has said so the run keeps what it was given.
    fn look_for_run(&mut self, step: &mut Step<'_>, job: Job, run: RunId, attempt: &Attempt) -> Result<(), StoreError> {
        // It is this boot's once the driver has found it: should this very transaction have failed after all, and the
        // question with it been lost, it is asked again.
        self.resume_run(&job, run, attempt, true);
        if self.config.plays(Mutant::OrphanAsNew) {
            self.order_run(step, run);
            return Ok(());
        }
        let process = attempt.process.map(|(pid, started)| Process { pid, started });
        let Some(running) = self.running.get(&run) else { return Ok(()) };
        let order = crate::run::job_order(&job, (run, None), running.allocation.clone(), running.level);
        self.outputs.push(Output::Adopt { order: Box::new(order), process });
        self.watch_run(step, run, ran(step, attempt));
        self.stop_if_cancelled(step, &job, run)
    }

    /// A run of an earlier daemon that can't be alive, or must not be: its lease is over.
    fn lose_run(&mut self, step: &mut Step<'_>, job: Job, run: RunId, attempt: &Attempt) -> Result<(), StoreError> {
        if !self.config.has_rebooted {
            let (pid, started) = attempt.process.unwrap_or_default();
            self.outputs.push(Output::EndOrphan { run, process: Process { pid, started } });
        }
        let outcome = Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() };
        let end = Conclusion::bare(self.me, &outcome);
        let lease = step.view().lease(job.id)?.filter(|lease| lease.phase == LeasePhase::Held);
        match (job.origin, lease) {
            (None, _) => self.conclude(step, job, run, &end),
            (Some(_), _) => self.release_lease(step, job, run, &end, ReleaseCause::Crashed),
        }
    }
}

/// How long an attempt has run, by the clock on the wall.
fn ran(step: &Step<'_>, attempt: &Attempt) -> DurationMillis {
    attempt.started_at.map_or(DurationMillis(0), |at| step.wall().since(at))
}

/// What a run was given, as it was written down.
fn recorded(attempt: &Attempt) -> Option<Allocation> {
    attempt.allocation.as_deref().and_then(|bytes| cbor::decode(bytes, ALLOCATION_BYTES_MAX).ok())
}
