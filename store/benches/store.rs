//! How fast the job database takes jobs on, starts and ends them, on a real file and with `synchronous=FULL`.
//!
//! `cargo bench -p jobmesh-store [-- WORD…] [-- --quick]`: only the measurements whose name contains a word. Each line
//! has a name, how many jobs, jobs in a second, and the time for each. A row of the job table costs more than the
//! floor of `jobmesh bench local` by what its columns, its indexes and the event beside it cost.

#![expect(clippy::unwrap_used, reason = "a database that fails has no speed")]
#![expect(clippy::print_stdout, reason = "what was measured is for the terminal")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a measurement asks what time it is")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::BootId;
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{
    AttemptState, Epoch, Incarnation, Isolation, JobId, JobNumber, JobSpec, JobState, Outcome, RunId, UnixMillis,
};
use jobmesh_store::{EndedAttempt, Job, Move, NewAttempt, NewEvent, NewJob, Plan, Store, Txn};

const AT: UnixMillis = UnixMillis(1_800_000_000_000);
const ME: NodeId = NodeId::from_bytes([7; 32]);

/// Does something with so many jobs and says how long that took.
type Measure = fn(usize) -> Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let scale = if arguments.iter().any(|word| word == "--quick") { 20 } else { 1 };
    let measurements: [(&str, usize, Measure); 7] = [
        ("insert, 1 job a commit", 3000, |count| inserted(count, 1)),
        ("insert, 50 jobs a commit", 50_000, |count| inserted(count, 50)),
        ("insert, 1,000 jobs a commit", 200_000, |count| inserted(count, 1000)),
        ("claim, then complete, 2 commits a job", 2000, |count| ran(count, 1, Fusion::Apart)),
        ("complete + next claim, 1 commit a job", 3000, |count| ran(count, 1, Fusion::Together)),
        ("complete + next claim, 50 jobs a commit", 50_000, |count| ran(count, 50, Fusion::Together)),
        ("read a job by its id", 200_000, read),
    ];
    for (name, count, measure) in measurements {
        if words.is_empty() || words.iter().any(|word| name.contains(word)) {
            let count = count / scale;
            report(name, count, measure(count));
        }
    }
}

fn report(name: &str, count: usize, elapsed: Duration) {
    let rate = count as f64 / elapsed.as_secs_f64();
    let each = elapsed.as_secs_f64() * 1e6 / count as f64;
    println!("{name:<42} {count:>9} jobs {rate:>10.0}/s {each:>9.2} µs each");
}

/// A database in the folder of the build, which is on a disk where `/tmp` may be memory.
struct Bench {
    store: Store,
    spec: Arc<JobSpec>,
    next: u64,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::open(folder.path(), Incarnation::from_bytes([1; 16])).unwrap();
        let spec = JobSpec::new("true", Task::Process(ProcessTask::new(vec!["/usr/bin/true".to_owned()])));
        Self { store, spec: Arc::new(spec), next: 0, _folder: folder }
    }

    /// Inserts `count` available jobs, each with its event, in one commit.
    fn insert(&mut self, count: usize) -> Vec<Row> {
        let txn = self.store.begin().unwrap();
        let jobs = (0..count).map(|_| {
            self.next += 1;
            // As they come from a clock: ascending at the front, spread at the back.
            let mut entropy = [0; 10];
            entropy[..8].copy_from_slice(&self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            let id = JobId::new(UnixMillis(AT.0 + self.next / 50), &entropy);
            let number = JobNumber::new(u32::try_from(self.next).unwrap());
            let job = waiting(id, number, &self.spec);
            txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: None }).unwrap();
            note(&txn, id, Epoch(0), JobState::Available, Cause::Ready);
            Row { id, number }
        });
        let jobs = jobs.collect();
        let _committed = txn.commit().unwrap();
        jobs
    }
}

/// A job of the bench.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: JobId,
    number: JobNumber,
}

