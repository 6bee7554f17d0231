//! What both sides of a pair believe to be open, compared after every new connection.
//!
//! Each says what it awarded and what it holds, and the other objects in the messages that there are anyway: what an
//! executor does not know it releases, what an origin does not want it cancels, a receipt or a settlement that the other
//! lacks is sent once more. The hard case is a database that is older than its words: there the lists differ in ways in
//! which no loss of messages could make them differ, and each answer must be harmless if it is not so.

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::ticket::{HeldLease, HeldPhase, LEASES_MAX, LeaseKey, Reconcile, ReleaseCause, Verdict};
use jobmesh_protocol::{AttemptState, NodeId, RunId};
use jobmesh_store::{Job, Lease, LeasePhase, Side, StoreError};

use crate::award::cancellation;
use crate::chain::Answered;
use crate::engine::Engine;
use crate::mutant::Mutant;
use crate::step::Step;

/// As many rows of leases as one message names.
const LEASES_READ: u32 = 512;
const _: () = assert!(LEASES_READ as usize == LEASES_MAX);

impl Engine {
    /// Tells a peer what this node believes to be open between the two. Posted, so that it comes after awards and
    /// receipts.
    pub(crate) fn reconcile(&mut self, step: &Step<'_>, node: NodeId) -> Result<(), StoreError> {
        if self.config.plays(Mutant::ForgetOutbox) {
            return Ok(());
        }
        let awarded = self.awarded_to(step, node)?;
        let held: Vec<HeldLease> = step.view().leases_open(node, LEASES_READ)?.iter().filter_map(held_lease).collect();
        if awarded.is_empty() && held.is_empty() {
            return Ok(());
        }
        self.post_answer(step, node, Kind::Reconcile, &Reconcile { to: node, awarded, held })
    }

    /// The attempts that are open on a peer, but for those whose receipts are here and whose outputs are on the way.
    fn awarded_to(&self, step: &Step<'_>, node: NodeId) -> Result<Vec<LeaseKey>, StoreError> {
        let mut keys = Vec::new();
        for (job, awarded) in self.awarded.iter().filter(|(_, awarded)| awarded.node == node) {
            let attempt = step.view().attempt(RunId { job: *job, epoch: awarded.epoch })?;
            if attempt.is_some_and(|attempt| attempt.state != AttemptState::Uploading) && keys.len() < LEASES_MAX {
                keys.push(LeaseKey { ticket: (*job).into(), epoch: awarded.epoch });
            }
        }
        Ok(keys)
    }

