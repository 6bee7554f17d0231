//! The origin's side of a lease: what it has awarded, until a receipt, a release, or the end of its patience.
//!
//! The executor counts a lease from when it *sent* the bid or heartbeat, the origin from when it *received* it and a
//! little longer, so the executor always stops first, whatever the network did, as long as their clocks run at
//! rates within 1 % of each other. No clock has to agree with another.

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::outcome::Outcome;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::ticket::{
    Accept, Accepted, Cancel, Grant, Heartbeat, LEASES_MAX, LeaseKey, Release, ReleaseCause,
};
use jobmesh_protocol::{BidId, DurationMillis, Epoch, JobId, JobSpec, JobState, MonoMillis, NodeId, RunId};
use jobmesh_store::{Job, StoreError};

use crate::auction::EXCLUDED_FOR;
use crate::engine::Engine;
use crate::mutant::Mutant;
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;

/// How long a peer is not asked for a job that it had no room for under a slot lease.
const BUSY_FOR: DurationMillis = DurationMillis::from_secs(1);

/// An open attempt on a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awarded {
    pub(crate) node: NodeId,
    pub(crate) epoch: Epoch,
    /// When the executor should long have stopped it for having run too long, if the job has a timeout.
    deadline: Option<MonoMillis>,
    /// Until when its outputs may be on the way, once its receipt is here.
    outputs_until: Option<MonoMillis>,
    /// The slot lease under which it was given.
    pub(crate) slots: Option<BidId>,
}

/// The slowest line that the inputs of a job with a time limit still get through: half a megabit a second.
const INPUT_BYTES_PER_SECOND: u64 = 64 << 10;

/// Time for a tree of inputs, whose size is not known before it is read.
const TREE_TIME: DurationMillis = DurationMillis::from_secs(3600);

impl Engine {
    /// Starts the origin's patience with an attempt, counted from `since`.
    pub(crate) fn watch_award(&mut self, job: &Job, node: NodeId, (since, slots): (MonoMillis, Option<BidId>)) {
        let spec = &job.spec;
        let longest = spec.timeout_ms.map(|timeout| {
            let run = timeout.plus(spec.kill_grace_ms).plus(self.patience_with_leases());
            run.plus(time_for_inputs(spec))
        });
        let deadline = longest.map(|longest| since.plus(longest));
        self.awarded.insert(job.id, Awarded { node, epoch: job.epoch, deadline, outputs_until: None, slots });
        self.watch_lease(job.id, since);
    }

    /// Renews the origin's patience with an attempt. A heartbeat buys nothing beyond the job's own timeout, and nothing at
    /// all once the receipt is here: whoever goes on saying that it works could keep back its outputs for ever.
    fn watch_lease(&mut self, job: JobId, since: MonoMillis) {
        let until = since.plus(self.patience_with_leases());
        let Some(awarded) = self.awarded.get(&job) else { return };
        let until = awarded.deadline.map_or(until, |deadline| deadline.min(until));
        if !self.config.plays(Mutant::UnarmedTimer) {
            self.timers.set(Timer::LeaseLost(job), awarded.outputs_until.unwrap_or(until));
        }
    }

    fn patience_with_leases(&self) -> DurationMillis {
        self.config.timing.lease.scale(102, 100).plus(self.config.timing.lease_grace)
    }

    /// Stops waiting for an attempt on a peer.
    pub(crate) fn take_awarded(&mut self, step: &Step<'_>, job: JobId) -> Option<Awarded> {
        self.timers.clear(Timer::LeaseLost(job));
        let awarded = self.awarded.remove(&job)?;
        if let Some(lease) = awarded.slots {
            self.free_slot(step.now.mono, job, lease);
        }
        Some(awarded)
    }

    /// The open attempt under this key, if it is that node's.
    pub(crate) fn open_award(&self, node: NodeId, key: LeaseKey) -> Option<JobId> {
        let job: JobId = key.ticket.into();
        let awarded = self.awarded.get(&job)?;
        (awarded.node == node && awarded.epoch == key.epoch).then_some(job)
    }

    pub(crate) fn on_accept(&mut self, step: &Step<'_>, from: NodeId, accept: &Accept) -> Result<(), StoreError> {
        if accept.to != self.me || accept.accepted.len() > LEASES_MAX {
            self.count("refused_accept");
            return Ok(());
        }
        accept.accepted.iter().try_for_each(|accepted| self.on_accepted(step, from, accepted))
    }

