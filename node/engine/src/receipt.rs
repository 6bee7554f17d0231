//! Judging receipts: the one place where a result of a peer becomes the result of a job.
//!
//! A receipt counts if its signer is the node that this epoch was awarded to, under that very award, for that very
//! spec, while the epoch is the job's current one and the job has not ended. Of a job that may run twice a success also
//! counts later, see `late.rs`. Then its outputs are brought here and checked against their hashes, and only then is
//! the job finished. Anything else changes no job.

use jobmesh_protocol::id::Hash;
use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::ticket::{LeaseKey, Verdict};
use jobmesh_protocol::{AttemptState, BlobRef, JobState, NodeId, Outcome, ReceiptId, RunId};
use jobmesh_store::{Attempt, Job, ReceiptRow, StoreError};
use serde_bytes::ByteBuf;

use crate::chain::Answered;
use crate::engine::Engine;
use crate::fetch::outputs;
use crate::isolation;
use crate::message::Incoming;
use crate::mutant::Mutant;
use crate::output::{BlobKind, Wanted};
use crate::run::Conclusion;
use crate::step::Step;

/// Most receipts kept as evidence for one attempt: an awardee can sign any number.
const RECEIPTS_MAX: u64 = 4;

impl Engine {
    pub(crate) fn on_receipt(
        &mut self,
        step: &mut Step<'_>,
        message: &Incoming<'_>,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        let run = RunId { job: receipt.ticket.into(), epoch: receipt.epoch };
        let signer = message.envelope.signer();
        if !receipt.is_bounded() {
            return self.reject(step, message, receipt, "refused_receipt_too_long");
        }
        let (Some(job), Some(attempt)) = (step.view().job(run.job)?, step.view().attempt(run)?) else {
            return self.reject(step, message, receipt, "refused_receipt_unknown_attempt");
        };
        let is_awardee = attempt.node == signer || self.config.plays(Mutant::AcceptFromAnyone);
        if !is_awardee || receipt.to != self.me || attempt.award.is_none() {
            return self.reject(step, message, receipt, "refused_receipt_not_by_awardee");
        }
        if attempt.award != Some(receipt.award) || attempt.spec_hash != Some(receipt.spec) {
            return self.reject(step, message, receipt, "refused_receipt_other_award");
        }
        let (id, answered) = (message.envelope.id(), answered(message, receipt));
        self.take_link(step, message, receipt, true)?;
        if let Some(known) = step.view().receipt(id)? {
            return match known.verdict {
                Some(verdict) => self.settle_again(step, (answered, receipt), verdict),
                None if self.is_current(&job, &attempt) => self.bring_outputs(step, &job, &attempt, id, receipt),
                None if self.is_late(run) => self.try_late(step, run.job),
                None => self.supersede(step, &attempt, known),
            };
        }
        if step.view().receipt_count(run)? >= RECEIPTS_MAX {
            return self.reject(step, message, receipt, "refused_receipt_too_many");
        }
        if self.is_current(&job, &attempt) {
            self.keep_attachments(step, receipt, message.attachments)?;
            self.keep(step, (message, receipt), &attempt, None)?;
            self.bring_outputs(step, &job, &attempt, id, receipt)
        } else if self.may_come_late(step, &job, &attempt, receipt)? {
            self.keep_attachments(step, receipt, message.attachments)?;
            self.keep(step, (message, receipt), &attempt, None)?;
            self.await_late(step, run, id)
        } else {
            self.keep(step, (message, receipt), &attempt, Some(Verdict::Superseded))?;
            self.count("superseded_receipt");
            self.complete_cancelled(step, &attempt, receipt, message.attachments)?;
            self.settle(step, &attempt, answered, Verdict::Superseded)
        }
    }

    /// What a cancelled attempt left is no result of anything, but its owner wants to see what it had said and how it was
    /// kept: its first receipt completes what is kept of it. The job and the outcome stay as they are.
    ///
    /// Only logs count, and what came with the receipt of them. Nothing more is brought here for a job that is over.
    fn complete_cancelled(
        &self,
        step: &Step<'_>,
        attempt: &Attempt,
        receipt: &Receipt,
        attachments: &[ByteBuf],
    ) -> Result<(), StoreError> {
        if attempt.state != AttemptState::Cancelled || attempt.isolation.is_some() {
            return Ok(());
        }
        let logs = Outputs { result: None, files: None, ..receipt.outputs };
        let told = Receipt { outputs: logs, ..receipt.clone() };
        self.keep_attachments(step, &told, attachments)?;
        let run = RunId { job: attempt.job, epoch: attempt.epoch };
        let end = Conclusion { outcome: &Outcome::Cancelled, ..Conclusion::of_receipt(attempt, &told) };
        step.txn.finish_attempt(run, &end.filed(), attempt.finished_at.unwrap_or(step.wall()))
    }

