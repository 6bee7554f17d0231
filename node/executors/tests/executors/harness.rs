//! A node with executors, a home of its own, and waits that end.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use jobmesh_executors::model::settings::Settings;
use jobmesh_executors::{
    Config, Containers, Ended, Event, Executors, Groups, Limits, Order, ProcessId, Sandboxes, Shelf, Surroundings,
};
use jobmesh_protocol::task::{Builtin, ProcessTask, Task};
use jobmesh_protocol::{BlobRef, DurationMillis, Epoch, Isolation, JobId, Outcome, RunId};
pub(crate) use jobmesh_tests::Tools;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::{Builder, Runtime};

/// Longer than anything takes, shorter than the patience of a person.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long is waited for an event before something else is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a run id that no other test has.
pub(crate) fn run_id() -> RunId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0_u8; 16];
    bytes[..8].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
    bytes[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    RunId { job: JobId::from_bytes(bytes), epoch: Epoch(1) }
}

thread_local! {
    /// How well the orders of nodes must be kept apart that this test starts from now on.
    pub(crate) static LEVEL: Cell<Isolation> = const { Cell::new(Isolation::None) };
}

pub(crate) struct Node {
    pub(crate) executors: Executors,
    pub(crate) home: tempfile::TempDir,
    pub(crate) shelf: Shelf,
    /// Whether its orders have the network.
    pub(crate) network: bool,
    events: Receiver<Event>,
    /// How well its orders must be kept apart.
    pub(crate) isolation: Isolation,
    /// Where what waits for others runs. Dropped last.
    _runtime: Runtime,
}

impl Node {
    pub(crate) fn start(slots: u16) -> Self {
        Self::start_with(slots, Groups::Use)
    }

    pub(crate) fn start_with(slots: u16, groups: Groups) -> Self {
        Self::start_among(slots, groups, Containers::default())
    }

    pub(crate) fn start_among(slots: u16, groups: Groups, containers: Containers) -> Self {
        Self::start_in(slots, groups, |surroundings| Surroundings { containers, ..surroundings })
    }

    /// One that may ask these models.
    pub(crate) fn start_asking(slots: u16, models: Settings) -> Self {
        Self::start_in(slots, Groups::Use, |surroundings| Surroundings { models, ..surroundings })
    }

    fn start_in(slots: u16, groups: Groups, change: impl FnOnce(Surroundings) -> Surroundings) -> Self {
        // More than any test makes, so that no executor waits for a test that has seen enough.
        let (sender, events) = sync_channel(1024);
        let home = tempfile::tempdir().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let blobs = home.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let shelf = Shelf::open(blobs).unwrap();
        let worker = env!("CARGO_BIN_EXE_jobmesh-worker").into();
        let surroundings = change(Surroundings::new(runtime.handle().clone(), worker));
        let spares = Some(home.path().join("spares"));
        let (kept, sandboxes) = (shelf.clone(), Sandboxes::Use);
        let config =
            Config { slots: NonZeroU16::new(slots).unwrap(), spares, groups, sandboxes, shelf: kept, surroundings };
        let executors = Executors::start(config, move |event| drop(sender.send(event)), builtin).unwrap();
        Self { executors, home, shelf, network: true, events, isolation: LEVEL.get(), _runtime: runtime }
    }

    /// A node whose orders are sandboxed; none, after saying so, where no sandbox can be made.
    pub(crate) fn start_sandboxed(slots: u16) -> Option<Self> {
        LEVEL.set(Isolation::Sandboxed);
        let node = Self::start(slots);
        LEVEL.set(Isolation::None);
        let probe = node.executors.probe().into_iter().find(|probe| probe.executor == "process").unwrap();
        if probe.isolation == Some(Isolation::Sandboxed) {
            return Some(node);
        }
        Tools::missing("a sandbox", &probe.lacks.join("; "));
        None
    }

    /// An order to run `task` with five seconds of grace.
    pub(crate) fn order(&self, task: Task) -> Order {
        let run = run_id();
        Order {
            run,
            task,
            follows: None,
            kill_grace: DurationMillis::from_secs(5),
            blobs: self.blobs(),
            stdin: None,
            inputs: None,
            outputs: Vec::new(),
            directory: self.home.path().join("runs").join(run.to_string()),
            environment: [].into(),
            secrets: jobmesh_executors::Secrets::default(),
            limits: Limits::default(),
            is_foreign: false,
            network: self.network,
            isolation: self.isolation,
        }
    }