    fn on_accepted(&mut self, step: &Step<'_>, from: NodeId, accepted: &Accepted) -> Result<(), StoreError> {
        let Some(id) = self.open_award(from, accepted.key) else {
            self.count("refused_accept");
            return Ok(());
        };
        let run = RunId { job: id, epoch: accepted.key.epoch };
        let attempt = step.view().attempt(run)?;
        if attempt.is_none_or(|attempt| attempt.award != Some(accepted.award)) {
            self.count("refused_accept");
            return Ok(());
        }
        let Some(mut job) = step.view().job(id)?.filter(|job| job.state == JobState::Offered) else { return Ok(()) };
        step.txn.start_attempt(run, None, step.wall())?;
        let shift = Shift::new(&job, Cause::Accepted).on(from);
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    pub(crate) fn on_heartbeat(&mut self, step: &Step<'_>, from: NodeId, heartbeat: &Heartbeat) {
        if heartbeat.to != self.me || heartbeat.leases.len() > LEASES_MAX {
            self.count("refused_heartbeat");
            return;
        }
        self.on_beat(step, from, heartbeat.number);
        let lease = self.config.timing.lease;
        let mut grant = Grant { to: from, number: heartbeat.number, granted: Vec::new(), revoked: Vec::new() };
        for key in &heartbeat.leases {
            match self.open_award(from, *key) {
                Some(job) => {
                    self.watch_lease(job, step.now.mono);
                    grant.granted.push((*key, lease));
                }
                None => grant.revoked.push(*key),
            }
        }
        self.note(from, Kind::Grant, &grant);
    }

    /// The attempt's patience has run out: the peer is gone, or frozen, or cut off.
    pub(crate) fn on_lease_lost(&mut self, step: &mut Step<'_>, id: JobId) -> Result<(), StoreError> {
        let Some(awarded) = self.take_awarded(step, id) else { return Ok(()) };
        let reason = format!("{} was not heard of until its lease ended", self.name_of(awarded.node));
        self.abandon(step, id, awarded, &Outcome::Lost { reason })
    }

    pub(crate) fn on_release(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        release: &Release,
    ) -> Result<(), StoreError> {
        let key = LeaseKey { ticket: release.ticket, epoch: release.epoch };
        let Some(id) = self.open_award(from, key).filter(|_| release.to == self.me) else {
            self.count("refused_release");
            return Ok(());
        };
        let Some(awarded) = self.take_awarded(step, id) else { return Ok(()) };
        let reason: String = release.reason.chars().take(256).collect();
        let outcome = match release.cause {
            ReleaseCause::Unwanted
            | ReleaseCause::NoInput
            | ReleaseCause::Draining
            | ReleaseCause::Known
            | ReleaseCause::Busy => Outcome::Released { reason },
            ReleaseCause::Crashed | ReleaseCause::Unknown => Outcome::Lost { reason },
        };
        if let Some(lease) = awarded.slots {
            self.on_slot_released(lease, release.cause);
        }
        match release.cause {
            ReleaseCause::Busy => self.let_go(step, (id, BUSY_FOR), awarded, &outcome),
            ReleaseCause::Unwanted
            | ReleaseCause::NoInput
            | ReleaseCause::Draining
            | ReleaseCause::Known
            | ReleaseCause::Crashed
            | ReleaseCause::Unknown => self.abandon(step, id, awarded, &outcome),
        }
    }

    /// Ends an attempt on a peer without a receipt. The peer is told to stop, whenever it can be.
    pub(crate) fn abandon(
        &mut self,
        step: &mut Step<'_>,
        id: JobId,
        awarded: Awarded,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        self.let_go(step, (id, EXCLUDED_FOR), awarded, outcome)
    }

    /// The same, and the peer is not asked for that job again for this long, and twice as long each time.
    fn let_go(
        &mut self,
        step: &mut Step<'_>,
        (id, excluded_for): (JobId, DurationMillis),
        awarded: Awarded,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        let run = RunId { job: id, epoch: awarded.epoch };
        let Some(job) = step.view().job(id)?.filter(|job| job.epoch == run.epoch && !job.state.is_final()) else {
            return Ok(());
        };
        self.drop_fetches_of(run);
        self.supersede_pending(step, run)?;
        let why = outcome.message().unwrap_or("gave it back");
        self.exclude_for(step, (id, awarded.node), excluded_for, why);
        self.revoke(step, awarded.node, run, "the origin counts this attempt as over")?;
        self.conclude(step, job, run, &Conclusion::bare(awarded.node, outcome))
    }

    /// Tells a peer, for as long as it takes, that an attempt is no longer wanted.
    pub(crate) fn revoke(&mut self, step: &Step<'_>, node: NodeId, run: RunId, reason: &str) -> Result<(), StoreError> {
        self.post(step, node, Kind::Cancel, &cancellation(node, run, reason))
    }

    /// After a restart every open lease counts as granted now: too long, so safe.
    pub(crate) fn resume_award(&mut self, step: &Step<'_>, job: &Job, node: NodeId) {
        self.watch_award(job, node, (step.now.mono, None));
    }

    /// Gives the outputs of an attempt time to arrive, beyond the lease.
    pub(crate) fn extend_for_outputs(&mut self, step: &Step<'_>, job: JobId) {
        let until = step.now.mono.plus(self.config.timing.fetch_limit);
        if let Some(awarded) = self.awarded.get_mut(&job) {
            awarded.outputs_until = Some(until);
            self.timers.set(Timer::LeaseLost(job), until);
        }
    }
}

/// How long the inputs of a job may take to get to where it runs, before its own time begins.
fn time_for_inputs(spec: &JobSpec) -> DurationMillis {
    let bytes = spec.task.blobs().iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
    let tree = if spec.inputs.is_some() { TREE_TIME } else { DurationMillis(0) };
    DurationMillis::from_secs(bytes / INPUT_BYTES_PER_SECOND).plus(tree)
}

/// Tells a peer that an attempt is not wanted, or not any more.
pub(crate) fn cancellation(to: NodeId, run: RunId, reason: &str) -> Cancel {
    Cancel { ticket: run.job.into(), epoch: run.epoch, to, reason: reason.to_owned() }
}
