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
    "ended_unknown_run",
    "fetch_failed",
    "late_receipt",
    "lease_ended",
    "refused_award",
    "refused_malformed_frame",
    "superseded_receipt",
];

/// The causes by which jobs of these seeds must have moved.
pub const CAUSES: &[&str] = &["succeeded", "failed", "lost", "released", "cancelled", "late"];

/// What must have become of receipts.
const VERDICTS: &[&str] = &["accepted", "superseded"];

/// The cases in which a promise has something to say.
pub const MET: &[&str] = &[
    "acknowledged jobs are looked for",
    "a receipt is accepted",
    "a job with an accepted receipt has another",
    "a job that had ended is retried",
    "somebody waits for another node",
];
