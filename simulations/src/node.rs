//! One node: its engine while the daemon lives, its database and disk always.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Command, Config, Detected, Engine, Explanation, Input, Output, RequestId, Response, Timing};
use jobmesh_keys::{Identity, Membership, MeshId, MeshRoot};
use jobmesh_protocol::id::{BootId, Hash, Incarnation};
use jobmesh_protocol::{DurationMillis, JobId, MonoMillis, NodeId, Now, RunId, UnixMillis};
use jobmesh_store::{Store, StoreError};

use crate::faults::Trap;
use crate::invariants::Violation;
use crate::network::Seat;
use crate::oracle::Contract;
use crate::random::Stream;

/// When every world begins: 2026-01-01 00:00 UTC.
pub(crate) const EPOCH: UnixMillis = UnixMillis(1_767_225_600_000);
/// How long outputs may take, far below the time that a world has to heal.
const FETCH_LIMIT: DurationMillis = DurationMillis::from_secs(120);

/// One life of a daemon. What was meant for an earlier one does not reach a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(u64);

/// Whether a daemon takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It runs.
    Up,
    /// It stands still; what happens to it waits.
    Paused,
    /// It is dead.
    Down,
}

/// What a node is made of, beside its seat.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) mesh: MeshId,
    pub(crate) membership: Membership,
    pub(crate) root: Option<MeshRoot>,
    pub(crate) detected: Detected,
    /// What its wall clock says when the world begins.
    pub(crate) wall: UnixMillis,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<jobmesh_engine::Mutant>,
}

/// A process that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) contract: Contract,
    pub(crate) behaviour: crate::executor::Behaviour,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) condition: Condition,
    pub(crate) life: Life,
    /// What happened while it stood still, in order.
    pub(crate) backlog: Vec<Input>,
    /// When its engine wants to be woken, in the world's time.
    pub(crate) wakes: Option<MonoMillis>,
    /// The processes that its daemon started.
    pub(crate) processes: BTreeMap<RunId, Process>,
    /// Every run that this life of the daemon was told to start.
    pub(crate) ordered: BTreeSet<RunId>,
    /// The blobs on its disk.
    pub(crate) disk: BTreeSet<Hash>,
    /// The keys under which it is found.
    pub(crate) provides: BTreeSet<Hash>,
    /// What it gossips.
    pub(crate) digest: Option<Vec<u8>>,
    /// Where the next struck step is struck, and in how many steps.
    pub(crate) trap: Option<(Trap, u64)>,
    store: Store,
    engine: Option<Engine>,
    config: Option<Config>,
    stream: Stream,
    mono: MonoMillis,
    wall: UnixMillis,
    #[cfg(feature = "mutants")]
    mutant: Option<jobmesh_engine::Mutant>,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum StepEnd {
    /// It is durable; this is to be done.
    Released(Vec<Output>),
    /// The daemon died in it. What had left before is to be done; only a seeded bug lets anything leave.
    Died(Vec<Output>),
    /// Its commit failed and the engine was rebuilt: this is to be done, and then these inputs fed again.
    Rebuilt(Vec<Output>, Vec<Input>),
}

impl Node {
    pub(crate) fn new(seed: u64, seat: Seat, parts: Parts) -> Result<Self, Violation> {
        let mut stream = Stream::new(seed, &format!("node {}", seat.0));
        let store = Store::open_in_memory(Incarnation::from_bytes(stream.array()));
        let store = store.map_err(|error| Violation::new("store_opens", error.to_string()))?;
        let id = parts.identity.node();
        let config = Config {
            identity: parts.identity,
            mesh: parts.mesh,
            membership: parts.membership,
            root: parts.root,
            boot: BootId::from_bytes(stream.array()),
            booted_at: parts.wall,
            name: format!("node-{}", seat.0),
            detected: parts.detected,
            timing: Timing { fetch_limit: FETCH_LIMIT, ..Timing::default() },
            declared: jobmesh_engine::Declared::default(),
            has_rebooted: false,
            #[cfg(feature = "mutants")]
            mutant: parts.mutant,
            #[cfg(not(feature = "mutants"))]
            mutant: None,
        };
        let mono = MonoMillis(stream.between(0, 1 << 30));
        Ok(Self {
            id,
            condition: Condition::Down,
            life: Life::default(),
            backlog: Vec::new(),
            wakes: None,
            processes: BTreeMap::new(),
            ordered: BTreeSet::new(),
            disk: BTreeSet::new(),
            provides: BTreeSet::new(),
            digest: None,
            trap: None,
            store,
            engine: None,
            config: Some(config),
            stream,
            mono,
            wall: parts.wall,
            #[cfg(feature = "mutants")]
            mutant: parts.mutant,
        })
    }

