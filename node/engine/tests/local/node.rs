//! One engine on a real database, with a clock and an executor that the test turns by hand.
//!
//! A step is what it is in the daemon: begin, hand in the inputs, finish, commit, carry out. A commit may fail, with or
//! without having happened; then the engine is built anew and what only drivers know is told again.

use jobmesh_engine::pool::PoolKind;
use jobmesh_engine::{
    Command, Config, Declared, Detected, Engine, Input, Output, Refusal, RequestId, Response, Timing,
};
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, Role, Serial};
use jobmesh_protocol::id::BootId;
use jobmesh_protocol::resource::{Amount, Name};
use jobmesh_protocol::{DurationMillis, Incarnation, JobId, MonoMillis, Now, UnixMillis};
use jobmesh_store::{Store, Txn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::executor::Executor;

/// 2027-01-15 08:00 UTC, a Friday.
pub(crate) const START: UnixMillis = UnixMillis(1_800_000_000_000);

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) slots: u32,
    pub(crate) cpus: u32,
    pub(crate) declared: Declared,
}

impl Default for Setup {
    fn default() -> Self {
        Self { slots: 2, cpus: 2, declared: Declared::default() }
    }
}

/// What becomes of the commit of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It succeeds.
    Kept,
    /// It fails, and nothing of it happened.
    Undone,
    /// It fails, and all of it happened.
    Unknown,
}

pub(crate) struct Node {
    setup: Setup,
    store: Store,
    engine: Option<Engine>,
    rng: ChaCha8Rng,
    boot: u8,
    pub(crate) now: Now,
    pub(crate) executor: Executor,
    replies: Vec<Result<Response, Refusal>>,
    pub(crate) forgotten: Vec<JobId>,
}

fn config(setup: &Setup, boot: u8) -> Config {
    let root = MeshRoot::new(Identity::from_seed([9; 32]));
    let identity = Identity::from_seed([1; 32]);
    let grant = Grant {
        member: identity.node(),
        role: Role::Member,
        sponsor: identity.node(),
        issued_at_ms: 0,
        not_after_ms: u64::MAX,
        serial: Serial::from_bytes([0; 16]),
    };
    let tags = ["executor:process", "executor:noop", "executor:builtin"];
    Config {
        mesh: root.mesh(),
        membership: Membership::issue_root(&root, &grant),
        identity,
        root: None,
        boot: BootId::from_bytes([boot; 16]),
        booted_at: UnixMillis(1_000_000 + u64::from(boot)),
        name: "here".to_owned(),
        detected: Detected {
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            attributes: Default::default(),
            pools: [(Name::CPUS, PoolKind::numbered(setup.cpus)), (Name::MEM, PoolKind::Sum(Amount::whole(1 << 30)))]
                .into(),
            slots: setup.slots,
        },
        timing: Timing::default(),
        declared: setup.declared.clone(),
        has_rebooted: false,
        mutant: None,
    }
}

