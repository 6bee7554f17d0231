//! Blobs on their way here: inputs of awarded jobs from their origin, outputs of receipts from their signer.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::ticket::{Release, ReleaseCause};
use jobmesh_protocol::{BlobRef, DurationMillis, JobState, NodeId, RunId};
use jobmesh_store::{Job, LeasePhase, StoreError};

use crate::engine::Engine;
use crate::output::Output;
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;

/// An awarded job whose input could not be had this often is given back.
const TRIES_MAX: u32 = 3;
/// Wait before a blob is asked for again although nothing was said of it.
const FETCH_PATIENCE: DurationMillis = DurationMillis::from_secs(60);
/// Wait before a blob that could not be had is asked for again.
const FETCH_WAIT: DurationMillis = DurationMillis::from_secs(2);

/// A blob that is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    from: NodeId,
    blob: BlobRef,
    tries: u32,
    runs: BTreeSet<RunId>,
    has_arrived: bool,
}

impl Engine {
    /// Asks for a blob on behalf of an attempt: for its input here, or for its output from elsewhere.
    pub(crate) fn fetch(&mut self, step: &Step<'_>, from: NodeId, blob: BlobRef, run: RunId) {
        let fresh = Fetch { from, blob, tries: 0, runs: BTreeSet::new(), has_arrived: false };
        let fetch = self.fetches.entry(blob.hash).or_insert(fresh);
        fetch.from = from;
        if fetch.runs.insert(run) && !fetch.has_arrived {
            self.timers.clear(Timer::FetchAgain(blob.hash));
            self.fetch_again(step, blob.hash);
        }
    }

    /// Asks for a blob, and again after a while: a driver drops what is on its way already.
    pub(crate) fn fetch_again(&mut self, step: &Step<'_>, hash: Hash) {
        if let Some(fetch) = self.fetches.get_mut(&hash).filter(|fetch| !fetch.has_arrived) {
            fetch.tries = fetch.tries.saturating_add(1);
            let (from, blob) = (fetch.from, fetch.blob);
            self.outputs.push(Output::Fetch { from, blob });
            self.timers.set(Timer::FetchAgain(hash), step.now.mono.plus(FETCH_PATIENCE));
        }
    }

    /// Whether a blob has come while an attempt still waits for another one.
    pub(crate) fn has_arrived(&self, blob: BlobRef) -> bool {
        self.fetches.get(&blob.hash).is_some_and(|fetch| fetch.has_arrived && fetch.blob == blob)
    }

    pub(crate) fn on_fetched(&mut self, step: &mut Step<'_>, hash: Hash) -> Result<(), StoreError> {
        let Some(fetch) = self.fetches.get_mut(&hash) else { return Ok(()) };
        fetch.has_arrived = true;
        let runs = fetch.runs.clone();
        self.timers.clear(Timer::FetchAgain(hash));
        for run in runs {
            match step.view().job(run.job)?.map(|job| job.origin) {
                Some(Some(_)) => self.on_input_here(step, run),
                Some(None) => self.on_output_here(step, run)?,
                None => {}
            }
        }
        self.forget_finished_fetches(step)
    }

    pub(crate) fn on_fetch_failed(&mut self, step: &mut Step<'_>, hash: Hash, why: &str) -> Result<(), StoreError> {
        let Some(fetch) = self.fetches.get(&hash).filter(|fetch| !fetch.has_arrived).cloned() else { return Ok(()) };
        self.count("fetch_failed");
        for run in &fetch.runs {
            let Some(job) = step.view().job(run.job)? else { continue };
            if job.origin.is_some() && fetch.tries >= TRIES_MAX {
                self.give_back(step, job, ReleaseCause::NoInput, why)?;
            }
        }
        self.timers.set(Timer::FetchAgain(hash), step.now.mono.plus(FETCH_WAIT));
        self.forget_finished_fetches(step)
    }

    /// Gives an awarded job back that has not started.
    pub(crate) fn give_back(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        cause: ReleaseCause,
        why: &str,
    ) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let _ = self.take_running(run);
        self.stirred = true;
        let outcome = jobmesh_protocol::Outcome::Released { reason: why.to_owned() };
        self.release_lease(step, job, run, &Conclusion::bare(self.me, &outcome), cause)
    }

    /// Posts that a lease is given back.
    pub(crate) fn post_release(
        &mut self,
        step: &Step<'_>,
        lease: &jobmesh_store::Lease,
        cause: ReleaseCause,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (ticket, epoch, to) = (lease.ticket, lease.epoch, lease.origin);
        let reason: String = reason.chars().take(256).collect();
        step.txn.set_lease_phase(lease.job, LeasePhase::Reported, None)?;
        self.post(step, to, Kind::Release, &Release { ticket, epoch, to, cause, reason })
    }

    /// An attempt no longer waits for anything.
    pub(crate) fn drop_fetches_of(&mut self, run: RunId) {
        for fetch in self.fetches.values_mut() {
            fetch.runs.remove(&run);
        }
        self.drop_unwanted_fetches();
    }

    fn forget_finished_fetches(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let mut over: BTreeMap<RunId, bool> = BTreeMap::new();
        for run in self.fetches.values().flat_map(|fetch| fetch.runs.iter()) {
            if !over.contains_key(run) {
                let job = step.view().job(run.job)?.filter(|job| job.epoch == run.epoch);
                let is_open = job.is_some_and(|job| matches!(job.state, JobState::Running | JobState::Offered));
                let is_ordered = self.running.get(run).is_some_and(|running| running.is_ordered);
                over.insert(*run, !self.is_late(*run) && (!is_open || is_ordered));
            }
        }
        for fetch in self.fetches.values_mut() {
            fetch.runs.retain(|run| !over.get(run).copied().unwrap_or(false));
        }
        self.drop_unwanted_fetches();
        Ok(())
    }

    fn drop_unwanted_fetches(&mut self) {
        let unwanted: Vec<Hash> =
            self.fetches.iter().filter(|(_, fetch)| fetch.runs.is_empty()).map(|(hash, _)| *hash).collect();
        for hash in unwanted {
            self.timers.clear(Timer::FetchAgain(hash));
            self.fetches.remove(&hash);
        }
    }
}