    /// The database, to write to or to look at.
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Both of the node's clocks at a time of the world.
    pub(crate) fn clock(&self, at: MonoMillis) -> Now {
        Now { mono: MonoMillis(self.mono.0 + at.0), wall: UnixMillis(self.wall.0 + at.0) }
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, at: MonoMillis) -> Result<Vec<Output>, Violation> {
        let boot = BootId::from_bytes(self.stream.array());
        let booted_at = self.clock(at).wall;
        if let Some(config) = &mut self.config {
            config.boot = boot;
            config.booted_at = booted_at;
        }
        self.condition = Condition::Up;
        Ok(self.recover(at)?)
    }

    /// Kills the daemon and everything that it started.
    pub(crate) fn kill(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.config = Some(engine.into_config());
        }
        self.condition = Condition::Down;
        self.life.0 += 1;
        self.backlog.clear();
        self.wakes = None;
        self.processes.clear();
        self.ordered.clear();
        self.provides.clear();
        self.digest = None;
        self.trap = None;
    }

    /// Hands a batch to the engine in one transaction.
    pub(crate) fn step(&mut self, at: MonoMillis, batch: Vec<Input>, trap: Option<Trap>) -> Result<StepEnd, Violation> {
        let now = self.clock(at);
        let again = if trap.is_some() { batch.clone() } else { Vec::new() };
        let Some(engine) = &mut self.engine else { return Ok(StepEnd::Released(Vec::new())) };
        let txn = self.store.begin()?;
        for input in batch {
            engine.handle(now, self.stream.rng(), &txn, input)?;
        }
        engine.finish(now, self.stream.rng(), &txn)?;
        match trap {
            None => {
                let committed = txn.commit()?;
                Ok(StepEnd::Released(engine.take_outputs().release(committed)))
            }
            Some(Trap::BeforeCommit) => {
                drop(txn);
                Ok(StepEnd::Died(self.escaped()))
            }
            Some(Trap::BeforeRelease) => {
                let _unheard = txn.commit()?;
                Ok(StepEnd::Died(Vec::new()))
            }
            Some(Trap::ErrorBeforeCommit) => {
                drop(txn);
                self.rebuild(at, again)
            }
            Some(Trap::ErrorAfterCommit) => {
                let _unheard = txn.commit()?;
                self.rebuild(at, again)
            }
        }
    }

    /// When the engine wants to be woken, in the world's time.
    pub(crate) fn wakeup(&self, at: MonoMillis) -> Option<MonoMillis> {
        let wanted = self.engine.as_ref()?.next_wakeup()?;
        Some(MonoMillis(wanted.0.saturating_sub(self.mono.0)).max(at))
    }

    /// Asks the engine why a job is where it is, and leaves no trace of the question.
    pub(crate) fn explain(&mut self, at: MonoMillis, job: JobId) -> Result<Option<Box<Explanation>>, Violation> {
        let now = self.clock(at);
        let Some(engine) = &mut self.engine else { return Ok(None) };
        let txn = self.store.begin()?;
        engine.handle(now, self.stream.rng(), &txn, Input::Command(RequestId(u64::MAX), Command::Explain(job)))?;
        let committed = txn.commit()?;
        let explained = engine.take_outputs().release(committed).into_iter().find_map(|output| {
            if let Output::Reply(_, Ok(Response::Explained(explanation))) = output { Some(explanation) } else { None }
        });
        Ok(explained)
    }

    fn recover(&mut self, at: MonoMillis) -> Result<Vec<Output>, StoreError> {
        let now = self.clock(at);
        let Some(config) = self.config.take() else { return Ok(Vec::new()) };
        let txn = self.store.begin()?;
        let mut engine = Engine::recover(config, now, self.stream.rng(), &txn)?;
        let committed = txn.commit()?;
        let outputs = engine.take_outputs().release(committed);
        self.engine = Some(engine);
        Ok(outputs)
    }

    /// Drops the engine and makes it anew from the database, as after a commit that failed. The daemon and its
    /// processes live on.
    fn rebuild(&mut self, at: MonoMillis, batch: Vec<Input>) -> Result<StepEnd, Violation> {
        self.config = self.engine.take().map(Engine::into_config);
        let outputs = self.recover(at)?;
        Ok(StepEnd::Rebuilt(outputs, batch))
    }

    /// What left before the commit: nothing, but for the seeded bug that sends too early.
    #[cfg(feature = "mutants")]
    fn escaped(&mut self) -> Vec<Output> {
        let is_early = self.mutant == Some(jobmesh_engine::Mutant::SendBeforeCommit);
        let engine = self.engine.as_mut().filter(|_| is_early);
        engine.map(|engine| engine.take_outputs().release_early()).unwrap_or_default()
    }

    #[cfg(not(feature = "mutants"))]
    const fn escaped(&self) -> Vec<Output> {
        Vec::new()
    }
}
