//! What really happened, to hold the databases against: which runs took place, what was promised to whom.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Ended;
use jobmesh_keys::MeshId;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::{AttemptState, Epoch, JobId, NodeId, ReceiptId, RunId};
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
            execution.ended = ended;
        }
    }

    pub(crate) fn execution(&self, contract: &Contract) -> Option<&Execution> {
        self.executions.get(contract)
    }

    pub(crate) fn run(&self, at: (Seat, RunId)) -> Option<&Execution> {
        self.runs.get(&at).and_then(|contract| self.executions.get(contract))
    }

    /// How many runs of a job of the workload are alive.
    pub(crate) fn live(&self, index: usize) -> usize {
        self.executions.values().filter(|execution| execution.is_live && execution.index == index).count()
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
}

/// Watches every node.
#[derive(Debug)]
pub(crate) struct Oracle {
    watch: Watch,
    mesh: MeshId,
    pub(crate) ledger: Ledger,
    acknowledged: BTreeMap<Seat, Vec<JobId>>,
    jobs: BTreeMap<usize, JobId>,
    seen: BTreeMap<(Seat, JobId), Seen>,
    proved: BTreeSet<(Seat, ReceiptId)>,
}

impl Oracle {
    pub(crate) const fn new(watch: Watch, mesh: MeshId) -> Self {
        Self {
            watch,
            mesh,
            ledger: Ledger { executions: BTreeMap::new(), runs: BTreeMap::new() },
            acknowledged: BTreeMap::new(),
            jobs: BTreeMap::new(),
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
        self.jobs.insert(index, job);
    }

    /// The id under which a job of the workload was acknowledged.
    pub(crate) fn job(&self, index: usize) -> Option<JobId> {
        self.jobs.get(&index).copied()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    /// Holds a new run against what ran before.
    pub(crate) fn check_run(&self, contract: &Contract, index: usize, effects: Effects) -> Result<(), Violation> {
        invariants::invariant_an_epoch_runs_once(&self.ledger, contract)?;
        invariants::invariant_once_jobs_never_overlap(&self.ledger, index, effects)
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
            let sight = Sight { seat, node, mesh: self.mesh, view, disk, ledger: &self.ledger };
            let seen = self.seen.get(&(seat, *id));
            check_facts(sight, &facts, seen)?;
            for receipt in invariants::accepted(&facts) {
                if !self.proved.contains(&(seat, receipt.id)) {
                    invariants::invariant_accepted_results_are_real(sight, &facts, receipt)?;
                    invariants::invariant_accepted_outputs_are_held(sight, receipt)?;
                    self.proved.insert((seat, receipt.id));
                }
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
        invariants::invariant_no_acknowledged_job_is_lost(view, &mine)?;
        let known = self.seen.keys().filter(|(at, _)| *at == seat).map(|(_, job)| *job);
        let live = view.live_jobs()?.into_iter().map(|job| job.id);
        let all: BTreeSet<JobId> = known.chain(mine).chain(live).collect();
        self.check_jobs((seat, node), view, disk, &all)
    }
}

fn check_facts(sight: Sight<'_>, facts: &Facts, seen: Option<&Seen>) -> Result<(), Violation> {
    invariants::invariant_only_legal_transitions(facts)?;
    invariants::invariant_epochs_only_grow(facts, seen)?;
    invariants::invariant_final_states_never_change(facts, seen)?;
    invariants::invariant_at_most_one_accepted_result(facts)?;
    invariants::invariant_successes_are_backed(sight, facts)
}
