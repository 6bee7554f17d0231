//! One node: its engine while the daemon lives, its database and disk always.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jobmesh_engine::{
    Command, Config, Detected, Engine, Explanation, Input, Output, RequestId, Response, RunOrder, Timing,
};
use jobmesh_keys::{Identity, Membership, MeshId, MeshRoot};
use jobmesh_protocol::id::{BootId, Hash, Incarnation};
use jobmesh_protocol::{DurationMillis, JobId, MonoMillis, NodeId, Now, RunId, UnixMillis};
use jobmesh_store::{Committed, OpenError, Store, StoreError, Txn};
use rusqlite::{Connection, OpenFlags};

use crate::disk::{self, Backup, Disk};
use crate::fault::{Trap, When};
use crate::invariants::Violation;
use crate::network::Seat;
use crate::oracle::Contract;
use crate::random::Stream;

/// When every world begins: 2026-01-01 00:00 UTC.
pub(crate) const EPOCH: UnixMillis = UnixMillis(1_767_225_600_000);
/// How long outputs may take, far below the time that a world has to heal.
pub(crate) const FETCH_LIMIT: DurationMillis = DurationMillis::from_secs(120);

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
    /// Its database fails, and it tries again and again.
    Failing,
    /// It is dead.
    Down,
    /// Nobody sits there, or what sat there is broken for good.
    Absent,
}

/// What a node is made of, beside its seat.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What its key grows from.
    pub(crate) identity: [u8; 32],
    pub(crate) mesh: MeshId,
    pub(crate) membership: Membership,
    /// The same of the mesh's root key, on the node that has it.
    pub(crate) root: Option<[u8; 32]>,
    pub(crate) detected: Detected,
    /// What its wall clock says when the world begins.
    pub(crate) wall: UnixMillis,
    /// How much faster than the world its clocks run, in millionths.
    pub(crate) drift_ppm: i32,
    /// Whether its database is in memory. Then the open database stands for the disk and outlives the daemon.
    pub(crate) is_in_memory: bool,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<jobmesh_engine::Mutant>,
}

/// A process that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) contract: Contract,
    pub(crate) behaviour: crate::executor::Behaviour,
    /// When it ends, in the world's time, if nobody stops it.
    pub(crate) ends: Option<MonoMillis>,
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
    /// Those of them that wait for the end of another, in the order in which they were ordered.
    pub(crate) lined_up: Vec<RunOrder>,
    /// The blobs on its disk.
    pub(crate) disk: BTreeSet<Hash>,
    /// The keys under which it is found.
    pub(crate) provides: BTreeSet<Hash>,
    /// What it gossips.
    pub(crate) digest: Option<Vec<u8>>,
    /// The steps at which it will be struck.
    pub(crate) traps: Vec<(Trap, When)>,
    /// Whether it is the machine that stands still, rather than the daemon alone.
    pub(crate) is_asleep: bool,
    /// Whether what its database says can't be held against it.
    pub(crate) is_damaged: bool,
    /// The processes that outlived their daemon.
    pub(crate) orphans: BTreeMap<RunId, Process>,
    /// How far its wall clock was set.
    pub(crate) jumped_ms: i64,
    /// What its database lies on.
    pub(crate) files: Disk,
    /// How often in a row its database failed.
    failures: u32,
    /// Whether its disk had room when it failed the last time.
    has_room: bool,
    /// How long the last step took to decide, in time that this thread had a processor.
    pub(crate) decided_in: Duration,
    /// What earlier engines had counted.
    banked: BTreeMap<&'static str, u64>,
    store: Option<Store>,
    engine: Option<Engine>,
    parts: Parts,
    /// What becomes the incarnation of a database that is new.
    fresh: Incarnation,
    boot: BootId,
    booted_at: UnixMillis,
    name: String,
    stream: Stream,
    mono: MonoMillis,
}

