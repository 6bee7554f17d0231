//! How a run ends: the world heals, every job comes to its end, and then nobody has much to do.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Command;
use jobmesh_protocol::chain::{Auditor, Chain, Link};
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{DurationMillis, MonoMillis, NodeId};
use jobmesh_store::{Job, Selection, Side};

use super::{Event, Phase, World};
use crate::executor::Behaviour;
use crate::fault::FaultKind;
use crate::invariants::{
    Violation, invariant_every_job_ends_once_the_network_heals,
    invariant_every_receipt_is_settled_once_the_network_heals, invariant_quiescence, invariant_receipts_are_a_chain,
};
use crate::network::Seat;
use crate::node::Condition;
use crate::plan::NODES_MAX;
use crate::report::Report;
use crate::workload::late_tag;

/// How long jobs may take to end once the world has healed: a few leases, the longest timeout and every retry.
const HEALING_MAX: DurationMillis = DurationMillis::from_secs(10 * 60);
/// How often the world looks whether they have.
const INSPECT_EVERY: DurationMillis = DurationMillis::from_secs(5);
/// Steps that a pair of nodes may take in a minute with nothing to do: refreshes and digests, a few each way.
const IDLE_STEPS_PER_PAIR: u64 = 30;
/// Jobs that a node lists at most: more than any workload has.
const JOBS_MAX: u32 = 1_000_000;

/// Jobs with the nodes whose databases hold them.
type Jobs = Vec<(Seat, Job)>;

