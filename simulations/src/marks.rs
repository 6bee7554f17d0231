//! Coverage: which of the rare branches a run took, and which of them many seeds together must have taken.
//!
//! A branch that no seed takes is a branch that no seed tests. The engine counts what is refused, late or unknown; its
//! events say by what cause each job moved. `tests/marks.rs` reads the engine's source and fails over a counter that no
//! list here names, so a new branch is either reached or excused, with a reason.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_store::{Job, StoreError, View};

use crate::disk::DiskFault;
use crate::fault::FaultKind;

/// What one run did of what is rare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Marks {
    fn add(&mut self, mark: String, count: u64) {
        *self.counts.entry(mark).or_default() += count;
    }

    /// Takes over what an engine has counted.
    pub(crate) fn of_counters(&mut self, counters: &BTreeMap<&'static str, u64>) {
        for (what, count) in counters {
            self.add(format!("count {what}"), *count);
        }
    }

    /// Counts by what causes a job moved, how its attempts ended and what became of its receipts.
    pub(crate) fn of_job(&mut self, view: View<'_>, job: &Job) -> Result<(), StoreError> {
        for event in view.events(job.id)? {
            self.add(format!("cause {}", event.cause.word()), 1);
        }
        for receipt in view.receipts(job.id)? {
            self.add(format!("verdict {}", receipt.verdict.map_or("none", |verdict| verdict.word())), 1);
        }
        Ok(())
    }
}

/// Of what must have happened over many seeds, that which did not.
#[must_use]
pub fn missing(
    marks: &BTreeMap<String, u64>,
    faults: &BTreeMap<FaultKind, u64>,
    met: &BTreeMap<&'static str, u64>,
) -> Vec<String> {
    let wanted = COUNTERS.iter().map(|mark| format!("count {mark}"));
    let wanted = wanted.chain(CAUSES.iter().map(|cause| format!("cause {cause}")));
    let wanted = wanted.chain(VERDICTS.iter().map(|verdict| format!("verdict {verdict}")));
    let mut missing: Vec<String> = wanted.filter(|mark| !marks.contains_key(mark)).collect();
    let words: BTreeSet<&str> = faults.keys().map(|kind| kind.word()).collect();
    let of_disks = DiskFault::HONEST.into_iter().chain([DiskFault::LyingSync, DiskFault::BitRot]).map(FaultKind::Disk);
    let kinds = FaultKind::ALL.into_iter().chain(of_disks).map(FaultKind::word);
    missing.extend(kinds.filter(|word| !words.contains(word)).map(|word| format!("fault {word}")));
    missing.extend(MET.iter().filter(|promise| !met.contains_key(*promise)).map(|promise| format!("met {promise}")));
    missing
}

/// The engine's counters that the seeds of CI must reach.
pub const COUNTERS: &[&str] = &[
    "answered_search",
    "asked_for_receipts",
    "dropped_answer",
    "dropped_receipt",
    "duplicate_frame",
    "early_frame",
    "ended_unknown_run",
    "fetch_failed",
    "forked_receipt",
    "given_under_slot_lease",
    "held_after_rollback",
    "late_receipt",
    "lease_ended",
    "new_incarnation",
    "old_search",
    "older_than_words",
    "receipt_sent_again",
    "refused_accept",
    "refused_award",
    "refused_bad_number",
    "refused_bad_signature",
    "refused_bid",
    "refused_bid_key",
    "refused_cancel",
    "refused_digest_in_session",
    "refused_foreign_ack",
    "refused_foreign_signer",
    "refused_former_incarnation",
    "refused_gossip",
    "refused_grant",
    "refused_heartbeat",
    "refused_malformed_envelope",
    "refused_malformed_frame",
    "refused_malformed_message",
    "refused_offer",
    "refused_old_offer",
    "refused_receipt_not_by_awardee",
    "refused_receipt_other_award",
    "refused_receipt_too_long",
    "refused_receipt_too_many",
    "refused_receipt_unknown_attempt",
    "refused_reconcile",
    "refused_record",
    "refused_record_of_stranger",
    "refused_refusal",
    "refused_relayed",
    "refused_release",
    "refused_settle",
    "refused_summary",
    "refused_summary_of_stranger",
    "refused_unknown_kind",
    "refused_unknown_version",
    "retired_epoch",
    "slot_lease",
    "sought_by_gossip",
    "stopped_by_reconcile",
    "superseded_receipt",
    "torn_receipt",
];

/// Those that they need not, each with the reason.
pub const EXCUSED: &[(&str, &str)] = &[
    ("adopted_unknown_run", "no driver of a world finds a process that it was not asked for"),
    ("dropped_over_quota", "needs a member that sends more than its engine does; a test of two nodes has one"),
    ("illegal_transition", "only a bug reaches it"),
    ("outgrew_record", "needs a second database under one key whose clock is ahead; a test of two nodes has one"),
    ("own_key_elsewhere", "needs the same"),
    ("refused_declared_schedule", "no world has schedules"),
    ("refused_join", "nobody joins in a world; `tests/mesh` does"),
    ("refused_slot_lease", "needs hundreds of slot leases on one node"),
    ("refused_too_many_peers", "no world has so many nodes"),
    ("replayed_award", "needs an origin that sends an award twice; `node/tests/hostile.rs` has one"),
    ("second_settlement", "needs an origin that signs two verdicts; a test of two nodes has one"),
    ("stale_move", "only a bug reaches it"),
    ("started_unknown_run", "no driver of a world starts a process that it was not asked for"),
    ("stopped_for_late_receipt", "some seeds reach it; a test of two nodes always does"),
    ("too_large_to_offer", "no job of a world is so large"),
    ("unlearned_type", "no world has so many types of jobs"),
    ("unreadable_schedule", "no world has schedules"),
    ("withheld_secret", "only a bug reaches it: whoever may not have a secret is left out before"),
];

/// The causes by which jobs of these seeds must have moved.
pub const CAUSES: &[&str] = &["succeeded", "failed", "lost", "released", "cancelled", "late", "skipped", "revived"];

/// What must have become of receipts.
const VERDICTS: &[&str] = &["accepted", "superseded"];

/// The cases in which a promise has something to say.
pub const MET: &[&str] = &[
    "acknowledged jobs are looked for",
    "a receipt is accepted",
    "a job with an accepted receipt has another",
    "a job that had ended is retried",
    "somebody waits for another node",
    "a job is cancelled",
    "a job has waited for others",
    "a once job runs for another node",
];
