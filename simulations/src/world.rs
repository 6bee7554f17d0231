//! The world: every node, the queue of what happens next, and the one loop that takes it off.
//!
//! Nothing here waits. Time jumps to the next event; events of the same time keep the order in which they were
//! caused, so a run depends on its plan alone.

#[cfg(test)]
mod contract;
mod damage;
mod drivers;
mod end;
mod fate;
mod patience;
mod people;
mod script;
mod sessions;
mod storage;
mod treason;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Command, Ended, Input, JobAction, RequestId, StopReason, Wanted};
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, Role, Serial};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{DurationMillis, JobId, MonoMillis, NodeId, RunId, UnixMillis};

use crate::disk::Backup;
use crate::executor::Executor;
use crate::fault::{FaultKind, Trap, Treason, What, When};
use crate::faults::Faults;
use crate::forger::Forger;
use crate::invariants::{Violation, invariant_quiescence};
use crate::marks::Marks;
use crate::network::{Network, Pair, Seat, Session};
use crate::node::{Condition, EPOCH, Life, Node, Parts, StepEnd};
use crate::oracle::Oracle;
use crate::plan::{NODES_MAX, NodePlan, Plan};
use crate::random::Stream;
use crate::report::{Pace, Report};
use crate::trace::Trace;
use crate::traffic::Traffic;
use crate::traitor::{Betrayal, Traitor};
use crate::workload::{Machines, Operation, machine};

use patience::{LOOK_EVERY, Patience};

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
    Frame { from: Seat, to: Seat, session: Session, bytes: Vec<u8> },
    /// A digest arrives from a neighbour.
    Gossip { via: Seat, to: Seat, bytes: Vec<u8> },
    /// A node says its digest again.
    Regossip(Seat, Life),
    /// Two nodes try to reach each other once.
    Dial(Pair),
    /// Two nodes that belong together try until they have a session.
    Redial(Pair),
    /// Two nodes notice whether they still hear of each other.
    Ping(Pair),
    /// The directory answers.
    Found { seat: Seat, life: Life, key: Hash },
    /// The bytes of a connection break off.
    BreakOff(Pair, Session),
    /// A frame of long ago arrives once more.
    Replay { from: Seat, to: Seat, bytes: Vec<u8> },
    /// One end of a closed connection gives it up at last.
    HalfOpenEnds(Pair),
    /// A forged frame arrives.
    Forged { to: Seat, bytes: Vec<u8> },
    /// The forger shakes hands with a daemon that has just started.
    ForgerMeets(Seat, Life),
    /// The forger sends garbage.
    ForgerActs,
    /// The traitor shakes hands with a daemon that has just started.
    TraitorMeets(Seat, Life),
    /// The traitor does something.
    TraitorActs(Treason),
    /// What one of the traitor's members sends arrives.
    Betrays { to: Seat, by: NodeId, what: Betrayal },
    /// A process has started.
    RunStarts { seat: Seat, life: Life, run: RunId },
    /// A process that outlived its daemon is found.
    RunAdopted { seat: Seat, life: Life, run: RunId },
    /// None is found.
    RunGone { seat: Seat, life: Life, run: RunId },
    /// The end of a process is told a second time.
    EndsAgain { seat: Seat, life: Life, run: RunId, ended: Box<Ended> },
    /// A process ends by itself, or because it was stopped.
    RunEnds { seat: Seat, life: Life, run: RunId, stopped: Option<StopReason> },
    /// A blob has been copied, or not.
    Copied { seat: Seat, life: Life, wanted: Wanted },
    /// A person does something.
    Operate(Operation),
    /// A fault of the plan begins.
    FaultBegins(usize),
    /// It ends.
    FaultEnds(usize),
    /// A node of a swizzle is clogged.
    Clog(Seat),
    /// It no longer is.
    Unclog(Seat),
    /// The owner of a damaged machine sets it up anew.
    SetUpAnew(Seat),
    /// The other of two databases under one key has its turn.
    TakeTurn(usize),
    /// A daemon whose database fails tries again.
    Repair(Seat, Life),
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
    /// Look how long everyone has waited for others.
    LookAtPatience,
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
    traitor: Option<Traitor>,
    /// Old copies of disks, by the fault that will put them back.
    backups: BTreeMap<usize, Backup>,
    marks: Marks,
    /// Whether some node could not say what it has open.
    is_unsure: bool,
    /// The events that a script counts, each by whether it is a frame.
    relevant: Vec<bool>,
    /// How often the last step decided who is asked for a job, or gets it.
    routed: u32,
    pace: Pace,
    machines: Machines,
    oracle: Oracle,
    trace: Trace,
    /// Commands that were not answered yet, with the operation that they stand for.
    asked: BTreeMap<RequestId, (Seat, Operation)>,
    requests: u64,
    redialing: BTreeSet<Pair>,
    patience: Patience,
    steps: u64,
    frames: u64,
    bytes: u64,
    traffic: Traffic,
    minute: (u64, u64),
    #[cfg(test)]
    tap: contract::Tap,
}