impl World {
    /// Ends every fault and brings every daemon back.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.note(format_args!("the world heals"));
        self.phase = Phase::Healing { since: self.now };
        self.faults.heal();
        self.network.heal();
        self.mend_all()?;
        self.unhang();
        self.abandon()?;
        for seat in self.all_seats() {
            if let Some(node) = self.nodes.get_mut(seat.0) {
                node.traps.clear();
                node.files.heal();
            }
            let life = self.life(seat);
            match self.condition(seat) {
                Condition::Up | Condition::Failing | Condition::Absent => {}
                Condition::Paused => self.resume(seat, life)?,
                Condition::Down => self.restart(seat)?,
            }
        }
        self.cause(DurationMillis(5_000), Event::Reunite);
        self.cause(INSPECT_EVERY, Event::Inspect);
        Ok(())
    }

    /// Whoever is not of the core is dead for good. The others can't tell that from a cut that never ends.
    fn abandon(&mut self) -> Result<(), Violation> {
        let outside: Vec<Seat> = self.all_seats().into_iter().filter(|seat| !self.plan.heals(seat.0)).collect();
        for seat in outside {
            if self.condition(seat) == Condition::Absent {
                continue;
            }
            self.note(format_args!("{seat} stays broken for good"));
            self.crash_for(seat, DurationMillis(0), false)?;
            if let Some(node) = self.nodes.get_mut(seat.0) {
                node.condition = Condition::Absent;
            }
        }
        Ok(())
    }

    /// Whoever ever had a session gets a new one, as their address books would have it, and the capability that nobody had appears.
    pub(super) fn reunite(&mut self) -> Result<(), Violation> {
        // In a large world that would be most of all work.
        let is_small = self.plan.nodes.len() <= NODES_MAX;
        for pair in self.network.sessions().into_iter().filter(|_| is_small) {
            self.hang_up(pair)?;
        }
        self.redialing.clear();
        for pair in self.network.met() {
            self.redial(pair, 100, 2_000);
        }
        match late_tag() {
            Some(tag) => self.tell(Seat(self.plan.late), Command::AddCapability(tag)),
            None => Ok(()),
        }
    }

    pub(super) fn inspect(&mut self) -> Result<(), Violation> {
        self.cause(INSPECT_EVERY, Event::Inspect);
        self.release_held()?;
        let open = self.open_jobs()?;
        match self.phase {
            Phase::Healing { .. } if open.is_empty() && !self.is_unsure => {
                self.note(format_args!("every job has ended"));
                self.phase = Phase::Idle { since: self.now, steps_before: self.steps };
                Ok(())
            }
            Phase::Healing { since } if self.now.since(since) > HEALING_MAX => {
                let stuck = self.explain(&open)?;
                invariant_every_job_ends_once_the_network_heals(&stuck)
            }
            Phase::Idle { since, steps_before } if self.now.since(since) >= self.plan.idle => {
                let idle_steps = self.steps - steps_before;
                let nodes = self.nodes.len() as u64;
                let minutes = self.plan.idle.0.div_ceil(60_000);
                invariant_quiescence(idle_steps, IDLE_STEPS_PER_PAIR * minutes * nodes * nodes)?;
                let stuck = self.explain(&open)?;
                invariant_every_job_ends_once_the_network_heals(&stuck)?;
                self.phase = Phase::Over { idle_steps };
                Ok(())
            }
            Phase::Faulty | Phase::Healing { .. } | Phase::Idle { .. } | Phase::Over { .. } => Ok(()),
        }
    }

    /// Every job that has not ended though some node can run it, or that runs for another node.
    fn open_jobs(&mut self) -> Result<Vec<(Seat, Job)>, Violation> {
        Ok(self.live_jobs()?.0)
    }

    /// The jobs that have not ended: those that can, and those that nobody can run.
    fn live_jobs(&mut self) -> Result<(Jobs, Jobs), Violation> {
        let (mut open, mut hopeless) = (Jobs::new(), Jobs::new());
        self.is_unsure = false;
        let (plan, machines) = (&self.plan, &self.machines);
        for (seat, node) in self.nodes.iter_mut().enumerate() {
            if !plan.heals(seat) {
                continue;
            }
            if matches!(node.condition, Condition::Down | Condition::Failing) {
                // Whatever it has open, it will say when it is up again.
                self.is_unsure = true;
                continue;
            }
            let txn = node.store()?.begin()?;
            for job in txn.view().live_jobs()? {
                let can_end =
                    job.origin.is_some() || job.cancel_reason.is_some() || machines.can_run(&job.spec, Seat(seat));
                let list = if can_end { &mut open } else { &mut hopeless };
                list.push((Seat(seat), job));
            }
        }
        Ok((open, hopeless))
    }

    fn explain(&mut self, open: &[(Seat, Job)]) -> Result<Vec<String>, Violation> {
        let mut lines = Vec::new();
        for (seat, job) in open {
            let now = self.now;
            let Some(node) = self.nodes.get_mut(seat.0) else { continue };
            let why = node.explain(now, job.id)?;
            let summary = why.as_ref().map_or("", |why| why.summary.as_str());
            let reasons = why
                .as_ref()
                .map(|why| why.reasons.iter().map(|reason| reason.words.as_str()).collect::<Vec<_>>().join("; "))
                .unwrap_or_default();
            let index = Behaviour::read(&job.spec.task).map(|behaviour| behaviour.index);
            lines.push(format!("{seat} job {} ({index:?}) is {}: {summary} {reasons}", job.number, job.state));
        }
        Ok(lines)
    }

    /// Holds the receipts that every node gave against those that every other one took. Who lost what it knew, or is not
    /// heard from any more, has nothing to hold against.
    fn check_chains(&mut self) -> Result<(), Violation> {
        let (mesh, lost) = (self.oracle.mesh(), self.lost_nodes());
        let mut chains: BTreeMap<(NodeId, NodeId), BTreeMap<Side, Vec<Link>>> = BTreeMap::new();
        for seat in self.all_seats() {
            let Some(node) = self.nodes.get_mut(seat.0) else { continue };
            let me = node.id;
            if lost.contains(&me) {
                continue;
            }
            let txn = node.store()?.begin()?;
            for peer in txn.view().linked_peers()?.into_iter().filter(|peer| !lost.contains(peer)) {
                for (side, ends) in [(Side::Given, (me, peer)), (Side::Taken, (peer, me))] {
                    let rows = txn.view().links(peer, side, JOBS_MAX)?.into_iter();
                    let links = rows.map(|row| Link::new(row.receipt, row.settle)).collect();
                    chains.entry(ends).or_default().insert(side, links);
                }
            }
        }
        for ((executor, origin), mut sides) in chains {
            let mut audit = |side| {
                let links = sides.remove(&side).unwrap_or_default();
                Auditor::check(mesh, &Chain { executor, origin, links })
            };
            invariant_receipts_are_a_chain(&audit(Side::Given), &audit(Side::Taken))?;
        }
        Ok(())
    }

    /// The last look at everything, and what there is to say.
    pub(super) fn report(&mut self, idle_steps: u64) -> Result<Report, Violation> {
        let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut attempts: BTreeMap<&'static str, u64> = BTreeMap::new();
        for seat in self.all_seats().into_iter().filter(|seat| self.plan.heals(seat.0)).collect::<Vec<_>>() {
            self.check_node(seat)?;
            let lost = self.lost_nodes();
            let Some(node) = self.nodes.get_mut(seat.0) else { continue };
            self.marks.of_counters(&node.counters());
            let txn = node.store()?.begin()?;
            let all = Selection { with_tasks: true, limit: JOBS_MAX, ..Selection::default() };
            let jobs = txn.view().jobs(&all)?;
            for job in &jobs {
                self.marks.of_job(txn.view(), job)?;
            }
            let (told, rest): (Vec<Job>, Vec<Job>) =
                jobs.into_iter().partition(|job| job.origin.is_some_and(|origin| !lost.contains(&origin)));
            invariant_every_receipt_is_settled_once_the_network_heals(txn.view(), &told)?;
            for job in rest.into_iter().filter(|job| job.origin.is_none()) {
                *states.entry(job.state.word()).or_default() += 1;
                let late = txn.view().events(job.id)?.iter().filter(|event| event.cause == Cause::Late).count() as u64;
                *attempts.entry("late").or_default() += late;
                for attempt in txn.view().attempts(job.id)? {
                    *attempts.entry(attempt.state.word()).or_default() += 1;
                }
            }
        }
        self.check_chains()?;
        let (_, hopeless) = self.live_jobs()?;
        let hopeless = self.explain(&hopeless)?;
        let faults: BTreeMap<FaultKind, u64> = self.faults.injected();
        self.note(format_args!("{states:?} {attempts:?} {faults:?}"));
        Ok(Report {
            plan: self.plan.clone(),
            lasted: MonoMillis(self.now.0),
            jobs: self.oracle.acknowledged(),
            runs: self.oracle.ledger.len(),
            attempts,
            states,
            hopeless,
            steps: self.steps,
            idle_steps,
            frames: self.frames,
            faults,
            marks: self.marks.counts.clone(),
            met: self.oracle.met.clone(),
            bytes: self.bytes,
            traffic: self.traffic.clone(),
            scripted: self.relevant.clone(),
            pace: self.pace.clone(),
            trace: self.trace.hash(),
            databases: self.databases(),
        })
    }

    /// The nodes that no longer know what they awarded, or that nobody hears from any more.
    fn lost_nodes(&self) -> BTreeSet<NodeId> {
        let gone = self.nodes.iter().enumerate().filter(|(seat, _)| !self.plan.heals(*seat)).map(|(_, node)| node.id);
        gone.chain(self.oracle.excused.nodes.iter().copied()).collect()
    }

    fn databases(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for node in &self.nodes {
            node.files.hash(&mut hasher);
        }
        hasher.finalize().to_hex().to_string()
    }
}