    /// An attempt ended in another way while the outputs of its receipt were on the way: the receipt is late.
    pub(crate) fn supersede_pending(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        let Some(attempt) = step.view().attempt(run)? else { return Ok(()) };
        let Some(id) = attempt.receipt else { return Ok(()) };
        match step.view().receipt(id)?.filter(|row| row.verdict.is_none()) {
            Some(row) => self.supersede(step, &attempt, row),
            None => Ok(()),
        }
    }

    fn supersede(&mut self, step: &Step<'_>, attempt: &Attempt, row: ReceiptRow) -> Result<(), StoreError> {
        let answered = Answered { id: row.id, number: row.number, by: row.node };
        step.txn.put_receipt(&ReceiptRow { verdict: Some(Verdict::Superseded), ..row })?;
        self.count("superseded_receipt");
        self.settle(step, attempt, answered, Verdict::Superseded)
    }

    /// Whether a result of this attempt may still become the job's.
    fn is_current(&self, job: &Job, attempt: &Attempt) -> bool {
        let is_open = matches!(job.state, JobState::Offered | JobState::Running);
        if self.config.plays(Mutant::AcceptStaleEpoch) {
            return !job.state.is_final();
        }
        is_open && job.epoch == attempt.epoch && !attempt.state.is_final() && self.awarded.contains_key(&job.id)
    }

    /// Refuses a receipt that is none of this node's business. Nothing is kept but a few links of its chain.
    fn reject(
        &mut self,
        step: &Step<'_>,
        message: &Incoming<'_>,
        receipt: &Receipt,
        what: &'static str,
    ) -> Result<(), StoreError> {
        self.count(what);
        let answered = answered(message, receipt);
        if receipt.is_bounded() {
            self.take_link(step, message, receipt, false)?;
        }
        self.settle_again(step, (answered, receipt), Verdict::Rejected)
    }

