//! What really happened, to hold the databases against: which runs took place, what was promised to whom.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Ended;
use jobmesh_keys::MeshId;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{AttemptState, Epoch, JobId, NodeId, Outcome, ReceiptId, RunId};
use jobmesh_store::{Attempt, Event, Job, ReceiptRow, StoreError, View};

use crate::invariants::{self, Violation};
use crate::network::Seat;
use crate::plan::Watch;

/// One attempt as its origin knows it, wherever it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Contract {
    pub(crate) origin: Seat,
    pub(crate) job: JobId,
    pub(crate) epoch: Epoch,
}

/// A run that an executor began.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) executor: NodeId,
    pub(crate) index: usize,
    pub(crate) is_live: bool,
    pub(crate) ended: Option<Ended>,
}

/// Every run of the world.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    executions: BTreeMap<Contract, Execution>,
    runs: BTreeMap<(Seat, RunId), Contract>,
    /// The jobs of the workload of which a run ended well.
    succeeded: BTreeSet<usize>,
}

impl Ledger {
    pub(crate) fn begin(&mut self, at: (Seat, RunId), contract: Contract, executor: NodeId, index: usize) {
        self.executions.insert(contract, Execution { executor, index, is_live: true, ended: None });
        self.runs.insert(at, contract);
    }

    /// A run ended so; with `None` it vanished.
    pub(crate) fn end(&mut self, contract: Contract, ended: Option<Ended>) {
        if let Some(execution) = self.executions.get_mut(&contract) {
            execution.is_live = false;
            if ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Ok) {
                self.succeeded.insert(execution.index);
            }
            execution.ended = ended;
        }
    }

    pub(crate) fn execution(&self, contract: &Contract) -> Option<&Execution> {
        self.executions.get(contract)
    }

    pub(crate) fn run(&self, at: (Seat, RunId)) -> Option<&Execution> {
        self.runs.get(&at).and_then(|contract| self.executions.get(contract))
    }

    /// What a node ran so.
    pub(crate) fn contract(&self, at: (Seat, RunId)) -> Option<&Contract> {
        self.runs.get(&at)
    }

    /// How many runs of a job of the workload are alive.
    pub(crate) fn live(&self, index: usize) -> usize {
        self.executions.values().filter(|execution| execution.is_live && execution.index == index).count()
    }

    /// Whether a job of the workload has run before.
    fn has_run(&self, index: usize) -> bool {
        self.executions.values().any(|execution| execution.index == index)
    }

    pub(crate) fn len(&self) -> usize {
        self.executions.len()
    }
}

/// All that a database says of one job.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) job: Job,
    pub(crate) events: Vec<Event>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) receipts: Vec<ReceiptRow>,
}

impl Facts {
    fn read(view: &View<'_>, id: JobId) -> Result<Option<Self>, StoreError> {
        let Some(job) = view.job(id)? else { return Ok(None) };
        let (events, attempts, receipts) = (view.events(id)?, view.attempts(id)?, view.receipts(id)?);
        Ok(Some(Self { job, events, attempts, receipts }))
    }

    /// Whether the attempt of this epoch is filed as a success.
    pub(crate) fn succeeded(&self, epoch: Epoch) -> bool {
        self.attempt(epoch).is_some_and(|attempt| attempt.state == AttemptState::Succeeded)
    }

    pub(crate) fn attempt(&self, epoch: Epoch) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.epoch == epoch)
    }
}

/// What the oracle saw of a job the last time.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) job: Job,
    pub(crate) events: usize,
}

/// A node as the invariants look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) seat: Seat,
    pub(crate) node: NodeId,
    pub(crate) mesh: MeshId,
    pub(crate) view: View<'a>,
    pub(crate) disk: &'a BTreeSet<Hash>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) excused: &'a Excused,
}

/// Who can't be held to what it promised, because its disk was lost or set back.
#[derive(Debug, Default)]
pub(crate) struct Excused {
    /// Nodes that have forgotten what they ran.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Origins that may use an epoch twice.
    pub(crate) origins: BTreeSet<Seat>,
}

