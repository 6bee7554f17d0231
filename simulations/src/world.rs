//! The world: every node, the queue of what happens next, and the one loop that takes it off.
//!
//! Nothing here waits. Time jumps to the next event; events of the same time keep the order in which they were
//! caused, so a run depends on its plan alone.

mod drivers;
mod end;
mod fate;
mod people;
mod sessions;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Input, RequestId, StopReason};
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, Role, Serial};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{DurationMillis, JobId, MonoMillis, NodeId, RunId, UnixMillis};

use crate::executor::Executor;
use crate::faults::{FaultKind, Faults, Trap};
use crate::forger::Forger;
use crate::invariants::{Violation, invariant_quiescence};
use crate::network::{Network, Pair, Seat, Session};
use crate::node::{Condition, EPOCH, Life, Node, Parts, StepEnd};
use crate::oracle::Oracle;
use crate::plan::{Disks, Plan};
use crate::random::Stream;
use crate::report::Report;
use crate::trace::Trace;
use crate::workload::{Operation, Workload};

/// Furthest that two wall clocks are apart: half of what certificates forgive.
const SKEW_MAX: DurationMillis = DurationMillis::from_secs(5 * 60);
/// How long a certificate lasts: longer than any run.
const YEAR: DurationMillis = DurationMillis::from_secs(366 * 86_400);
/// Most steps of one virtual minute: many times what the busiest seeds need, so only a storm gets there.
const STEPS_PER_MINUTE_MAX: u64 = 30_000;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// An engine wants to be woken.
    Wake(Seat),
    /// A frame arrives, if its session still lives.
    Frame {
        from: Seat,
        to: Seat,
        session: Session,
        bytes: Vec<u8>,
    },
    /// A digest arrives from a neighbour.
    Gossip {
        via: Seat,
        to: Seat,
        bytes: Vec<u8>,
    },
    /// A node says its digest again.
    Regossip(Seat, Life),
    /// Two nodes try to reach each other once.
    Dial(Pair),
    /// Two nodes that belong together try until they have a session.
    Redial(Pair),
    /// Two nodes notice whether they still hear of each other.
    Ping(Pair),
    /// The directory answers.
    Found {
        seat: Seat,
        life: Life,
        key: Hash,
    },
    /// A forged frame arrives.
    Forged {
        to: Seat,
        bytes: Vec<u8>,
    },
    /// The forger shakes hands with a daemon that has just started.
    ForgerMeets(Seat, Life),
    /// The forger sends garbage.
    ForgerActs,
    /// A process has started.
    RunStarts {
        seat: Seat,
        life: Life,
        run: RunId,
    },
    RunGone {
        seat: Seat,
        life: Life,
        run: RunId,
    },
    /// A process ends by itself, or because it was stopped.
    RunEnds {
        seat: Seat,
        life: Life,
        run: RunId,
        stopped: Option<StopReason>,
    },
    /// A blob has been copied, or not.
    Copied {
        seat: Seat,
        life: Life,
        from: NodeId,
        hash: Hash,
    },
    /// A person does something.
    Operate(Operation),
    /// The next scheduled fault.
    Strike,
    /// A disk is struck.
    StrikeDisk,
    /// A full disk has room again.
    DiskHasRoom(Seat),
    /// A daemon whose database fails tries again.
    Repair(Seat, Life),
    /// A partition ends.
    Rejoin(BTreeSet<(Seat, Seat)>),
    /// A dead daemon starts again.
    Restart(Seat),
    /// A paused daemon goes on.
    Resume(Seat, Life),
    /// The faults end.
    Heal,
    /// Everything is connected again and late capabilities appear.
    Reunite,
    /// Look whether everything has ended.
    Inspect,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Things go wrong.
    Faulty,
    /// Nothing goes wrong any more; jobs come to their ends.
    Healing { since: MonoMillis },
    /// Every job has ended; nobody should be busy.
    Idle { since: MonoMillis, steps_before: u64 },
    /// The run is over.
    Over { idle_steps: u64 },
}