    fn keep(
        &self,
        step: &Step<'_>,
        (message, receipt): (&Incoming<'_>, &Receipt),
        attempt: &Attempt,
        verdict: Option<Verdict>,
    ) -> Result<(), StoreError> {
        step.txn.put_receipt(&ReceiptRow {
            id: message.envelope.id(),
            job: attempt.job,
            epoch: attempt.epoch,
            node: attempt.node,
            number: receipt.number,
            verdict,
            envelope: message.bytes.to_vec(),
            received_at: step.wall(),
        })
    }

    /// Finishes the job if all outputs are here, else asks for the missing ones.
    fn bring_outputs(
        &mut self,
        step: &mut Step<'_>,
        job: &Job,
        attempt: &Attempt,
        id: ReceiptId,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        let missing = self.missing(step, (attempt.node, receipt))?;
        if missing.is_empty() {
            return self.accept(step, job.clone(), attempt, id, receipt);
        }
        if attempt.receipt.is_none() {
            step.txn.upload_attempt(RunId { job: job.id, epoch: attempt.epoch }, id)?;
            self.extend_for_outputs(step, job.id);
        }
        let run = RunId { job: job.id, epoch: attempt.epoch };
        for wanted in missing {
            self.fetch(step, wanted, run);
        }
        Ok(())
    }

    /// The outputs that came neither with the receipt nor from its signer since. The list of a tree may have come with it; its files
    /// never do.
    pub(crate) fn missing(
        &self,
        step: &Step<'_>,
        (from, receipt): (NodeId, &Receipt),
    ) -> Result<Vec<Wanted>, StoreError> {
        let mut missing = Vec::new();
        for (blob, kind) in outputs(&receipt.outputs) {
            let wanted = Wanted { blob, kind, from };
            let kept = step.view().blob(blob.hash)?.map(|bytes| bytes.len() as u64);
            let is_here = match kind {
                BlobKind::File => self.has_arrived(wanted) || kept == Some(blob.size),
                BlobKind::Tree => self.has_arrived(wanted),
            };
            if !is_here {
                missing.push(wanted);
            }
        }
        Ok(missing)
    }

    /// An output of an attempt has arrived: finish its job if it was the last one.
    pub(crate) fn on_output_here(&mut self, step: &mut Step<'_>, run: RunId) -> Result<(), StoreError> {
        if self.is_late(run) {
            return self.try_late(step, run.job);
        }
        let Some(job) = step.view().job(run.job)?.filter(|job| job.epoch == run.epoch) else { return Ok(()) };
        let Some(attempt) = step.view().attempt(run)?.filter(|attempt| !attempt.state.is_final()) else {
            return Ok(());
        };
        let Some((receipt_id, receipt)) = self.stored_receipt(step, &attempt)? else { return Ok(()) };
        if self.missing(step, (attempt.node, &receipt))?.is_empty() {
            return self.accept(step, job, &attempt, receipt_id, &receipt);
        }
        Ok(())
    }

    /// The receipt whose outputs are on the way.
    pub(crate) fn stored_receipt(
        &mut self,
        step: &Step<'_>,
        attempt: &Attempt,
    ) -> Result<Option<(ReceiptId, Receipt)>, StoreError> {
        let Some(id) = attempt.receipt else { return Ok(None) };
        let Some(row) = step.view().receipt(id)? else { return Ok(None) };
        let receipt = self.open(&row.envelope).and_then(|envelope| envelope.parse().ok());
        Ok(receipt.map(|receipt| (id, receipt)))
    }

    fn accept(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        attempt: &Attempt,
        id: ReceiptId,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        self.accept_receipt(step, &job, attempt, id)?;
        if let Some(lease) = self.take_awarded(step, job.id).and_then(|awarded| awarded.slots) {
            self.learn_brevity(lease, receipt);
        }
        if matches!(receipt.outcome, Outcome::Released { .. } | Outcome::Lost { .. }) {
            self.exclude(step, job.id, attempt.node, "gave it back");
        }
        let run = RunId { job: attempt.job, epoch: attempt.epoch };
        let short = isolation::shortfall(&job.spec, receipt);
        let end = Conclusion::of_receipt(attempt, receipt);
        let end = Conclusion { outcome: short.as_ref().unwrap_or(&receipt.outcome), ..end };
        self.conclude(step, job, run, &end)
    }

    /// Writes down that a receipt tells how its job ended, and tells its signer so.
    pub(crate) fn accept_receipt(
        &mut self,
        step: &Step<'_>,
        job: &Job,
        attempt: &Attempt,
        id: ReceiptId,
    ) -> Result<(), StoreError> {
        let row = step.view().receipt(id)?.ok_or(StoreError::Damaged { what: "receipt" })?;
        let answered = Answered { id, number: row.number, by: row.node };
        step.txn.put_receipt(&ReceiptRow { verdict: Some(Verdict::Accepted), ..row })?;
        step.txn.set_proven(job.number)?;
        self.settle(step, attempt, answered, Verdict::Accepted)
    }

    /// Says a verdict to a peer that can ask for it as often as it likes. It is signed once, as long as that is kept.
    fn settle_again(
        &mut self,
        step: &Step<'_>,
        (answered, receipt): (Answered, &Receipt),
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let key = LeaseKey { ticket: receipt.ticket, epoch: receipt.epoch };
        let envelope = match Self::countersigned(step, answered)? {
            Some(envelope) => envelope,
            None => self.countersign(step, (answered, key), verdict)?,
        };
        self.send_note(answered.by, envelope);
        Ok(())
    }

    fn settle(
        &mut self,
        step: &Step<'_>,
        attempt: &Attempt,
        answered: Answered,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let key = LeaseKey { ticket: attempt.job.into(), epoch: attempt.epoch };
        let envelope = self.countersign(step, (answered, key), verdict)?;
        self.post_sealed(step, attempt.node, &envelope, &[])
    }

    /// Keeps those attachments that the receipt names by hash and size; anything else is dropped.
    fn keep_attachments(&self, step: &Step<'_>, receipt: &Receipt, attachments: &[ByteBuf]) -> Result<(), StoreError> {
        for bytes in attachments {
            let mut blob = BlobRef { hash: Hash::of(bytes), size: bytes.len() as u64 };
            if self.config.plays(Mutant::TrustClaimedHash) {
                blob = receipt.outputs.blobs().find(|named| named.size == blob.size).unwrap_or(blob);
            }
            if receipt.outputs.blobs().any(|named| named == blob) {
                step.txn.put_blob(blob.hash, bytes)?;
            }
        }
        Ok(())
    }
}

/// What names a receipt in its answer.
fn answered(message: &Incoming<'_>, receipt: &Receipt) -> Answered {
    Answered { id: message.envelope.id(), number: receipt.number, by: message.envelope.signer() }
}