/// Watches every node.
#[derive(Debug)]
pub(crate) struct Oracle {
    watch: Watch,
    mesh: MeshId,
    pub(crate) ledger: Ledger,
    acknowledged: BTreeMap<Seat, Vec<JobId>>,
    jobs: BTreeMap<usize, (Seat, JobId)>,
    pub(crate) excused: Excused,
    /// How often each promise had something to say.
    pub(crate) met: BTreeMap<&'static str, u64>,
    /// What the jobs of the workload wait for.
    after: BTreeMap<usize, Vec<usize>>,
    /// The jobs that somebody was told are cancelled, with the epoch that they had then.
    cancelled: BTreeMap<JobId, Epoch>,
    /// The jobs of which a traitor has said that it has done them.
    claimed: BTreeSet<JobId>,
    seen: BTreeMap<(Seat, JobId), Seen>,
    proved: BTreeSet<(Seat, ReceiptId)>,
}

impl Oracle {
    pub(crate) fn new(watch: Watch, mesh: MeshId) -> Self {
        Self {
            watch,
            mesh,
            ledger: Ledger::default(),
            excused: Excused::default(),
            met: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            jobs: BTreeMap::new(),
            after: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            claimed: BTreeSet::new(),
            seen: BTreeMap::new(),
            proved: BTreeSet::new(),
        }
    }

    pub(crate) const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// A node said that it has a job.
    pub(crate) fn acknowledge(&mut self, seat: Seat, index: usize, job: JobId) {
        self.acknowledged.entry(seat).or_default().push(job);
        self.jobs.insert(index, (seat, job));
    }

    /// The id under which a job of the workload was acknowledged.
    pub(crate) fn job(&self, index: usize) -> Option<JobId> {
        self.jobs.get(&index).map(|(_, job)| *job)
    }

    /// The same, if it was acknowledged there.
    pub(crate) fn job_at(&self, index: usize, home: Seat) -> Option<JobId> {
        self.jobs.get(&index).filter(|(seat, _)| *seat == home).map(|(_, job)| *job)
    }

    /// A job of the workload is submitted that waits for these.
    pub(crate) fn expect_after(&mut self, index: usize, after: Vec<usize>) {
        self.after.insert(index, after);
    }

    /// Somebody was told that a job is cancelled.
    pub(crate) fn expect_no_more(&mut self, job: JobId, epoch: Epoch) {
        self.meet("a job is cancelled");
        self.cancelled.insert(job, epoch);
    }

    /// Somebody asks that a job is tried again, whatever it waited for.
    pub(crate) fn expect_retry(&mut self, index: usize, job: JobId) {
        self.cancelled.remove(&job);
        self.after.remove(&index);
    }

    /// A traitor says that it has done a job.
    pub(crate) fn claim(&mut self, job: JobId) {
        self.claimed.insert(job);
    }

