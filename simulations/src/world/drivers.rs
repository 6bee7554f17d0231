//! The drivers of every node: they carry out what engines ask for, and tell them what came of it.

use std::collections::BTreeSet;

use jobmesh_engine::{Ended, Input, Output, Process as SystemProcess, Remedy, Response, RunOrder, StopReason, Wanted};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{BlobRef, DurationMillis, JobId, RunId};

use super::{Event, Phase, World};
use crate::executor::{Behaviour, Ending, PROGRAM, gone, stopped};
use crate::invariants::{
    Violation, invariant_g5_only_the_winner_reads_the_payload, invariant_inputs_are_there, invariant_runs_are_durable,
    invariant_runs_are_where_they_may_be,
};
use crate::network::{Pair, Seat};
use crate::node::{Condition, Life, Process};
use crate::oracle::{Contract, Sight};
use crate::workload::{Act, may_run_at};

impl World {
    /// Carries out the outputs of a step, in order. Returns the jobs that changed in it.
    pub(super) fn perform(&mut self, seat: Seat, outputs: Vec<Output>) -> Result<BTreeSet<JobId>, Violation> {
        let mut changed = BTreeSet::new();
        for output in outputs {
            match output {
                Output::Reply(request, answer) => self.answered(request, answer)?,
                Output::Send { to, frame } => {
                    invariant_g5_only_the_winner_reads_the_payload(&frame, PROGRAM.as_bytes())?;
                    match self.seats.get(&to).copied() {
                        Some(to) => self.send(seat, to, &frame),
                        None => self.traitor_hears(seat, to, &frame),
                    }
                }
                Output::Publish(bytes) | Output::Shout(bytes) => {
                    invariant_g5_only_the_winner_reads_the_payload(&bytes, PROGRAM.as_bytes())?;
                    self.publish(seat, bytes);
                }
                Output::Provide(keys) => {
                    if let Some(node) = self.nodes.get_mut(seat.0) {
                        node.provides = keys;
                    }
                }
                Output::Find(key) => {
                    let (life, after) = (self.life(seat), self.network.wait(seat, 50, 3_000));
                    self.cause(after, Event::Found { seat, life, key });
                }
                Output::Dial { node, .. } => {
                    if let Some(other) = self.seats.get(&node).copied().filter(|other| *other != seat) {
                        let after = self.network.wait(seat, 5, 200);
                        self.cause(after, Event::Dial(Pair::of(seat, other)));
                    }
                }
                Output::Run(order) => self.run_order(seat, &order)?,
                Output::Stop { run, reason } => self.stop(seat, run, reason),
                Output::Adopt { order, .. } => self.adopt(seat, order.run),
                Output::Forget(_) => {}
                Output::EndOrphan { run, .. } => {
                    self.note(format_args!("{seat} ends the orphan {run}"));
                    if let Some(orphan) = self.nodes.get_mut(seat.0).and_then(|node| node.orphans.remove(&run)) {
                        self.oracle.ledger.end(orphan.contract, None);
                    }
                }
                Output::Fetch(wanted) => self.fetch(seat, wanted),
                // What was about to come may still do so.
                Output::StopFetch(_) => {}
                Output::Changed(change) => {
                    self.routed += u32::from(matches!(change.cause, Cause::Offered | Cause::Awarded));
                    let (number, state, cause) = (change.number, change.state, change.cause);
                    self.note(format_args!("{seat} job {number} is {state} by {cause} at epoch {}", change.epoch));
                    if change.cause == Cause::Offered {
                        self.patience.offer(seat, self.now, change.job);
                    }
                    if change.cause == Cause::Unclaimed {
                        self.patience.withdraw(seat, change.job);
                    }
                    if change.cause == Cause::Awarded {
                        let run = RunId { job: change.job, epoch: change.epoch };
                        self.patience.award(seat, self.now, run);
                    }
                    changed.insert(change.job);
                }
            }
        }
        Ok(changed)
    }

