//! What one job costs the engine to take on, start and end, in memory and on a real file, with short and long queues.
//!
//! `cargo bench -p jobmesh-engine [-- WORD…] [-- --quick]`: only the measurements whose name contains a word. In
//! memory it is the engine's own work and SQLite's without a disk; on a file the commits come on top. A queue of a
//! million takes minutes to fill.

#![expect(clippy::unwrap_used, reason = "an engine that fails has no speed")]
#![expect(clippy::print_stdout, reason = "what was measured is for the terminal")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a measurement asks what time it is")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jobmesh_engine::pool::PoolKind;
use jobmesh_engine::{Command, Config, Declared, Detected, Ended, Engine, Input, Output, RequestId, Timing, founding};
use jobmesh_keys::{Identity, MeshRoot};
use jobmesh_protocol::id::BootId;
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::resource::Name;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{
    DurationMillis, Incarnation, Isolation, JobSpec, MonoMillis, Now, Outcome, RunId, Submission, UnixMillis,
};
use jobmesh_store::Store;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// Jobs that run at once: as many as a busy commit ends together.
const SLOTS: u32 = 64;
/// Inputs of one commit while a queue is filled.
const FILL: usize = 1000;
const START: Now = Now { mono: MonoMillis(5_000), wall: UnixMillis(1_800_000_000_000) };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let is_quick = arguments.iter().any(|word| word == "--quick");
    let depths: &[usize] = if is_quick { &[1000, 10_000] } else { &[1000, 100_000, 1_000_000] };
    let count = if is_quick { 640 } else { 6400 };
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    for disk in [Disk::Memory, Disk::File] {
        for depth in depths {
            let name = format!("{} {depth} queued", disk.word());
            if wanted(&name) {
                at_depth(&name, disk, *depth, count);
            }
        }
    }
    if wanted("recover") {
        recover(depths);
    }
}

fn at_depth(name: &str, disk: Disk, depth: usize, count: usize) {
    let mut bench = Bench::new(disk);
    // The slots take theirs at once; the others wait.
    let all = depth + SLOTS as usize;
    report(&format!("{name}: fill, {FILL} a commit"), all, bench.submit(all, FILL));
    let few = count / 10;
    report(&format!("{name}: submit, 1 a commit"), few, bench.submit(few, 1));
    report(&format!("{name}: submit, 64 a commit"), count, bench.submit(count, 64));
    // Each end is followed by the next claim, so that the queue shrinks by what is ended.
    report(&format!("{name}: end + claim, 1 a commit"), few, bench.end(few, 1));
    report(&format!("{name}: end + claim, 64 a commit"), count, bench.end(count, 64));
}

fn recover(depths: &[usize]) {
    for depth in depths {
        let mut bench = Bench::new(Disk::File);
        bench.submit(*depth, FILL);
        let start = Instant::now();
        bench.restart();
        report(&format!("recover with {depth} queued"), *depth, start.elapsed());
    }
}

fn report(name: &str, count: usize, elapsed: Duration) {
    let rate = count as f64 / elapsed.as_secs_f64();
    let each = elapsed.as_secs_f64() * 1e6 / count as f64;
    println!("{name:<46} {count:>9} jobs {rate:>10.0}/s {each:>9.2} µs each");
}

/// Where the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Memory,
    File,
}

impl Disk {
    const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
        }
    }
}

/// One node: its engine, its database, and the runs that it was told to start.
struct Bench {
    engine: Option<Engine>,
    store: Store,
    rng: ChaCha8Rng,
    now: Now,
    runs: VecDeque<RunId>,
    boot: u8,
    _folder: tempfile::TempDir,
}

fn config(boot: u8) -> Config {
    let root = MeshRoot::new(Identity::from_seed([9; 32]));
    let identity = Identity::from_seed([1; 32]);
    Config {
        mesh: root.mesh(),
        membership: founding(&root, &identity, START.wall, [0; 16]),
        identity,
        root: None,
        boot: BootId::from_bytes([boot; 16]),
        booted_at: START.wall,
        name: "bench".to_owned(),
        detected: Detected {
            tags: ["executor:process".parse().unwrap()].into(),
            pools: [(Name::CPUS, PoolKind::numbered(SLOTS))].into(),
            slots: SLOTS,
            ..Detected::default()
        },
        timing: Timing::default(),
        declared: Declared::default(),
        has_rebooted: false,
        mutant: None,
    }
}

impl Bench {
    fn new(disk: Disk) -> Self {
        // The folder of the build is on a disk where `/tmp` may be memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let fresh = Incarnation::from_bytes([1; 16]);
        let store = match disk {
            Disk::Memory => Store::open_in_memory(fresh).unwrap(),
            Disk::File => Store::open(folder.path(), fresh).unwrap(),
        };
        let (rng, runs) = (ChaCha8Rng::seed_from_u64(1), VecDeque::new());
        let mut bench = Self { engine: None, store, rng, now: START, runs, boot: 0, _folder: folder };
        bench.restart();
        bench
    }

    /// Builds the engine from the database, as a new daemon does.
    fn restart(&mut self) {
        self.boot += 1;
        self.runs.clear();
        let txn = self.store.begin().unwrap();
        let mut engine = Engine::recover(config(self.boot), self.now, &mut self.rng, &txn).unwrap();
        let committed = txn.commit().unwrap();
        let outputs = engine.take_outputs().release(committed);
        self.engine = Some(engine);
        self.note(outputs);
    }

    /// The loop of the daemon: decide, commit, then act. Everything is driven through here.
    fn step(&mut self, inputs: Vec<Input>) {
        let Some(engine) = &mut self.engine else { return };
        self.now.mono = self.now.mono.plus(DurationMillis(1));
        self.now.wall = self.now.wall.plus(DurationMillis(1));
        let txn = self.store.begin().unwrap();
        for input in inputs {
            engine.handle(self.now, &mut self.rng, &txn, input).unwrap();
        }
        engine.finish(self.now, &mut self.rng, &txn).unwrap();
        let committed = txn.commit().unwrap();
        let outputs = engine.take_outputs().release(committed);
        self.note(outputs);
    }

    fn note(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Run(order) = output {
                self.runs.push_back(order.run);
            }
        }
    }

    /// Submits `count` jobs, `together` of them a commit.
    fn submit(&mut self, count: usize, together: usize) -> Duration {
        let mut spec = JobSpec::new("true", Task::Process(ProcessTask::new(vec!["/usr/bin/true".to_owned()])));
        spec.scope = Scope::Local;
        let input = Input::Command(RequestId(1), Command::Submit(vec![Submission::new(spec)]));
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let now = together.min(left);
            self.step(vec![input.clone(); now]);
            left -= now;
        }
        start.elapsed()
    }

    /// Ends `count` runs, `together` of them a commit; each frees the slot that the next job takes.
    fn end(&mut self, count: usize, together: usize) -> Duration {
        let exit = Exit { code: Some(0), signal: None };
        let (outputs, usage) = (Outputs::default(), Usage::default());
        let ended = Ended {
            outcome: Outcome::Ok,
            exit,
            outputs,
            usage,
            model: None,
            isolation: Isolation::Contained,
            ran_micros: 600,
            inline: Vec::new(),
            notice: None,
        };
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let now = together.min(left).min(self.runs.len());
            assert!(now > 0, "nothing runs though jobs wait");
            let runs = self.runs.drain(..now);
            let inputs = runs.map(|run| Input::Ended { run, ended: ended.clone() }).collect();
            self.step(inputs);
            left -= now;
        }
        start.elapsed()
    }
}