/// All nodes and everything between them.
pub(crate) struct World {
    plan: Plan,
    now: MonoMillis,
    phase: Phase,
    queue: BTreeMap<(MonoMillis, u64), Event>,
    caused: u64,
    nodes: Vec<Node>,
    seats: BTreeMap<NodeId, Seat>,
    network: Network,
    executor: Executor,
    faults: Faults,
    forger: Option<Forger>,
    workload: Workload,
    oracle: Oracle,
    trace: Trace,
    /// Commands that were not answered yet, with the operation that they stand for.
    asked: BTreeMap<RequestId, (Seat, Operation)>,
    requests: u64,
    redialing: BTreeSet<Pair>,
    steps: u64,
    frames: u64,
    minute: (u64, u64),
}

impl World {
    /// Makes the world of a plan, with every daemon about to start.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut stream = Stream::new(plan.seed, "world");
        crate::disk::seed(plan.seed);
        let root: [u8; 32] = stream.array();
        let mesh = MeshRoot::new(Identity::from_seed(root)).mesh();
        let mut faults = Faults::draw(plan.seed, plan.disks);
        let workload = Workload::draw(plan);
        let nodes = make_nodes(plan, &mut stream, root, (&mut faults, &workload));
        let mut world = Self {
            now: MonoMillis(0),
            phase: Phase::Faulty,
            queue: BTreeMap::new(),
            caused: 0,
            seats: nodes.iter().enumerate().map(|(seat, node)| (node.id, Seat(seat))).collect(),
            nodes,
            network: Network::draw(plan.seed, plan.nodes),
            executor: Executor::new(plan.seed),
            forger: faults.has(FaultKind::Forger).then(|| Forger::new(plan.seed, mesh)),
            faults,
            oracle: Oracle::new(plan.watch, mesh),
            trace: Trace::new(plan.tail_lines),
            asked: BTreeMap::new(),
            requests: 0,
            redialing: BTreeSet::new(),
            steps: 0,
            frames: 0,
            minute: (0, 0),
            workload,
            plan: plan.clone(),
        };
        world.set_out();
        world
    }

    /// Runs until everything is over.
    pub(crate) fn run(&mut self) -> Result<Report, Violation> {
        loop {
            if let Phase::Over { idle_steps } = self.phase {
                return self.report(idle_steps);
            }
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err(Violation::new("the_world_goes_on", "nothing is left to happen"));
            };
            self.now = at;
            self.happen(event)?;
        }
    }

    pub(crate) const fn now(&self) -> MonoMillis {
        self.now
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.trace.tail()
    }

    /// Puts everything that a plan fixes beforehand on the queue.
    fn set_out(&mut self) {
        for seat in self.all_seats() {
            let after = self.network.wait(0, 500);
            self.cause(after, Event::Restart(seat));
        }
        for pair in self.network.homes() {
            self.redial(pair, 600, 1_500);
        }
        for (at, operation) in self.workload.operations.clone() {
            self.queue_at(at, Event::Operate(operation));
        }
        if self.forger.is_some() {
            self.cause(DurationMillis(3_000), Event::ForgerActs);
        }
        let first = self.faults.pause().plus(DurationMillis(2_000));
        self.cause(first, Event::Strike);
        if self.plan.disks == Disks::Honest {
            let first = self.faults.disk_pause();
            self.cause(first, Event::StrikeDisk);
        }
        self.cause(self.plan.faulty, Event::Heal);
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Wake(seat) => self.wake(seat),
            Event::Frame { from, to, session, bytes } => self.arrive(from, to, session, bytes),
            Event::Gossip { via, to, bytes } => self.hear(via, to, bytes),
            Event::Regossip(seat, life) => self.regossip(seat, life),
            Event::Dial(pair) => self.dial(pair),
            Event::Redial(pair) => self.dial_again(pair),
            Event::Ping(pair) => self.ping(pair),
            Event::Found { seat, life, key } => self.found(seat, life, key),
            Event::Forged { to, bytes } => self.forged(to, bytes),
            Event::ForgerMeets(seat, life) => self.meet_forger(seat, life),
            Event::ForgerActs => self.forger_acts(),
            Event::RunStarts { seat, life, run } => self.run_starts(seat, life, run),
            Event::RunGone { seat, life, run } => self.run_gone(seat, life, run),
            Event::RunEnds { seat, life, run, stopped } => self.run_ends(seat, life, run, stopped),
            Event::Copied { seat, life, from, hash } => self.copied(seat, life, from, hash),
            Event::Operate(operation) => self.operate(operation),
            Event::Strike => self.strike(),
            Event::StrikeDisk => {
                self.strike_disk();
                Ok(())
            }
            Event::DiskHasRoom(seat) => {
                self.make_room(seat);
                Ok(())
            }
            Event::Repair(seat, life) => self.repair(seat, life),
            Event::Rejoin(cut) => {
                self.note(format_args!("a partition ends"));
                self.network.unblock(&cut);
                Ok(())
            }
            Event::Restart(seat) => self.restart(seat),
            Event::Resume(seat, life) => self.resume(seat, life),
            Event::Heal => self.heal(),
            Event::Reunite => self.reunite(),
            Event::Inspect => self.inspect(),
        }
    }

    /// Hands an input to a node, now if its daemon takes part, later if it stands still, never if it is dead.
    fn feed(&mut self, seat: Seat, input: Input) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        match node.condition {
            Condition::Up => self.step(seat, vec![input]),
            Condition::Paused => {
                node.backlog.push(input);
                Ok(())
            }
            Condition::Failing => {
                node.backlog.extend(Some(input).filter(drivers::is_kept));
                Ok(())
            }
            Condition::Down => Ok(()),
        }
    }

    /// One step of one node, with whatever strikes it, and everything that follows from it.
    fn step(&mut self, seat: Seat, batch: Vec<Input>) -> Result<(), Violation> {
        self.count_step()?;
        self.trace.line(self.now, format_args!("{seat} takes {}", drivers::names(&batch)));
        let trap = self.spring(seat, &batch);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let end = node.step(now, batch, trap)?;
        self.note_struck(seat);
        match end {
            StepEnd::Released(outputs) => {
                let changed = self.perform(seat, outputs)?;
                self.check_jobs(seat, &changed)?;
            }
            StepEnd::Died(escaped) => {
                self.perform(seat, escaped)?;
                return self.crash(seat);
            }
            StepEnd::Rebuilt(outputs, again) => return self.rebuilt(seat, outputs, again),
            StepEnd::Failed(trouble, again) => return self.fail(seat, &trouble, again),
        }
        self.schedule_wake(seat);
        Ok(())
    }

    /// After a commit that failed: the driver says again what the lost engine knew and what it had just heard.
    fn rebuilt(
        &mut self,
        seat: Seat,
        outputs: Vec<jobmesh_engine::Output>,
        again: Vec<Input>,
    ) -> Result<(), Violation> {
        self.note(format_args!("{seat} rebuilds its engine"));
        self.check_node(seat)?;
        self.perform(seat, outputs)?;
        let neighbours = self.network.neighbours(seat);
        let mut batch: Vec<Input> = neighbours.into_iter().map(|other| self.connected(other)).collect();
        batch.extend(again.into_iter().filter(drivers::is_said_again));
        self.step(seat, batch)
    }

    fn check_jobs(&mut self, seat: Seat, jobs: &BTreeSet<JobId>) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0).filter(|_| !jobs.is_empty()) else { return Ok(()) };
        let (id, disk) = (node.id, node.disk.clone());
        let txn = node.store()?.begin()?;
        self.oracle.check_jobs((seat, id), txn.view(), &disk, jobs)
    }

    fn check_node(&mut self, seat: Seat) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let (id, disk) = (node.id, node.disk.clone());
        let txn = node.store()?.begin()?;
        self.oracle.check_node((seat, id), txn.view(), &disk)
    }

    fn wake(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.wakes == Some(now)) else { return Ok(()) };
        node.wakes = None;
        match node.condition {
            Condition::Up => self.step(seat, vec![Input::Tick]),
            // Whoever goes on after a pause looks at the clock first.
            Condition::Paused | Condition::Failing | Condition::Down => Ok(()),
        }
    }

    fn schedule_wake(&mut self, seat: Seat) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.condition == Condition::Up) else { return };
        let wanted = node.wakeup(now);
        if wanted != node.wakes {
            node.wakes = wanted;
            if let Some(at) = wanted {
                self.queue_at(at, Event::Wake(seat));
            }
        }
    }

    /// Whether this step is struck: by a trap laid earlier, or because it takes a command, where most is to lose.
    fn spring(&mut self, seat: Seat, batch: &[Input]) -> Option<Trap> {
        let takes_command = batch.iter().any(|input| matches!(input, Input::Command(..)));
        let struck = if takes_command && self.faults.strikes(FaultKind::CrashBeforeCommit, 80) {
            Some(Trap::BeforeCommit)
        } else if takes_command && self.faults.strikes(FaultKind::CrashBeforeRelease, 80) {
            Some(Trap::BeforeRelease)
        } else {
            None
        };
        let node = self.nodes.get_mut(seat.0)?;
        let struck = struck.or_else(|| match &mut node.trap {
            Some((trap, 0)) => Some(*trap),
            Some((_, steps)) => {
                *steps -= 1;
                None
            }
            None => None,
        })?;
        node.trap = None;
        self.faults.note(struck.kind());
        self.note(format_args!("{seat} is struck: {}", struck.kind().word()));
        Some(struck)
    }

    fn count_step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        let minute = self.now.0 / 60_000;
        let (counted, steps) = self.minute;
        self.minute = if counted == minute { (minute, steps + 1) } else { (minute, 1) };
        invariant_quiescence(self.minute.1, STEPS_PER_MINUTE_MAX)
    }

    fn all_seats(&self) -> Vec<Seat> {
        (0..self.nodes.len()).map(Seat).collect()
    }

    fn condition(&self, seat: Seat) -> Condition {
        self.nodes.get(seat.0).map_or(Condition::Down, |node| node.condition)
    }

    fn life(&self, seat: Seat) -> Life {
        self.nodes.get(seat.0).map(|node| node.life).unwrap_or_default()
    }

    /// Whether this life of a daemon goes on.
    fn lives(&self, seat: Seat, life: Life) -> bool {
        self.nodes.get(seat.0).is_some_and(|node| node.life == life && node.condition != Condition::Down)
    }

    fn note(&mut self, text: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, text);
    }

    fn cause(&mut self, after: DurationMillis, event: Event) {
        self.queue_at(self.now.plus(after), event);
    }

    fn queue_at(&mut self, at: MonoMillis, event: Event) {
        self.caused += 1;
        self.queue.insert((at, self.caused), event);
    }
}