    /// The attempt that a run is, as its origin knows it.
    fn contract(&mut self, seat: Seat, order: &RunOrder) -> Result<Contract, Violation> {
        let own = Contract { origin: seat, job: order.run.job, epoch: order.run.epoch };
        let Some(origin) = order.origin else {
            let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(own) };
            let is_known = node.store()?.begin()?.view().attempt(order.run)?.is_some();
            return invariant_runs_are_durable(order.run, is_known).map(|()| own);
        };
        let unknown = || Violation::new("runs_have_a_lease", format!("{seat} runs {} without a lease", order.run));
        let origin = self.seats.get(&origin).copied().ok_or_else(unknown)?;
        let node = self.nodes.get_mut(seat.0).ok_or_else(unknown)?;
        let txn = node.store()?.begin()?;
        let lease = txn.view().lease(order.run.job)?.ok_or_else(unknown)?;
        Ok(Contract { origin, job: lease.ticket.into(), epoch: lease.epoch })
    }

    /// Looks for the process of a run that an earlier daemon started.
    fn adopt(&mut self, seat: Seat, run: RunId) {
        let (life, after, now) = (self.life(seat), self.executor.reaction(seat), self.now);
        let Some(node) = self.nodes.get_mut(seat.0) else { return };
        let Some(orphan) = node.orphans.remove(&run) else {
            return self.cause(after, Event::RunGone { seat, life, run });
        };
        let is_over = orphan.ends.is_some_and(|ends| ends <= now);
        if is_over && !self.executor.is_remembered(seat) {
            self.oracle.ledger.end(orphan.contract, None);
            return self.cause(after, Event::RunGone { seat, life, run });
        }
        node.ordered.insert(run);
        node.processes.insert(run, orphan);
        self.cause(after, Event::RunAdopted { seat, life, run });
        // Nothing hangs any more once the world has healed.
        let hangs = self.phase == Phase::Faulty || orphan.behaviour.ending == Ending::Never;
        if let Some(ends) = orphan.ends.or((!hangs).then_some(now)) {
            let ends = ends.max(now.plus(after).plus(DurationMillis(1)));
            self.queue_at(ends, Event::RunEnds { seat, life, run, stopped: None });
        }
    }

    pub(super) fn run_adopted(&mut self, seat: Seat, life: Life, run: RunId) -> Result<(), Violation> {
        let runs = self.nodes.get(seat.0).is_some_and(|node| node.processes.contains_key(&run));
        if !runs || !self.lives(seat, life) {
            return Ok(());
        }
        self.note(format_args!("{seat} adopts {run}"));
        let process = SystemProcess { pid: u32::try_from(self.caused % 30_000).unwrap_or(0) + 2, started: self.now.0 };
        self.feed(seat, Input::Adopted { run, process })
    }

    fn run_order(&mut self, seat: Seat, order: &RunOrder) -> Result<(), Violation> {
        let run = order.run;
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        if !node.ordered.insert(run) {
            return Ok(());
        }
        let is_there =
            |ahead: &RunId| node.processes.contains_key(ahead) || node.lined_up.iter().any(|order| order.run == *ahead);
        if order.follows.as_ref().is_some_and(is_there) {
            node.lined_up.push(order.clone());
            return Ok(());
        }
        self.begin_run(seat, order)
    }

    fn begin_run(&mut self, seat: Seat, order: &RunOrder) -> Result<(), Violation> {
        let run = order.run;
        let contract = match self.contract(seat, order) {
            Ok(contract) => contract,
            Err(_) if self.is_damaged(seat) => return Ok(()),
            Err(violation) => return Err(violation),
        };
        let foreign = || Violation::new("runs_come_from_the_workload", format!("{:?}", order.task));
        let behaviour = Behaviour::read(&order.task).ok_or_else(foreign)?;
        let work = self.plan.works.get(&behaviour.index).ok_or_else(foreign)?;
        let (effects, may_run) = (work.effects, may_run_at(&self.plan, work, seat));
        let Some(id) = self.nodes.get(seat.0).map(|node| node.id) else { return Ok(()) };
        if !self.is_damaged(seat) {
            self.oracle.check_run(&contract, id, behaviour.index, effects)?;
            self.oracle.check_wanted(&contract, behaviour.index)?;
            invariant_runs_are_where_they_may_be(behaviour.index, seat, may_run)?;
            self.check_input(seat, order)?;
        }
        let hangs = self.faults.hangs();
        let starts_in = self.executor.reaction(seat);
        let ends = (behaviour.ending != Ending::Never).then(|| self.now.plus(starts_in).plus(behaviour.takes));
        let ends = ends.filter(|_| !hangs);
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        node.processes.insert(run, Process { contract, behaviour, ends });
        let life = node.life;
        self.oracle.ledger.begin((seat, run), contract, id, behaviour.index);
        self.note(format_args!("{seat} runs job {} of the workload at epoch {}", behaviour.index, contract.epoch));
        self.cause(starts_in, Event::RunStarts { seat, life, run });
        if hangs {
            self.note(format_args!("{run} hangs"));
        }
        if let Some(ends) = ends {
            self.queue_at(ends, Event::RunEnds { seat, life, run, stopped: None });
        }
        Ok(())
    }

    /// Processes that hung come to their ends.
    pub(super) fn unhang(&mut self) {
        for seat in self.all_seats() {
            let Some(node) = self.nodes.get_mut(seat.0) else { continue };
            let life = node.life;
            let hung = node.processes.iter().filter(|(_, process)| process.ends.is_none());
            let hung: Vec<RunId> =
                hung.filter(|(_, process)| process.behaviour.ending != Ending::Never).map(|(run, _)| *run).collect();
            for run in hung {
                self.cause(DurationMillis(1_000), Event::RunEnds { seat, life, run, stopped: None });
            }
        }
    }

    fn check_input(&mut self, seat: Seat, order: &RunOrder) -> Result<(), Violation> {
        let mesh = self.oracle.mesh();
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let (id, disk) = (node.id, node.disk.clone());
        let txn = node.store()?.begin()?;
        let (ledger, excused) = (&self.oracle.ledger, &self.oracle.excused);
        let sight = Sight { seat, node: id, mesh, view: txn.view(), disk: &disk, ledger, excused };
        invariant_inputs_are_there(sight, order)
    }

    pub(super) fn run_starts(&mut self, seat: Seat, life: Life, run: RunId) -> Result<(), Violation> {
        let runs = self.nodes.get(seat.0).is_some_and(|node| node.processes.contains_key(&run));
        if !runs || !self.lives(seat, life) {
            return Ok(());
        }
        let process = SystemProcess { pid: u32::try_from(self.caused % 30_000).unwrap_or(0) + 2, started: self.now.0 };
        self.feed(seat, Input::Started { run, process })
    }

    /// Nothing is left of a run of an earlier daemon.
    pub(super) fn run_gone(&mut self, seat: Seat, life: Life, run: RunId) -> Result<(), Violation> {
        if !self.lives(seat, life) {
            return Ok(());
        }
        self.note(format_args!("{seat} finds nothing of {run}"));
        self.feed(seat, Input::Ended { run, ended: gone() })
    }

    fn stop(&mut self, seat: Seat, run: RunId, reason: StopReason) {
        let (life, after) = (self.life(seat), self.executor.reaction(seat));
        self.cause(after, Event::RunEnds { seat, life, run, stopped: Some(reason) });
    }

    pub(super) fn run_ends(
        &mut self,
        seat: Seat,
        life: Life,
        run: RunId,
        reason: Option<StopReason>,
    ) -> Result<(), Violation> {
        if !self.lives(seat, life) {
            return Ok(());
        }
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        if node.is_asleep {
            // A process of a machine that sleeps sleeps, too.
            self.cause(DurationMillis(1_000), Event::RunEnds { seat, life, run, stopped: reason });
            return Ok(());
        }
        let has_begun = node.processes.contains_key(&run);
        if has_begun && reason == Some(StopReason::Withdrawn) {
            return Ok(());
        }
        let Some(process) = node.processes.remove(&run) else { return self.leave_line(seat, run, reason) };
        let fate = self.faults.run_fate(process.contract.origin != seat);
        let (ended, written) = match reason {
            Some(reason) => (stopped(reason), Vec::new()),
            None => self.executor.end(fate, process.behaviour, (seat, run)),
        };
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        node.disk.extend(written.into_iter().map(|blob| blob.hash));
        self.oracle.ledger.end(process.contract, Some(ended.clone()));
        self.note(format_args!("{seat} run of job {} ends: {}", process.behaviour.index, ended.outcome.word()));
        if fate.is_told_twice {
            let again = Box::new(ended.clone());
            self.cause(DurationMillis(50), Event::EndsAgain { seat, life, run, ended: again });
        }
        self.feed(seat, Input::Ended { run, ended })?;
        if self.lives(seat, life) { self.begin_next(seat, run) } else { Ok(()) }
    }

    /// What waited for the end of a run begins.
    fn begin_next(&mut self, seat: Seat, ended: RunId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let Some(at) = node.lined_up.iter().position(|order| order.follows == Some(ended)) else { return Ok(()) };
        let order = node.lined_up.remove(at);
        for other in node.lined_up.iter_mut().filter(|other| other.follows == Some(ended)) {
            other.follows = Some(order.run);
        }
        self.begin_run(seat, &order)
    }

    /// A run is stopped that waits for the end of another, and what waits behind it moves up.
    fn leave_line(&mut self, seat: Seat, run: RunId, reason: Option<StopReason>) -> Result<(), Violation> {
        let (Some(node), Some(reason)) = (self.nodes.get_mut(seat.0), reason) else { return Ok(()) };
        let Some(at) = node.lined_up.iter().position(|order| order.run == run) else { return Ok(()) };
        let order = node.lined_up.remove(at);
        for other in node.lined_up.iter_mut().filter(|other| other.follows == Some(run)) {
            other.follows = order.follows;
        }
        self.feed(seat, Input::Ended { run, ended: Ended { ran_micros: 0, ..stopped(reason) } })
    }

    /// The end of a run is told a second time.
    pub(super) fn ends_again(&mut self, seat: Seat, life: Life, run: RunId, ended: Ended) -> Result<(), Violation> {
        if self.lives(seat, life) { self.feed(seat, Input::Ended { run, ended }) } else { Ok(()) }
    }

    fn fetch(&mut self, seat: Seat, wanted: Wanted) {
        let (life, after) = (self.life(seat), self.network.wait(seat, 10, 800));
        self.cause(after, Event::Copied { seat, life, wanted });
    }

    /// A copy arrives if the holder has the blob, is up, and is reached on a session.
    pub(super) fn copied(&mut self, seat: Seat, life: Life, wanted: Wanted) -> Result<(), Violation> {
        let Wanted { from, blob: BlobRef { hash, .. }, .. } = wanted;
        if !self.lives(seat, life) {
            return Ok(());
        }
        let is_lost = self.faults.loses_blob();
        let has = |seat: Seat| self.nodes.get(seat.0).is_some_and(|node| node.disk.contains(&hash));
        let holder = self.seats.get(&from).copied();
        let is_reached = holder.is_some_and(|holder| {
            let pair = Pair::of(seat, holder);
            let is_near = self.network.session(pair).is_some() && !self.network.is_cut(pair);
            is_near && self.condition(holder) == Condition::Up && has(holder)
        });
        if !has(seat) && (!is_reached || is_lost) {
            let reason = "the holder did not answer".to_owned();
            return self.feed(seat, Input::FetchFailed { wanted, reason, remedy: Remedy::Again });
        }
        if let Some(node) = self.nodes.get_mut(seat.0) {
            node.disk.insert(hash);
        }
        self.feed(seat, Input::Fetched(wanted))
    }

    /// The directory names every live provider, and the asker connects to those it can reach.
    pub(super) fn found(&mut self, seat: Seat, life: Life, key: Hash) -> Result<(), Violation> {
        if !self.lives(seat, life) || self.network.neighbours(seat).is_empty() {
            return Ok(());
        }
        for other in self.all_seats() {
            let provides = self.nodes.get(other.0).is_some_and(|node| node.provides.contains(&key));
            if provides && other != seat {
                self.dial(Pair::of(seat, other))?;
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        request: jobmesh_engine::RequestId,
        answer: Result<Response, jobmesh_engine::Refusal>,
    ) -> Result<(), Violation> {
        let Some((seat, operation)) = self.asked.remove(&request) else { return Ok(()) };
        match (operation, answer) {
            (super::Operation { act: Act::Submit, job: index, .. }, Ok(Response::Submitted(taken))) => {
                let Some(&jobmesh_engine::Taken { job, number, .. }) = taken.first() else { return Ok(()) };
                self.note(format_args!("{seat} acknowledges job {index} of the workload as {number}"));
                self.oracle.acknowledge(seat, index, job);
            }
            (operation, answer) => {
                if operation.act == Act::Cancel && answer.is_ok() {
                    self.note_cancelled(seat, operation)?;
                }
                let word = if answer.is_ok() { "done" } else { "refused" };
                self.note(format_args!("{seat} answers {:?} of job {}: {word}", operation.act, operation.job));
            }
        }
        Ok(())
    }
}

impl World {
    /// Somebody was told that a job is cancelled.
    fn note_cancelled(&mut self, seat: Seat, operation: super::Operation) -> Result<(), Violation> {
        let Some(id) = self.oracle.job_at(operation.job, seat) else { return Ok(()) };
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| !node.is_damaged) else { return Ok(()) };
        let txn = node.store()?.begin()?;
        if let Some(job) = txn.view().job(id)? {
            self.oracle.expect_no_more(id, job.epoch);
        }
        Ok(())
    }
}