    /// Holds a new run against what people have asked for.
    pub(crate) fn check_wanted(&mut self, contract: &Contract, index: usize) -> Result<(), Violation> {
        if self.excused.origins.contains(&contract.origin) {
            return Ok(());
        }
        let since = self.cancelled.get(&contract.job);
        invariants::invariant_a_cancelled_job_runs_no_more(contract, since.copied())?;
        let after = self.after.get(&index).cloned().unwrap_or_default();
        if !after.is_empty() {
            self.meet("a job has waited for others");
        }
        let has_succeeded = |other: &usize| {
            let job = self.job(*other);
            self.ledger.succeeded.contains(other) || job.is_none_or(|job| self.claimed.contains(&job))
        };
        let open: Vec<usize> = after.iter().copied().filter(|other| !has_succeeded(other)).collect();
        invariants::invariant_a_job_waits_for_its_upstream(index, &open)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    /// A node has lost what it knew: nothing that it said or did before is held against it.
    pub(crate) fn forget(&mut self, seat: Seat, node: NodeId) {
        self.acknowledged.remove(&seat);
        self.jobs.retain(|_, (home, _)| *home != seat);
        self.seen.retain(|(at, _), _| *at != seat);
        self.excused.nodes.insert(node);
    }

    /// A node knows again what it knew some time ago, and no more.
    pub(crate) fn expect_old_epochs(&mut self, seat: Seat) {
        self.excused.origins.insert(seat);
    }

    /// Counts that a promise had something to say.
    pub(crate) fn meet(&mut self, promise: &'static str) {
        *self.met.entry(promise).or_default() += 1;
    }

    /// Holds a new run against what ran before.
    pub(crate) fn check_run(
        &mut self,
        contract: &Contract,
        executor: NodeId,
        index: usize,
        effects: Effects,
    ) -> Result<(), Violation> {
        if self.excused.origins.contains(&contract.origin) {
            return Ok(());
        }
        if effects == Effects::Once && self.ledger.has_run(index) {
            self.meet("a once job runs again");
        }
        if !self.excused.nodes.contains(&executor) {
            invariants::invariant_an_epoch_runs_once(&self.ledger, contract)?;
        }
        invariants::invariant_g3_once_jobs_never_overlap(&self.ledger, index, effects)
    }

    /// Holds what a node's database says of these jobs against what happened.
    pub(crate) fn check_jobs(
        &mut self,
        (seat, node): (Seat, NodeId),
        view: View<'_>,
        disk: &BTreeSet<Hash>,
        jobs: &BTreeSet<JobId>,
    ) -> Result<(), Violation> {
        for id in jobs {
            let Some(facts) = Facts::read(&view, *id)? else { continue };
            let (ledger, excused) = (&self.ledger, &self.excused);
            let sight = Sight { seat, node, mesh: self.mesh, view, disk, ledger, excused };
            let seen = self.seen.get(&(seat, *id));
            check_facts(sight, &facts, seen)?;
            for receipt in invariants::accepted(&facts) {
                if !self.proved.contains(&(seat, receipt.id)) {
                    *self.met.entry("a receipt is accepted").or_default() += 1;
                    invariants::invariant_g4_accepted_results_are_real(sight, &facts, receipt)?;
                    invariants::invariant_accepted_outputs_are_held(sight, receipt)?;
                    self.proved.insert((seat, receipt.id));
                }
            }
            let rivals = facts.receipts.len() > 1 && invariants::accepted(&facts).next().is_some();
            if rivals {
                *self.met.entry("a job with an accepted receipt has another").or_default() += 1;
            }
            if facts.events.iter().any(|event| event.cause == Cause::Retried) {
                *self.met.entry("a job that had ended is retried").or_default() += 1;
            }
            if self.watch == Watch::Canary {
                invariants::invariant_canary_no_job_completes(&facts)?;
            }
            let events = facts.events.len();
            self.seen.insert((seat, *id), Seen { job: facts.job, events });
        }
        Ok(())
    }

    /// Holds everything that a node's database says, and that it must say, against what happened.
    pub(crate) fn check_node(
        &mut self,
        (seat, node): (Seat, NodeId),
        view: View<'_>,
        disk: &BTreeSet<Hash>,
    ) -> Result<(), Violation> {
        let mine = self.acknowledged.get(&seat).cloned().unwrap_or_default();
        if !mine.is_empty() {
            self.meet("acknowledged jobs are looked for");
        }
        invariants::invariant_g1_no_acknowledged_job_is_lost(view, &mine)?;
        let known = self.seen.keys().filter(|(at, _)| *at == seat).map(|(_, job)| *job);
        let live = view.live_jobs()?.into_iter().map(|job| job.id);
        let all: BTreeSet<JobId> = known.chain(mine).chain(live).collect();
        self.check_jobs((seat, node), view, disk, &all)
    }
}

fn check_facts(sight: Sight<'_>, facts: &Facts, seen: Option<&Seen>) -> Result<(), Violation> {
    invariants::invariant_only_legal_transitions(facts)?;
    invariants::invariant_what_is_local_stays_here(facts)?;
    invariants::invariant_what_was_given_back_did_not_run(sight, facts)?;
    invariants::invariant_epochs_only_grow(facts, seen)?;
    invariants::invariant_final_states_never_change(facts, seen)?;
    invariants::invariant_g2_at_most_one_accepted_result(facts)?;
    invariants::invariant_g3_successes_are_backed(sight, facts)
}