    /// The folder of blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.home.path().join("blobs")
    }

    /// The file of a blob.
    pub(crate) fn blob_path(&self, blob: BlobRef) -> PathBuf {
        self.blobs().join(blob.hash.to_string())
    }

    /// Keeps bytes among the blobs, where orders find them.
    pub(crate) fn blob(&self, bytes: &[u8]) -> BlobRef {
        let blob = BlobRef::of(bytes);
        std::fs::write(self.blobs().join(blob.hash.to_string()), bytes).unwrap();
        blob
    }

    /// Changes a blob as a disk might: a bit of it.
    pub(crate) fn damage(&self, blob: BlobRef) {
        let path = self.blob_path(blob);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn command(&self, argv: &[&str]) -> Order {
        self.order(command(argv))
    }

    /// An order to run a shell script.
    pub(crate) fn script(&self, script: &str) -> Order {
        self.command(&["sh", "-c", script])
    }

    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(DEADLINE).unwrap()
    }

    pub(crate) fn has_event(&self) -> bool {
        self.event_if_any().is_some()
    }

    pub(crate) fn event_if_any(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits until `run` is at work: its process lives, or, if it is none of the system's, a slot has made its directory.
    pub(crate) fn is_under_way(&self, expected: RunId) {
        let directory = self.home.path().join("runs").join(expected.to_string());
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            // What works inside this process tells of no start; a look every now and then costs nothing.
            match self.events.recv_timeout(LOOK) {
                Ok(Event::Started { run, .. } | Event::Progress { run, .. }) if run == expected => return,
                Ok(Event::Started { .. } | Event::Progress { .. }) => {}
                Ok(Event::Ended { run, ended }) => panic!("{run} ended before it was under way: {ended:?}"),
                Err(_) if directory.exists() => return,
                Err(_) => {}
            }
        }
        panic!("{expected} is not under way");
    }

    /// The end of `run`, which must come before that of `other`.
    pub(crate) fn ended_before(&self, expected: RunId, other: RunId) -> Ended {
        loop {
            match self.event() {
                Event::Ended { run, ended } if run == expected => return ended,
                Event::Ended { run, ended } => panic!("{run} ended before {expected}, not {other} after it: {ended:?}"),
                Event::Started { run, .. } => assert_ne!(run, expected, "it started beyond the slots"),
                Event::Progress { .. } => {}
            }
        }
    }

    /// The next event, which must be the start of `run`.
    pub(crate) fn started(&self, expected: RunId) -> ProcessId {
        match self.event() {
            Event::Started { run, process } => {
                assert_eq!(run, expected);
                process
            }
            Event::Ended { run, ended } => panic!("{run} ended before its start: {ended:?}"),
            Event::Progress { run, what, .. } => panic!("{run} came to {what} before its start"),
        }
    }

    /// The end of `run`, whatever comes before.
    pub(crate) fn ended(&self, expected: RunId) -> Ended {
        loop {
            match self.event() {
                Event::Ended { run, ended } if run == expected => return ended,
                Event::Ended { .. } | Event::Started { .. } | Event::Progress { .. } => {}
            }
        }
    }

    /// Runs an order and waits for its end.
    pub(crate) fn end_of(&self, order: Order) -> Ended {
        let run = order.run;
        self.executors.run(order);
        self.ended(run)
    }

    pub(crate) fn pipe(&self) -> Pipe {
        Pipe::new(self.home.path())
    }
}

/// The housekeeping of a test: fails with the name of what it was asked for.
fn builtin(order: &Order, builtin: Builtin) -> Outcome {
    assert_eq!(order.task, Task::Builtin(builtin));
    Outcome::error(builtin.word())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.executors.shutdown();
    }
}

pub(crate) fn command(argv: &[&str]) -> Task {
    Task::Process(ProcessTask::new(argv.iter().map(|argument| (*argument).to_owned()).collect()))
}

/// A named pipe into which jobs write lines for the test.
pub(crate) struct Pipe {
    pub(crate) path: PathBuf,
    file: File,
    read: Vec<u8>,
}

impl Pipe {
    fn new(home: &Path) -> Self {
        let path = home.join(format!("pipe-{}", run_id()));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Open for both, it never blocks and never ends.
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Self { path, file, read: Vec::new() }
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim().to_owned();
            }
            let rest = Timespec::try_from(until - Instant::now()).unwrap();
            let ready = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&rest)).unwrap();
            assert_eq!(ready, 1, "no line from the job");
            let mut bytes = [0_u8; 256];
            let count = self.file.read(&mut bytes).unwrap();
            self.read.extend_from_slice(&bytes[..count]);
        }
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.line().parse().unwrap()
    }
}

/// Whether there is a process of that number, dead ones that nobody waited for included.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether a process of that number runs code.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z" && state != "X"))
}

/// When a living process started, in clock ticks since the system did.
pub(crate) fn started(pid: u32) -> u64 {
    stat(pid).unwrap()[19].parse().unwrap()
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(line.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
