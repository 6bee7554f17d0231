//! What an executor adds to the bare price of a process.
//!
//! Runs `true` five thousand times with two at once: first as nothing but spawn and wait, then as orders to
//! [`Executors`] with logs, directories, events and the search for what was left behind. Three rounds of both, in
//! turns, because a shared machine drifts. The ratio is what counts; both absolute figures belong to the machine.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't run may panic")]
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::num::NonZeroU16;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jobmesh_executors::{Config, Event, Executors, Groups, Limits, Order, Sandboxes, Shelf, Surroundings};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, Epoch, Isolation, JobId, Outcome, RunId};

/// How many processes a round starts.
const RUNS: u32 = 5_000;

/// How many sandboxed ones: each is three processes and a file system.
const RUNS_SANDBOXED: u32 = 512;

/// How many at once.
const SLOTS: u16 = 2;

/// Ends after which new orders are given: whoever writes ends down does so for several at once.
const BATCH: u32 = 8;

/// Orders that are kept waiting, so that no slot runs dry.
const AHEAD: u32 = 64;

fn main() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for round in 0..3_u32 {
        let floor = Figure::of(RUNS, spawn_and_wait);
        let ours = Figure::of(RUNS, || orders(&home.path().join(round.to_string()), round, (RUNS, Isolation::None)));
        println!("spawn+wait {floor}, executors {ours}, ratio {:.2}", ours.rate / floor.rate);
        println!("  ratio of processor time {:.2}", floor.cpu_us / ours.cpu_us);
        let boxed = (RUNS_SANDBOXED, Isolation::Sandboxed);
        let boxed = Figure::of(RUNS_SANDBOXED, || orders(&home.path().join(format!("{round}-boxed")), round, boxed));
        println!("  sandboxed {boxed}, {:.1} ms each and slot", f64::from(SLOTS) * 1000.0 / boxed.rate);
    }
}

/// What one way of running things takes.
struct Figure {
    /// Runs a second.
    rate: f64,
    /// Processor time of a run, ours and the process's, in microseconds: steady where other programs are running.
    cpu_us: f64,
}

impl Figure {
    fn of(runs: u32, work: impl FnOnce() -> Duration) -> Self {
        let before = cpu_ticks();
        let took = work();
        let ticks = f64::from(cpu_ticks() - before);
        Self { rate: f64::from(runs) / took.as_secs_f64(), cpu_us: ticks * 10_000.0 / f64::from(runs) }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s ({:.0} µs of processor each)", self.rate, self.cpu_us)
    }
}

/// Processor time of this process and the children that it waited for, in hundredths of a second.
fn cpu_ticks() -> u32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u32>().unwrap()).sum()
}

fn spawn_and_wait() -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| {
                for _ in 0..RUNS / u32::from(SLOTS) {
                    let mut command = Command::new("/bin/true");
                    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    assert!(command.status().unwrap().success());
                }
            });
        }
    });
    began.elapsed()
}

fn orders(home: &Path, round: u32, (runs, isolation): (u32, Isolation)) -> Duration {
    let ended = Arc::new(AtomicU32::new(0));
    let (counter, feeder) = (Arc::clone(&ended), std::thread::current());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let blobs = home.join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let shelf = Shelf::open(blobs).unwrap();
    let surroundings = Surroundings::new(runtime.handle().clone(), env!("CARGO_BIN_EXE_jobmesh-worker").into());
    let slots = NonZeroU16::new(SLOTS).unwrap();
    let config = Config {
        slots,
        spares: Some(home.join("spares")),
        groups: Groups::Use,
        sandboxes: Sandboxes::Use,
        shelf,
        surroundings,
    };
    let events = move |event| match event {
        Event::Started { .. } | Event::Progress { .. } => {}
        Event::Ended { ended, .. } => {
            assert_eq!(ended.outcome.word(), "ok");
            if (counter.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(BATCH) {
                feeder.unpark();
            }
        }
    };
    let executors = Executors::start(config, events, |_, _| Outcome::Ok).unwrap();
    let began = Instant::now();
    let mut ordered = 0;
    while ended.load(Ordering::Relaxed) < runs {
        while ordered < runs && ordered - ended.load(Ordering::Relaxed) < AHEAD {
            executors.run(order(home, (round, ordered), isolation));
            ordered += 1;
        }
        std::thread::park();
    }
    let took = began.elapsed();
    executors.shutdown();
    took
}

fn order(home: &Path, (round, number): (u32, u32), isolation: Isolation) -> Order {
    let mut bytes = [0_u8; 16];
    bytes[..4].copy_from_slice(&round.to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    let run = RunId { job: JobId::from_bytes(bytes), epoch: Epoch(1) };
    Order {
        run,
        task: Task::Process(ProcessTask::new(vec!["true".to_owned()])),
        follows: None,
        kill_grace: DurationMillis::from_secs(5),
        blobs: home.join("blobs"),
        stdin: None,
        inputs: None,
        outputs: Vec::new(),
        directory: home.join(run.to_string()),
        environment: [("JOBMESH_JOB".to_owned(), number.to_string()), ("JOBMESH_ATTEMPT".to_owned(), "1".to_owned())]
            .into(),
        secrets: jobmesh_executors::Secrets::default(),
        limits: Limits::default(),
        is_foreign: false,
        network: true,
        isolation,
    }
}