impl Node {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut node = Self {
            executor: Executor::new(setup.slots),
            setup,
            store: Store::open_in_memory(Incarnation::from_bytes([1; 16])).unwrap(),
            engine: None,
            rng: ChaCha8Rng::seed_from_u64(1),
            boot: 1,
            now: Now { mono: MonoMillis(5_000), wall: START },
            replies: Vec::new(),
            forgotten: Vec::new(),
        };
        node.recover();
        node
    }

    /// Builds the engine from the database, and does what it asks for.
    fn recover(&mut self) {
        let outputs = self.build();
        self.carry_out(outputs);
    }

    /// Builds the engine from the database.
    fn build(&mut self) -> Vec<Output> {
        let config = config(&self.setup, self.boot);
        let txn = self.store.begin().unwrap();
        let mut engine = Engine::recover(config, self.now, &mut self.rng, &txn).unwrap();
        let outputs = engine.take_outputs().release(txn.commit().unwrap());
        self.engine = Some(engine);
        outputs
    }

    /// One transaction. After a commit that failed, the engine is built anew in the same boot.
    pub(crate) fn step(&mut self, inputs: &[Input], fate: Fate) {
        let mut engine = self.engine.take().unwrap();
        let txn = self.store.begin().unwrap();
        for input in inputs {
            engine.handle(self.now, &mut self.rng, &txn, input.clone()).unwrap();
        }
        engine.finish(self.now, &mut self.rng, &txn).unwrap();
        match fate {
            Fate::Kept => {
                let outputs = engine.take_outputs().release(txn.commit().unwrap());
                self.engine = Some(engine);
                self.carry_out(outputs);
                return;
            }
            Fate::Undone => drop(txn),
            Fate::Unknown => drop(txn.commit().unwrap()),
        }
        self.recover();
        let told =
            |input: &&Input| matches!(input, Input::Started { .. } | Input::Adopted { .. } | Input::Ended { .. });
        let again: Vec<Input> = inputs.iter().filter(told).cloned().collect();
        self.step(&again, Fate::Kept);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Run(order) => self.executor.run(*order),
                Output::Stop { run, reason } => self.executor.stop(run, reason),
                Output::Adopt { order, .. } => self.executor.adopt(order.run),
                Output::EndOrphan { run, .. } => self.executor.end_orphan(run),
                Output::Reply(_, answer) => self.replies.push(answer),
                Output::Forget(job) => self.forgotten.push(job),
                Output::Changed(_)
                | Output::Publish(_)
                | Output::Shout(_)
                | Output::Provide(_)
                | Output::Send { .. }
                | Output::Find(_)
                | Output::Dial { .. }
                | Output::Fetch(_)
                | Output::StopFetch(_) => {}
            }
        }
    }

    /// Tells the engine everything that the executor has to say, one step for each.
    pub(crate) fn settle(&mut self) {
        let mut steps = 0;
        while let Some(input) = self.executor.said.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "engine and executor keep each other busy: {input:?}");
            self.step(&[input], Fate::Kept);
        }
    }

    /// Asks for something in a step of its own; `None` if its commit failed.
    pub(crate) fn ask(&mut self, command: Command, fate: Fate) -> Option<Result<Response, Refusal>> {
        self.replies.clear();
        self.step(&[Input::Command(RequestId(1), command)], fate);
        let answer = self.replies.pop();
        assert_eq!(answer.is_some(), fate == Fate::Kept, "an answer goes out with the commit and only then");
        answer
    }

    /// Lets time pass on both clocks, waking the engine whenever it asked for it.
    pub(crate) fn pass(&mut self, length: DurationMillis) {
        let end = self.now.mono.plus(length);
        let mut wakeups_at_once = 0;
        loop {
            let wakeup = self.engine.as_ref().and_then(Engine::next_wakeup).filter(|at| *at <= end);
            let next = wakeup.unwrap_or(end).max(self.now.mono);
            wakeups_at_once = if next > self.now.mono { 0 } else { wakeups_at_once + 1 };
            assert!(wakeups_at_once < 1000, "the engine wakes again and again without time passing");
            self.now.wall = self.now.wall.plus(next.since(self.now.mono));
            self.now.mono = next;
            if wakeup.is_none() {
                return;
            }
            self.step(&[Input::Tick], Fate::Kept);
            self.settle();
        }
    }

    /// When the engine wants to be woken.
    pub(crate) fn wakeup(&self) -> Option<MonoMillis> {
        self.engine.as_ref().and_then(Engine::next_wakeup)
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_clock(&mut self, wall: UnixMillis) {
        self.now.wall = wall;
        self.step(&[Input::Tick], Fate::Kept);
        self.settle();
    }

    /// The daemon is killed and started again `down` later. Of what ran, `lives` says what still does.
    pub(crate) fn restart(&mut self, down: DurationMillis, mut lives: impl FnMut(usize) -> bool) {
        self.engine = None;
        self.executor.die();
        for (place, run) in self.executor.running().into_iter().enumerate() {
            if !lives(place) {
                self.executor.end_orphan(run);
            }
        }
        self.now.mono = self.now.mono.plus(down);
        self.now.wall = self.now.wall.plus(down);
        self.boot = self.boot.checked_add(1).unwrap();
        self.recover();
        self.settle();
        self.pass(DurationMillis(0));
    }

    /// The daemon is killed and started again, and whatever it asks for first is lost.
    pub(crate) fn restart_unheard(&mut self) {
        self.executor.die();
        self.boot = self.boot.checked_add(1).unwrap();
        drop(self.build());
    }

    /// The open transaction, to read what is written.
    pub(crate) fn read(&mut self) -> Txn<'_> {
        self.store.begin().unwrap()
    }
}