    pub(crate) fn on_reconcile(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        reconcile: &Reconcile,
    ) -> Result<(), StoreError> {
        if reconcile.to != self.me || reconcile.awarded.len() > LEASES_MAX || reconcile.held.len() > LEASES_MAX {
            self.count("refused_reconcile");
            return Ok(());
        }
        for key in &reconcile.awarded {
            self.answer_awarded(step, from, *key)?;
        }
        let mut wanted = Vec::new();
        for held in &reconcile.held {
            if self.answer_held(step, from, held)? {
                wanted.push(held.key);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.count("asked_for_receipts");
        self.post_answer(step, from, Kind::Reconcile, &Reconcile { to: from, awarded: wanted, held: Vec::new() })
    }

    /// The executor's answer to one attempt that its origin counts on: the receipt once more if it has ended.
    fn answer_awarded(&mut self, step: &Step<'_>, from: NodeId, key: LeaseKey) -> Result<(), StoreError> {
        let Some(lease) = step.view().lease_of(from, key)? else {
            return self.disown(step, from, (key, ReleaseCause::Unknown), "this node does not know the attempt");
        };
        match (lease.phase, lease.receipt) {
            (LeasePhase::Held, _) => Ok(()),
            (LeasePhase::Reported | LeasePhase::Settled, Some(number)) => {
                let links = step.view().links_numbered(from, Side::Given, number)?;
                let Some(link) = links.into_iter().next() else {
                    let why = "the attempt has ended and its receipt is not kept any more";
                    return self.disown(step, from, (key, ReleaseCause::Unknown), why);
                };
                if step.view().is_queued(from, &link.receipt)? {
                    return Ok(());
                }
                self.count("receipt_sent_again");
                self.post_answer_sealed(step, from, &link.receipt)
            }
            // A release is on its way, unless the origin forgot it: then nothing else will come.
            (LeasePhase::Reported | LeasePhase::Settled, None) if step.view().outbox_first(from)?.is_some() => Ok(()),
            (LeasePhase::Reported | LeasePhase::Settled, None) => {
                self.disown(step, from, (key, ReleaseCause::Crashed), "this node has given the attempt back")
            }
        }
    }

    /// The origin's answer to one attempt that an executor has. Returns whether its receipt must be sent again.
    fn answer_held(&mut self, step: &mut Step<'_>, from: NodeId, held: &HeldLease) -> Result<bool, StoreError> {
        let run = RunId { job: held.key.ticket.into(), epoch: held.key.epoch };
        let attempt = step.view().attempt(run)?.filter(|attempt| attempt.node == from);
        let is_same = attempt.is_some_and(|attempt| attempt.award == Some(held.award));
        let is_open = is_same && self.open_award(from, held.key).is_some();
        match held.phase {
            HeldPhase::Open if is_open => Ok(()),
            HeldPhase::Open => {
                self.count("stopped_by_reconcile");
                self.retire_epoch(step, run)?;
                self.revoke_if_room(step, from, run)
            }
            HeldPhase::Reported => return self.settle_held(step, from, held),
        }
        .map(|()| false)
    }

    /// Settles again what an executor has reported. Returns whether this node knows nothing of the receipt.
    fn settle_held(&mut self, step: &mut Step<'_>, from: NodeId, held: &HeldLease) -> Result<bool, StoreError> {
        let run = RunId { job: held.key.ticket.into(), epoch: held.key.epoch };
        let receipts = step.view().receipts(run.job)?;
        let mut mine = receipts.into_iter().filter(|row| row.epoch == run.epoch && row.node == from).peekable();
        if mine.peek().is_none() {
            self.retire_epoch(step, run)?;
            return Ok(true);
        }
        for row in mine {
            // One without a verdict waits for its outputs, and is settled by itself.
            if let Some(verdict) = row.verdict {
                self.settle_once_more(
                    step,
                    (Answered { id: row.id, number: row.number, by: from }, held.key),
                    verdict,
                )?;
            }
        }
        Ok(false)
    }

    fn settle_once_more(
        &mut self,
        step: &Step<'_>,
        (answered, key): (Answered, LeaseKey),
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let envelope = match Self::countersigned(step, answered)? {
            Some(envelope) => envelope,
            None => self.countersign(step, (answered, key), verdict)?,
        };
        if step.view().is_queued(answered.by, &envelope)? {
            return Ok(());
        }
        self.post_answer_sealed(step, answered.by, &envelope)
    }

    /// An executor knows an epoch that this node has not given out as far as it remembers: it is not given out again.
    pub(crate) fn retire_epoch(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        let Some(mut job) = step.view().job(run.job)? else { return Ok(()) };
        let is_waiting = job.origin.is_none() && !job.state.is_final() && !self.has_live_attempt(&job);
        // A peer that makes epochs up may move the count on by a few, and not use it up.
        let is_near = run.epoch.0.saturating_sub(job.epoch.0) <= EPOCHS_AHEAD_MAX;
        if run.epoch <= job.epoch || !is_waiting || !is_near {
            return Ok(());
        }
        self.count("retired_epoch");
        self.withdraw_offer(step, &mut job, "a peer knows its next epoch from before")?;
        self.unready(&job);
        step.txn.set_epoch(job.number, run.epoch)?;
        job.epoch = run.epoch;
        self.follow(step, &job);
        self.stirred = true;
        Ok(())
    }

    /// Whether an attempt of a job is open, here or elsewhere.
    fn has_live_attempt(&self, job: &Job) -> bool {
        self.awarded.contains_key(&job.id) || self.running.contains_key(&RunId { job: job.id, epoch: job.epoch })
    }

    fn revoke_if_room(&mut self, step: &Step<'_>, node: NodeId, run: RunId) -> Result<(), StoreError> {
        let cancel = cancellation(node, run, "the origin does not know this attempt as open");
        self.post_answer(step, node, Kind::Cancel, &cancel)
    }
}

/// How far an executor may be ahead of its origin: far more attempts than are made between two backups.
const EPOCHS_AHEAD_MAX: u32 = 1000;

/// A lease as the origin is told of it.
fn held_lease(lease: &Lease) -> Option<HeldLease> {
    let phase = match lease.phase {
        LeasePhase::Held => HeldPhase::Open,
        LeasePhase::Reported => HeldPhase::Reported,
        LeasePhase::Settled => return None,
    };
    Some(HeldLease { key: lease.key(), award: lease.award, phase })
}
