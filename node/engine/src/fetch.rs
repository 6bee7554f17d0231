//! Blobs on their way here: inputs of awarded jobs from their origin, outputs of receipts from their signer.
//!
//! What is wanted is named with the one that it is wanted of, so a peer that says a wrong size of some bytes fails its
//! own job and nobody else's. How long a transfer may take nobody can say: it may be of any size, and the line slow. So
//! the time of those who wait for it counts from its last progress. A tree has arrived when its files have.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::ticket::{Release, ReleaseCause};
use jobmesh_protocol::{BlobRef, DurationMillis, JobSpec, JobState, Outcome, RunId};
use jobmesh_store::{Job, LeasePhase, StoreError};

use crate::engine::Engine;
use crate::input::Remedy;
use crate::output::{BlobKind, Output, Wanted};
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;

/// An awarded job whose input could not be had this often in a row is given back.
const TRIES_MAX: u32 = 3;
/// How long nothing may come of a blob before it is asked for again.
const FETCH_PATIENCE: DurationMillis = DurationMillis::from_secs(60);
/// Wait before a blob that could not be had is asked for again.
const FETCH_WAIT: DurationMillis = DurationMillis::from_secs(2);

/// A blob that is on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetch {
    /// How often it was asked for since it last came forward.
    tries: u32,
    runs: BTreeSet<RunId>,
    is_under_way: bool,
    has_arrived: bool,
}

/// The inputs of a job: the blobs that its task names, and the tree that it begins with.
pub(crate) fn inputs(spec: &JobSpec) -> impl Iterator<Item = (BlobRef, BlobKind)> {
    let files = spec.task.blobs().into_iter().map(|blob| (blob, BlobKind::File));
    files.chain(spec.inputs.map(|tree| (tree, BlobKind::Tree)))
}

/// The outputs of an attempt: its logs and its result, and the tree of its files.
pub(crate) fn outputs(outputs: &jobmesh_protocol::outcome::Outputs) -> impl Iterator<Item = (BlobRef, BlobKind)> {
    let files = [outputs.stdout, outputs.stderr, outputs.result].into_iter().flatten();
    let files = files.map(|blob| (blob, BlobKind::File));
    files.chain(outputs.files.map(|tree| (tree, BlobKind::Tree)))
}

impl Engine {
    /// Asks for a blob on behalf of an attempt: for its input here, or for its output from elsewhere.
    pub(crate) fn fetch(&mut self, step: &Step<'_>, wanted: Wanted, run: RunId) {
        let fetch = self.fetches.entry(wanted).or_default();
        fetch.runs.insert(run);
        if !fetch.has_arrived && !fetch.is_under_way {
            self.ask(step, wanted);
        }
    }

    fn ask(&mut self, step: &Step<'_>, wanted: Wanted) {
        let Some(fetch) = self.fetches.get_mut(&wanted) else { return };
        fetch.tries = fetch.tries.saturating_add(1);
        fetch.is_under_way = true;
        self.outputs.push(Output::Fetch(wanted));
        self.timers.set(Timer::FetchAgain(wanted), step.now.mono.plus(FETCH_PATIENCE));
    }

    /// Asks for a blob again, because the pause after a failure is over, or nothing came of it for too long.
    pub(crate) fn fetch_again(&mut self, step: &mut Step<'_>, wanted: Wanted) -> Result<(), StoreError> {
        let Some(fetch) = self.fetches.get(&wanted).filter(|fetch| !fetch.has_arrived) else { return Ok(()) };
        if fetch.is_under_way {
            self.outputs.push(Output::StopFetch(wanted));
            let why = format!("nothing came of it for {} s", FETCH_PATIENCE.0 / 1000);
            return self.on_fetch_failed(step, wanted, &why, Remedy::Again);
        }
        self.ask(step, wanted);
        Ok(())
    }

    /// Whether a blob has come while an attempt still waits for another one. That it came from somebody else says nothing
    /// of whether this member has it.
    pub(crate) fn has_arrived(&self, wanted: Wanted) -> bool {
        self.fetches.get(&wanted).is_some_and(|fetch| fetch.has_arrived)
    }