impl World {
    /// Makes the world of a plan, with every daemon about to start.
    pub(crate) fn new(plan: &Plan) -> Self {
        crate::disk::seed(plan.seed);
        let root: [u8; 32] = Stream::new(plan.seed, "root").array();
        let mesh = MeshRoot::new(Identity::from_seed(root)).mesh();
        let mut faults = Faults::new(plan.seed);
        let nodes = make_nodes(plan, root, &mut faults);
        let has_both = |(one, other): &&(usize, usize)| one != other && plan.has_seat(*one) && plan.has_seat(*other);
        let homes = plan.homes.iter().filter(has_both).map(|(one, other)| Pair::of(Seat(*one), Seat(*other)));
        let has_traitor = plan.faults.iter().any(|fault| matches!(fault.what, What::Traitor(_)));
        let has_forger = plan.faults.iter().any(|fault| fault.what == What::Forger);
        let mut world = Self {
            now: MonoMillis(0),
            phase: Phase::Faulty,
            queue: BTreeMap::new(),
            caused: 0,
            seats: nodes.iter().enumerate().map(|(seat, node)| (node.id, Seat(seat))).collect(),
            nodes,
            network: Network::new(plan.seed, homes.collect()),
            executor: Executor::new(plan.seed),
            forger: has_forger.then(|| Forger::new(plan.seed, mesh)),
            traitor: has_traitor.then(|| Traitor::new(plan, mesh)),
            backups: BTreeMap::new(),
            marks: Marks::default(),
            is_unsure: false,
            relevant: Vec::new(),
            routed: 0,
            pace: Pace::default(),
            machines: Machines::new(plan),
            faults,
            oracle: Oracle::new(plan.watch, mesh),
            trace: Trace::new(plan.tail_lines),
            asked: BTreeMap::new(),
            requests: 0,
            redialing: BTreeSet::new(),
            patience: Patience::default(),
            steps: 0,
            frames: 0,
            bytes: 0,
            traffic: Traffic::default(),
            minute: (0, 0),
            #[cfg(test)]
            tap: contract::Tap::default(),
            plan: plan.clone(),
        };
        // Nobody is held to what a traitor says.
        world.oracle.excused.nodes.extend(world.traitor.iter().flat_map(Traitor::members));
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
            if let Some(event) = self.scripted(event)? {
                self.happen(event)?;
            }
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
            let after = self.network.wait(seat, 0, 500);
            self.cause(after, Event::Restart(seat));
        }
        for pair in self.network.homes() {
            self.redial(pair, 600, 1_500);
        }
        for operation in self.plan.operations.clone() {
            self.queue_at(MonoMillis(operation.at.0), Event::Operate(operation));
        }
        let begins: Vec<MonoMillis> = self.plan.faults.iter().map(|fault| MonoMillis(fault.at.0)).collect();
        for (index, at) in begins.into_iter().enumerate() {
            self.queue_at(at, Event::FaultBegins(index));
        }
        self.cause(self.plan.faulty, Event::Heal);
        self.cause(LOOK_EVERY, Event::LookAtPatience);
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
            Event::BreakOff(pair, session) => self.break_off(pair, session),
            Event::Replay { from, to, bytes } => self.replay(from, to, bytes),
            Event::HalfOpenEnds(pair) => self.half_open_ends(pair),
            Event::Forged { to, bytes } => self.forged(to, bytes),
            Event::ForgerMeets(seat, life) => self.meet_forger(seat, life),
            Event::ForgerActs => self.forger_acts(),
            Event::TraitorMeets(seat, life) => self.meet_traitor(seat, life),
            Event::TraitorActs(treason) => self.traitor_acts(treason),
            Event::Betrays { to, by, what } => self.betrayed(to, by, what),
            Event::RunStarts { seat, life, run } => self.run_starts(seat, life, run),
            Event::RunAdopted { seat, life, run } => self.run_adopted(seat, life, run),
            Event::EndsAgain { seat, life, run, ended } => self.ends_again(seat, life, run, *ended),
            Event::RunGone { seat, life, run } => self.run_gone(seat, life, run),
            Event::RunEnds { seat, life, run, stopped } => self.run_ends(seat, life, run, stopped),
            Event::Copied { seat, life, wanted } => self.copied(seat, life, wanted),
            Event::Operate(operation) => self.operate(operation),
            Event::FaultBegins(index) => self.begin_fault(index),
            Event::FaultEnds(index) => self.end_fault(index),
            Event::Clog(seat) => {
                self.clog(seat);
                Ok(())
            }
            Event::Unclog(seat) => {
                self.unclog(seat);
                Ok(())
            }
            Event::SetUpAnew(seat) => self.set_up_anew(seat),
            Event::TakeTurn(fault) => self.take_turn(fault),
            Event::Repair(seat, life) => self.repair(seat, life),
            Event::Restart(seat) => {
                #[cfg(test)]
                self.tap.began(seat);
                self.restart(seat)
            }
            Event::Resume(seat, life) => self.resume(seat, life),
            Event::Heal => self.heal(),
            Event::Reunite => self.reunite(),
            Event::Inspect => self.inspect(),
            Event::LookAtPatience => self.look_at_patience(),
        }
    }

    /// Hands an input to a node, now if its daemon takes part, later if it stands still, never if it is dead.
    fn feed(&mut self, seat: Seat, input: Input) -> Result<(), Violation> {
        #[cfg(test)]
        self.overheard(seat, &input);
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        match node.condition {
            Condition::Up => {
                self.patience.hear(seat, self.now, &input);
                self.step(seat, vec![input])
            }
            // A machine that sleeps hears nothing.
            Condition::Paused if node.is_asleep && matches!(input, Input::Frame { .. } | Input::Gossip { .. }) => {
                Ok(())
            }
            Condition::Paused => {
                node.backlog.push(input);
                Ok(())
            }
            Condition::Failing => {
                node.backlog.extend(Some(input).filter(drivers::is_kept));
                Ok(())
            }
            Condition::Down | Condition::Absent => Ok(()),
        }
    }

    /// One step of one node, with whatever strikes it, and everything that follows from it.
    fn step(&mut self, seat: Seat, batch: Vec<Input>) -> Result<(), Violation> {
        self.count_step()?;
        self.trace.line(self.now, format_args!("{seat} takes {}", drivers::names(&batch)));
        let trap = self.spring(seat, &batch);
        let now = self.now;
        let end = if self.is_damaged(seat) {
            self.step_damaged(seat, batch, trap)
        } else {
            let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
            node.step(now, batch, trap)?
        };
        self.note_struck(seat);
        match end {
            StepEnd::Released(outputs) => {
                self.routed = 0;
                let changed = self.perform(seat, outputs)?;
                if let Some(node) = self.nodes.get(seat.0).filter(|_| self.routed > 0) {
                    self.pace.add(node.decided_in, self.routed, node.known_records());
                }
                self.check_jobs(seat, &changed)?;
                self.look_at_lost(seat, &changed)?;
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
        self.patience.begin(seat, self.now);
        self.check_node(seat)?;
        self.perform(seat, outputs)?;
        let neighbours = self.network.neighbours(seat);
        let mut batch: Vec<Input> = neighbours.into_iter().map(|other| self.connected(other)).collect();
        batch.extend(again.into_iter().filter(Input::is_said_once));
        self.step(seat, batch)
    }

    fn check_jobs(&mut self, seat: Seat, jobs: &BTreeSet<JobId>) -> Result<(), Violation> {
        let is_checked = |node: &&mut Node| !jobs.is_empty() && !node.is_damaged;
        let Some(node) = self.nodes.get_mut(seat.0).filter(is_checked) else { return Ok(()) };
        let (id, disk) = (node.id, std::mem::take(&mut node.disk));
        let checked = {
            let txn = node.store()?.begin()?;
            self.oracle.check_jobs((seat, id), txn.view(), &disk, jobs)
        };
        node.disk = disk;
        checked
    }

    fn check_node(&mut self, seat: Seat) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| !node.is_damaged) else { return Ok(()) };
        let (id, disk) = (node.id, std::mem::take(&mut node.disk));
        let checked = {
            let txn = node.store()?.begin()?;
            self.oracle.check_node((seat, id), txn.view(), &disk)
        };
        node.disk = disk;
        checked
    }

    fn wake(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.wakes == Some(now)) else { return Ok(()) };
        node.wakes = None;
        match node.condition {
            Condition::Up => self.step(seat, vec![Input::Tick]),
            // Whoever goes on after a pause looks at the clock first.
            Condition::Paused | Condition::Failing | Condition::Down | Condition::Absent => Ok(()),
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
        let is_cancel = |input: &Input| matches!(input, Input::Command(_, Command::Job(_, JobAction::Cancel { .. })));
        let takes_cancel = batch.iter().any(is_cancel);
        let node = self.nodes.get_mut(seat.0)?;
        let mut found = None;
        for (place, (_, when)) in node.traps.iter_mut().enumerate() {
            let is_sprung = match when {
                When::Command => takes_command,
                When::AfterCancel => {
                    if takes_cancel {
                        *when = When::Steps(0);
                    }
                    false
                }
                When::Steps(0) => true,
                When::Steps(steps) => {
                    *steps -= 1;
                    false
                }
                When::Start => false,
            };
            if is_sprung && found.is_none() {
                found = Some(place);
            }
        }
        let (struck, _) = found.map(|place| node.traps.remove(place))?;
        self.faults.note(struck.kind());
        self.note(format_args!("{seat} is struck: {}", struck.kind().word()));
        Some(struck)
    }

    fn count_step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        let minute = self.now.0 / 60_000;
        let (counted, steps) = self.minute;
        self.minute = if counted == minute { (minute, steps + 1) } else { (minute, 1) };
        let pairs = (self.plan.nodes.len() * self.plan.nodes.len()) as u64;
        invariant_quiescence(self.minute.1, STEPS_PER_MINUTE_MAX * pairs.div_ceil(81))
    }

    fn all_seats(&self) -> Vec<Seat> {
        self.plan.nodes.iter().map(|node| Seat(node.seat)).collect()
    }

    fn condition(&self, seat: Seat) -> Condition {
        self.nodes.get(seat.0).map_or(Condition::Down, |node| node.condition)
    }

    fn life(&self, seat: Seat) -> Life {
        self.nodes.get(seat.0).map(|node| node.life).unwrap_or_default()
    }

    /// Whether this life of a daemon goes on.
    fn lives(&self, seat: Seat, life: Life) -> bool {
        self.nodes
            .get(seat.0)
            .is_some_and(|node| node.life == life && !matches!(node.condition, Condition::Down | Condition::Absent))
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

/// The nodes of a plan, all certified by one root that the one at the first seat keeps. Nobody sits at the other seats.
fn make_nodes(plan: &Plan, root: [u8; 32], faults: &mut Faults) -> Vec<Node> {
    let mesh_root = MeshRoot::new(Identity::from_seed(root));
    let identity = |seat: usize| Stream::new(plan.seed, &format!("identity of {seat}")).array::<32>();
    let sponsor = Identity::from_seed(identity(0)).node();
    let mut nodes = Vec::with_capacity(plan.seats());
    let is_copied = plan.script.is_some() || (plan.nodes.len() > NODES_MAX && !plan.is_in_memory);
    let template = is_copied.then(|| Node::template().ok()).flatten();
    for seat in 0..plan.seats() {
        let nobody = NodePlan { seat, slots: 1, is_shared: false, skew_ms: 0, drift_ppm: 0 };
        let planned = plan.nodes.iter().find(|node| node.seat == seat);
        let NodePlan { skew_ms, drift_ppm, .. } = *planned.unwrap_or(&nobody);
        if skew_ms != 0 {
            faults.note(FaultKind::Skew);
        }
        if drift_ppm != 0 {
            faults.note(FaultKind::Drift);
        }
        let grant = Grant {
            member: Identity::from_seed(identity(seat)).node(),
            role: if seat == 0 { Role::Admin } else { Role::Member },
            sponsor,
            issued_at_ms: EPOCH.0,
            not_after_ms: EPOCH.plus(YEAR).0,
            serial: Serial::from_bytes(Stream::new(plan.seed, &format!("certificate of {seat}")).array()),
        };
        let parts = Parts {
            membership: Membership::issue_root(&mesh_root, &grant),
            identity: identity(seat),
            mesh: mesh_root.mesh(),
            root: (seat == 0).then_some(root),
            detected: machine(planned.unwrap_or(&nobody)),
            wall: UnixMillis(EPOCH.0.saturating_add_signed(skew_ms)),
            drift_ppm,
            is_in_memory: plan.is_in_memory,
            #[cfg(feature = "mutants")]
            mutant: plan.mutant.map(|name| name.0),
        };
        let mut node = Node::new(plan.seed, Seat(seat), parts);
        if let Some(template) = &template {
            node.files.install(template.clone());
        }
        if planned.is_none() {
            node.condition = Condition::Absent;
        }
        nodes.push(node);
    }
    nodes
}