/// The nodes of a plan, all certified by one root that the first of them keeps.
fn make_nodes(
    plan: &Plan,
    stream: &mut Stream,
    root: [u8; 32],
    (faults, workload): (&mut Faults, &Workload),
) -> Vec<Node> {
    let mesh_root = MeshRoot::new(Identity::from_seed(root));
    let identities: Vec<[u8; 32]> = (0..plan.nodes).map(|_| stream.array()).collect();
    let ids: Vec<NodeId> = identities.iter().map(|seed| Identity::from_seed(*seed).node()).collect();
    let sponsor = ids.first().copied().unwrap_or(NodeId::from_bytes([0; 32]));
    let mut nodes = Vec::with_capacity(plan.nodes);
    for (seat, (identity, member)) in identities.into_iter().zip(ids).enumerate() {
        let skew = stream.below(SKEW_MAX.0);
        let wall = if faults.has(FaultKind::Skew) {
            faults.note(FaultKind::Skew);
            UnixMillis(EPOCH.0 - SKEW_MAX.0 / 2 + skew)
        } else {
            EPOCH
        };
        let grant = Grant {
            member,
            role: if seat == 0 { Role::Admin } else { Role::Member },
            sponsor,
            issued_at_ms: EPOCH.0,
            not_after_ms: EPOCH.plus(YEAR).0,
            serial: Serial::from_bytes(stream.array()),
        };
        let parts = Parts {
            membership: Membership::issue_root(&mesh_root, &grant),
            identity,
            mesh: mesh_root.mesh(),
            root: (seat == 0).then_some(root),
            detected: workload.machine(Seat(seat)),
            wall,
            #[cfg(feature = "mutants")]
            mutant: plan.mutant,
        };
        nodes.push(Node::new(plan.seed, Seat(seat), parts));
    }
    nodes
}