/// Why a daemon can't go on with its database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{0}: {0:?}")]
    Open(#[from] OpenError),
    #[error("{0}: {0:?}")]
    Store(#[from] StoreError),
    #[error("the log that was found can't be made durable")]
    Log,
}

impl From<Trouble> for Violation {
    fn from(trouble: Trouble) -> Self {
        Self::new("the_store_works", trouble.to_string())
    }
}

/// What came of something that needs the disk.
#[derive(Debug)]
pub(crate) enum Came<T> {
    /// It is done.
    Done(T),
    /// The daemon died in it.
    Died,
    /// It failed, as the disk had it.
    Failed(Trouble),
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
    /// The database failed; whether it happened is unknown. These inputs were in it.
    Failed(Trouble, Vec<Input>),
}

/// How often a daemon opens a database anew that fails, other than by a full disk, before it gives up.
const REOPENS_MAX: u32 = 10;

impl Node {
    pub(crate) fn new(seed: u64, seat: Seat, parts: Parts) -> Self {
        let mut stream = Stream::new(seed, &format!("node {}", seat.0));
        let fresh = Incarnation::from_bytes(stream.array());
        let boot = BootId::from_bytes(stream.array());
        let mono = MonoMillis(stream.between(0, 1 << 30));
        Self {
            id: Identity::from_seed(parts.identity).node(),
            condition: Condition::Down,
            life: Life::default(),
            backlog: Vec::new(),
            wakes: None,
            processes: BTreeMap::new(),
            ordered: BTreeSet::new(),
            lined_up: Vec::new(),
            disk: BTreeSet::new(),
            provides: BTreeSet::new(),
            digest: None,
            traps: Vec::new(),
            is_asleep: false,
            is_damaged: false,
            orphans: BTreeMap::new(),
            jumped_ms: 0,
            files: Disk::new(Stream::new(seed, &format!("disk {}", seat.0))),
            failures: 0,
            has_room: true,
            decided_in: Duration::ZERO,
            banked: BTreeMap::new(),
            store: None,
            engine: None,
            booted_at: parts.wall,
            parts,
            fresh,
            boot,
            name: format!("node-{}", seat.0),
            stream,
            mono,
        }
    }

    /// The files of a database that has its tables and nothing else. A large world copies them, since making the tables
    /// takes longer than all that most of its nodes do.
    pub(crate) fn template() -> Result<Backup, Violation> {
        let files = Disk::new(Stream::new(0, "template"));
        files.start();
        let broken = |error: rusqlite::Error| Violation::new("the_store_works", error.to_string());
        drop(Store::open_on(disk::VFS, &files.path(), Incarnation::from_bytes([0; 16])).map_err(Trouble::from)?);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags_and_vfs(files.path(), flags, disk::VFS).map_err(broken)?;
        opened.execute("DELETE FROM meta WHERE name = 'incarnation'", []).map_err(broken)?;
        drop(opened);
        Ok(files.backup())
    }

    /// What the daemon tells its engine, each time that it makes one.
    fn config(&self) -> Config {
        let parts = &self.parts;
        Config {
            identity: Identity::from_seed(parts.identity),
            mesh: parts.mesh,
            membership: parts.membership.clone(),
            root: parts.root.map(|seed| MeshRoot::new(Identity::from_seed(seed))),
            boot: self.boot,
            booted_at: self.booted_at,
            name: self.name.clone(),
            detected: parts.detected.clone(),
            timing: Timing { fetch_limit: FETCH_LIMIT, ..Timing::default() },
            declared: jobmesh_engine::Declared::default(),
            has_rebooted: self.files.had_power_cut(),
            #[cfg(feature = "mutants")]
            mutant: parts.mutant,
            #[cfg(not(feature = "mutants"))]
            mutant: None,
        }
    }

    /// The database of a daemon that runs, to look at.
    pub(crate) fn store(&mut self) -> Result<&mut Store, Violation> {
        self.store.as_mut().ok_or_else(|| Violation::new("the_store_works", "nobody has it open"))
    }

    /// Both of the node's clocks at a time of the world.
    pub(crate) fn clock(&self, at: MonoMillis) -> Now {
        let elapsed = self.elapsed(at);
        let wall = (self.parts.wall.0 + elapsed).saturating_add_signed(self.jumped_ms);
        Now { mono: MonoMillis(self.mono.0 + elapsed), wall: UnixMillis(wall) }
    }

    /// How much time its clocks saw go by since the world began.
    fn elapsed(&self, at: MonoMillis) -> u64 {
        let rate = 1_000_000_u64.saturating_add_signed(i64::from(self.parts.drift_ppm));
        u64::try_from(u128::from(at.0) * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, at: MonoMillis) -> Result<Came<Vec<Output>>, Violation> {
        self.boot = BootId::from_bytes(self.stream.array());
        self.booted_at = self.clock(at).wall;
        self.condition = Condition::Up;
        self.files.start();
        self.on_disk(|node| {
            node.open()?;
            Ok(node.recover(at)?)
        })
    }

    /// Kills the daemon and everything that it started.
    pub(crate) fn kill(&mut self) {
        self.files.kill();
        if !self.parts.is_in_memory {
            self.store = None;
        }
        self.bank();
        self.engine = None;
        self.failures = 0;
        self.condition = Condition::Down;
        self.life.0 += 1;
        self.backlog.clear();
        self.wakes = None;
        self.processes.clear();
        self.ordered.clear();
        self.lined_up.clear();
        self.provides.clear();
        self.digest = None;
        self.traps.retain(|(_, when)| *when == When::Start);
        self.is_asleep = false;
    }

    /// The machine is another one, with the same key and nothing else.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        self.store = None;
        self.files.wipe();
        self.disk.clear();
        self.orphans.clear();
        self.traps.clear();
        self.is_damaged = false;
        self.fresh = Incarnation::from_bytes(self.stream.array());
    }

    /// What all of its engines have counted.
    pub(crate) fn counters(&mut self) -> BTreeMap<&'static str, u64> {
        self.bank();
        std::mem::take(&mut self.banked)
    }

    /// Keeps what an engine has counted that is about to be dropped.
    fn bank(&mut self) {
        let counted = self.engine.as_ref().map(|engine| engine.counters().clone()).unwrap_or_default();
        for (what, count) in counted {
            *self.banked.entry(what).or_default() += count;
        }
    }

    /// Hands a batch to the engine in one transaction.
    pub(crate) fn step(&mut self, at: MonoMillis, batch: Vec<Input>, trap: Option<Trap>) -> Result<StepEnd, Violation> {
        if self.engine.is_none() {
            return Ok(StepEnd::Released(Vec::new()));
        }
        let again = batch.clone();
        Ok(match self.on_disk(|node| Ok(node.try_step(at, batch, trap)?))? {
            Came::Done(Some(outputs)) if trap.is_some_and(Trap::is_error) => StepEnd::Rebuilt(outputs, again),
            Came::Done(Some(outputs)) if trap.is_some() => StepEnd::Died(outputs),
            Came::Done(outputs) => StepEnd::Released(outputs.unwrap_or_default()),
            Came::Died => StepEnd::Died(Vec::new()),
            Came::Failed(trouble) => StepEnd::Failed(trouble, again),
        })
    }

    /// Decides and commits, with what strikes at the commit. Returns what leaves the node, if it has an engine.
    fn try_step(
        &mut self,
        at: MonoMillis,
        batch: Vec<Input>,
        trap: Option<Trap>,
    ) -> Result<Option<Vec<Output>>, StoreError> {
        let now = self.clock(at);
        let (Some(engine), Some(store)) = (&mut self.engine, &mut self.store) else { return Ok(None) };
        let txn = store.begin()?;
        let began = processor_time();
        for input in batch {
            engine.handle(now, self.stream.rng(), &txn, input)?;
        }
        engine.finish(now, self.stream.rng(), &txn)?;
        self.decided_in = processor_time().saturating_sub(began);
        let outputs = match trap {
            None => {
                let committed = self.parts.commit(txn)?;
                engine.take_outputs().release(committed)
            }
            Some(Trap::BeforeCommit) => {
                drop(txn);
                self.escaped()
            }
            Some(Trap::BeforeRelease) => {
                let _unheard = txn.commit()?;
                Vec::new()
            }
            Some(Trap::ErrorBeforeCommit) => {
                drop(txn);
                self.recover(at)?
            }
            Some(Trap::ErrorAfterCommit) => {
                let _unheard = txn.commit()?;
                self.recover(at)?
            }
        };
        Ok(Some(outputs))
    }

    /// The database has failed: the daemon drops its engine and keeps what its drivers will not say again.
    pub(crate) fn fail(&mut self, trouble: &Trouble, kept: impl Iterator<Item = Input>) {
        self.bank();
        self.engine = None;
        self.condition = Condition::Failing;
        self.has_room = !matches!(trouble, Trouble::Store(StoreError::Full));
        self.failures += u32::from(self.has_room);
        self.backlog.extend(kept);
    }

    /// Whether a daemon whose database fails gives up.
    pub(crate) const fn gives_up(&self) -> bool {
        self.failures > REOPENS_MAX
    }

    /// Tries to go on with a database that has failed. Unless the disk was just full, it is opened anew.
    pub(crate) fn repair(&mut self, at: MonoMillis) -> Result<Came<Vec<Output>>, Violation> {
        let came = self.on_disk(|node| {
            if node.has_room {
                node.store = None;
                node.open()?;
            }
            Ok(node.recover(at)?)
        })?;
        if matches!(came, Came::Done(_)) {
            self.condition = Condition::Up;
            self.failures = 0;
        }
        Ok(came)
    }

    /// Does something whose operations on files are the daemon's. It may fail only if the disk failed before.
    fn on_disk<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<Came<T>, Violation> {
        self.files.wake(true);
        let done = act(self);
        self.files.wake(false);
        if self.files.is_dead() {
            return Ok(Came::Died);
        }
        match done {
            Ok(done) => Ok(Came::Done(done)),
            Err(trouble) if self.files.is_hurt() => Ok(Came::Failed(trouble)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn open(&mut self) -> Result<(), Trouble> {
        if self.parts.is_in_memory {
            if self.store.is_none() {
                self.store = Some(Store::open_in_memory(self.fresh)?);
            }
            return Ok(());
        }
        if !self.parts.believes_log() && !self.files.renew_log() {
            return Err(Trouble::Log);
        }
        let store = Store::open_on(disk::VFS, &self.files.path(), self.fresh)?;
        self.parts.relax(&store);
        self.store = Some(store);
        Ok(())
    }

    /// How many members its engine has to choose from.
    pub(crate) fn known_records(&self) -> usize {
        self.engine.as_ref().map_or(0, Engine::known_records)
    }

    /// When the engine wants to be woken, in the world's time.
    pub(crate) fn wakeup(&self, at: MonoMillis) -> Option<MonoMillis> {
        let wanted = self.engine.as_ref()?.next_wakeup()?.0.saturating_sub(self.mono.0);
        let rate = 1_000_000_u64.saturating_add_signed(i64::from(self.parts.drift_ppm));
        let world = u128::from(wanted) * 1_000_000 / u128::from(rate.max(1));
        let mut world = MonoMillis(u64::try_from(world).unwrap_or(u64::MAX));
        while self.elapsed(world) < wanted {
            world = world.plus(DurationMillis(1));
        }
        Some(world.max(at))
    }

    /// Asks the engine why a job is where it is, and leaves no trace of the question.
    pub(crate) fn explain(&mut self, at: MonoMillis, job: JobId) -> Result<Option<Box<Explanation>>, Violation> {
        let now = self.clock(at);
        let Some(engine) = &mut self.engine else { return Ok(None) };
        let Some(store) = &mut self.store else { return Ok(None) };
        let txn = store.begin()?;
        engine.handle(now, self.stream.rng(), &txn, Input::Command(RequestId(u64::MAX), Command::Explain(job)))?;
        let committed = txn.commit()?;
        let explained = engine.take_outputs().release(committed).into_iter().find_map(|output| {
            if let Output::Reply(_, Ok(Response::Explained(explanation))) = output { Some(explanation) } else { None }
        });
        Ok(explained)
    }

    /// Makes the engine anew from the database.
    fn recover(&mut self, at: MonoMillis) -> Result<Vec<Output>, StoreError> {
        let now = self.clock(at);
        let config = self.config();
        self.bank();
        self.engine = None;
        let Some(store) = &mut self.store else { return Ok(Vec::new()) };
        let txn = store.begin()?;
        let mut engine = Engine::recover(config, now, self.stream.rng(), &txn)?;
        let committed = txn.commit()?;
        let outputs = engine.take_outputs().release(committed);
        self.engine = Some(engine);
        Ok(outputs)
    }

    /// What left before the commit: nothing, but for the seeded bug that sends too early.
    #[cfg(feature = "mutants")]
    fn escaped(&mut self) -> Vec<Output> {
        let is_early = self.parts.mutant == Some(jobmesh_engine::Mutant::SendBeforeCommit);
        let engine = self.engine.as_mut().filter(|_| is_early);
        engine.map(|engine| engine.take_outputs().release_early()).unwrap_or_default()
    }

    #[cfg(not(feature = "mutants"))]
    const fn escaped(&self) -> Vec<Output> {
        Vec::new()
    }
}

/// How long this thread has had a processor. Nothing but measurements depend on it.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |count: i64| u64::try_from(count).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

#[cfg(feature = "mutants")]
impl Parts {
    /// Commits, with the seeded bug that takes a failed sync for a good one.
    fn commit(&self, txn: Txn<'_>) -> Result<Committed, StoreError> {
        if self.mutant == Some(jobmesh_engine::Mutant::IgnoreSyncError) {
            txn.commit_whatever_the_sync_says()
        } else {
            txn.commit()
        }
    }

    /// Plays the seeded bug that takes a log for durable because it can be read.
    fn believes_log(&self) -> bool {
        self.mutant == Some(jobmesh_engine::Mutant::BelieveLog)
    }

    /// Plays the seeded bug that does not wait for the disk.
    fn relax(&self, store: &Store) {
        if self.mutant == Some(jobmesh_engine::Mutant::SyncNormal) {
            store.sync_rarely();
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Parts {
    #[expect(clippy::unused_self, reason = "only seeded bugs look at the parts here")]
    fn commit(&self, txn: Txn<'_>) -> Result<Committed, StoreError> {
        txn.commit()
    }

    #[expect(clippy::unused_self, reason = "only seeded bugs look at the parts here")]
    const fn believes_log(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "only seeded bugs look at the parts here")]
    const fn relax(&self, _: &Store) {}
}