fn waiting(id: JobId, number: JobNumber, spec: &Arc<JobSpec>) -> Job {
    Job {
        id,
        number,
        state: JobState::Available,
        state_since: AT,
        spec: Arc::clone(spec),
        queue: spec.queue.clone(),
        priority: 0,
        epoch: Epoch(0),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        waits: 0,
        run_at: None,
        expires_at: None,
        deadline: None,
        held: None,
        plan: Plan::default(),
        fire: None,
        cancel_reason: None,
        finish_reason: None,
        origin: None,
        created_at: AT,
        finished_at: None,
    }
}

fn note(txn: &Txn<'_>, job: JobId, epoch: Epoch, state: JobState, cause: Cause) {
    let event = NewEvent { job, epoch, state, cause, node: Some(ME), note: None, at: AT };
    txn.append_event(&event).unwrap();
}

fn inserted(count: usize, together: usize) -> Duration {
    let mut bench = Bench::new();
    let start = Instant::now();
    for _ in 0..count / together {
        black_box(bench.insert(together));
    }
    start.elapsed()
}

/// Whether the end of a job and the start of the next are in one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fusion {
    Apart,
    Together,
}

const fn step(job: JobNumber, from: JobState, to: JobState) -> Move {
    let (epoch, finish_reason) = match to {
        JobState::Completed => (Epoch(1), Some(FinishReason::Ok)),
        JobState::Pending
        | JobState::Scheduled
        | JobState::Available
        | JobState::Offered
        | JobState::Running
        | JobState::Suspended
        | JobState::Retryable
        | JobState::Discarded
        | JobState::Cancelled
        | JobState::Skipped => (Epoch(0), None),
    };
    Move {
        job,
        from,
        epoch,
        to,
        new_epoch: Epoch(1),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        run_at: None,
        expires_at: None,
        finish_reason,
        at: AT,
    }
}

fn claim(txn: &Txn<'_>, row: Row) {
    let job = row.id;
    assert!(txn.move_job(&step(row.number, JobState::Available, JobState::Running)).unwrap());
    let run = RunId { job, epoch: Epoch(1) };
    let boot = Some(BootId::from_bytes([3; 16]));
    let (state, award, allocation) = (AttemptState::Starting, None, None);
    txn.insert_attempt(&NewAttempt { run, state, node: ME, boot, award, allocation, at: AT }).unwrap();
    note(txn, job, Epoch(1), JobState::Running, Cause::Admitted);
}

fn complete(txn: &Txn<'_>, row: Row) {
    let job = row.id;
    let run = RunId { job, epoch: Epoch(1) };
    let exit = Exit { code: Some(0), signal: None };
    let (outputs, usage) = (Outputs::default(), Usage::default());
    let ended = EndedAttempt {
        state: AttemptState::Succeeded,
        outcome: &Outcome::Ok,
        exit,
        outputs,
        usage,
        model: None,
        isolation: Some(Isolation::Contained),
        started_at: None,
    };
    txn.finish_attempt(run, &ended, AT).unwrap();
    assert!(txn.move_job(&step(row.number, JobState::Running, JobState::Completed)).unwrap());
    note(txn, job, Epoch(1), JobState::Completed, Cause::Succeeded);
}

/// Runs `count` jobs that wait, `together` of them at a time.
fn ran(count: usize, together: usize, fusion: Fusion) -> Duration {
    let mut bench = Bench::new();
    let mut waiting = VecDeque::new();
    while waiting.len() < count {
        waiting.extend(bench.insert(1000.min(count - waiting.len())));
    }
    let start = Instant::now();
    let mut running: Vec<Row> = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        let mut txn = bench.store.begin().unwrap();
        for job in running.drain(..) {
            complete(&txn, job);
        }
        if fusion == Fusion::Apart {
            let _committed = txn.commit().unwrap();
            txn = bench.store.begin().unwrap();
        }
        running.extend(waiting.drain(..together.min(waiting.len())));
        for job in &running {
            claim(&txn, *job);
        }
        let _committed = txn.commit().unwrap();
    }
    start.elapsed()
}

fn read(count: usize) -> Duration {
    let mut bench = Bench::new();
    let jobs = bench.insert(1000);
    let txn = bench.store.begin().unwrap();
    let start = Instant::now();
    for job in jobs.iter().cycle().take(count) {
        black_box(txn.view().job(job.id).unwrap());
    }
    start.elapsed()
}