    /// Some of a blob has come: whoever waits for it waits on.
    pub(crate) fn on_fetch_progress(&mut self, step: &Step<'_>, wanted: Wanted) {
        let Some(fetch) = self.fetches.get_mut(&wanted).filter(|fetch| fetch.is_under_way) else { return };
        fetch.tries = 0;
        let runs = fetch.runs.clone();
        self.timers.set(Timer::FetchAgain(wanted), step.now.mono.plus(FETCH_PATIENCE));
        for run in runs {
            if self.is_late(run) {
                self.watch_late(step, run);
            } else if self.awarded.get(&run.job).is_some_and(|awarded| awarded.epoch == run.epoch) {
                self.extend_for_outputs(step, run.job);
            }
        }
    }

    pub(crate) fn on_fetched(&mut self, step: &mut Step<'_>, wanted: Wanted) -> Result<(), StoreError> {
        let Some(fetch) = self.fetches.get_mut(&wanted) else { return Ok(()) };
        fetch.has_arrived = true;
        fetch.is_under_way = false;
        let runs = fetch.runs.clone();
        self.timers.clear(Timer::FetchAgain(wanted));
        for run in runs {
            match step.view().job(run.job)?.map(|job| job.origin) {
                Some(Some(_)) => self.on_input_here(step, run),
                Some(None) => self.on_output_here(step, run)?,
                None => {}
            }
        }
        self.forget_finished_fetches(step)
    }

    pub(crate) fn on_fetch_failed(
        &mut self,
        step: &mut Step<'_>,
        wanted: Wanted,
        why: &str,
        remedy: Remedy,
    ) -> Result<(), StoreError> {
        let Some(fetch) = self.fetches.get_mut(&wanted).filter(|fetch| fetch.is_under_way) else { return Ok(()) };
        fetch.is_under_way = false;
        let fetch = fetch.clone();
        self.count("fetch_failed");
        self.timers.set(Timer::FetchAgain(wanted), step.now.mono.plus(FETCH_WAIT));
        for run in &fetch.runs {
            let Some(job) = step.view().job(run.job)? else { continue };
            let is_over = fetch.tries >= TRIES_MAX || remedy != Remedy::Again;
            match job.origin {
                Some(_) if is_over => self.give_up_input(step, job, (why, remedy))?,
                None if remedy != Remedy::Again && fetch.tries >= TRIES_MAX => self.lose_outputs(step, *run, why)?,
                Some(_) | None => {}
            }
        }
        self.forget_finished_fetches(step)
    }

    /// Gives an awarded job back whose input can't be had. If nothing could be done about that, this node does not bid for
    /// it again for a while, or it would be awarded and given back for ever.
    fn give_up_input(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        (why, remedy): (&str, Remedy),
    ) -> Result<(), StoreError> {
        if remedy == Remedy::None
            && let Some(lease) = step.view().lease(job.id)?
        {
            self.unfit.add((lease.origin, lease.ticket), step.now.mono);
        }
        self.give_back(step, job, ReleaseCause::NoInput, why)
    }

    /// What an attempt left can't be kept here, however often it is asked for.
    fn lose_outputs(&mut self, step: &mut Step<'_>, run: RunId, why: &str) -> Result<(), StoreError> {
        if self.is_late(run) {
            return self.give_up_late(step, run);
        }
        if self.awarded.get(&run.job).is_none_or(|awarded| awarded.epoch != run.epoch) {
            return Ok(());
        }
        let Some(awarded) = self.take_awarded(step, run.job) else { return Ok(()) };
        let message = format!("what it left could not be brought here: {why}");
        self.abandon(step, run.job, awarded, &Outcome::error(message))
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
        let outcome = Outcome::Released { reason: why.to_owned() };
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
        let is_unwanted = |fetch: &Fetch| fetch.runs.is_empty();
        let unwanted: Vec<(Wanted, bool)> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| is_unwanted(fetch))
            .map(|(wanted, fetch)| (*wanted, fetch.is_under_way))
            .collect();
        for (wanted, is_under_way) in unwanted {
            self.timers.clear(Timer::FetchAgain(wanted));
            self.fetches.remove(&wanted);
            if is_under_way {
                self.outputs.push(Output::StopFetch(wanted));
            }
        }
    }
}