/// What a driver keeps for an engine that is still to be built. Who is connected by then, it is told anyway.
pub(super) fn is_kept(input: &Input) -> bool {
    input.is_said_once() && !matches!(input, Input::Connected { .. } | Input::Disconnected(_))
}

/// The inputs of a batch, in one word each.
pub(super) fn names(batch: &[Input]) -> String {
    let name = |input: &Input| match input {
        Input::Tick => "a tick".to_owned(),
        Input::Command(request, _) => format!("command {}", request.0),
        Input::Connected { name, .. } => format!("a session with {name}"),
        Input::Disconnected(node) => format!("the end of a session with {}", node.short()),
        Input::Frame { from, bytes } => format!("{} bytes from {}", bytes.len(), from.short()),
        Input::Addresses(addresses) => format!("{} addresses", addresses.len()),
        Input::Gossip { via, bytes } => format!("{} gossiped bytes via {}", bytes.len(), via.short()),
        Input::Started { run, .. } => format!("the start of {run}"),
        Input::Adopted { run, .. } => format!("the adoption of {run}"),
        Input::Reported { run, .. } => format!("a report of {run}"),
        Input::Ended { run, ended } => format!("the end of {run}: {}", ended.outcome.word()),
        Input::Fetched(wanted) => format!("blob {}", wanted.blob.hash.short()),
        Input::FetchProgress(wanted) => format!("some of blob {}", wanted.blob.hash.short()),
        Input::FetchFailed { wanted, .. } => format!("no blob {}", wanted.blob.hash.short()),
    };
    batch.iter().map(name).collect::<Vec<_>>().join(", ")
}
