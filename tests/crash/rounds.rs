//! Rounds of `kill -9`: of the daemon, of its children, of both, with everything in flight that a node can do.
//!
//! Each run of a job appends its number to a file. At the end that file, the node's own account and its database must
//! tell the same story, and nothing may be left running.
//!
//! **The hard case** is a job that may run once only: between its start and the note of its start lies the kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Fifo, Node, Pid, Value, children, scaled, with_variable};

use crate::bench;
use crate::record::Record;

/// What every process of a job of these rounds has in its environment, with the folder of the test.
const MARK: &str = "JOBMESH_TEST_ROUNDS";
/// What may run again, as often as it takes.
const AGAIN: &[&str] = &["--retries", "999", "--backoff", "fixed:10ms,jitter=none", "--crash-limit", "1000"];
/// Appends the job's number to a file, tells the test that it runs, and takes some time.
const SCRIPT: &str = "echo \"$JOBMESH_JOB\" >> \"$0\"; echo . > \"$1\"; sleep \"$2\"";
/// Longest time between the first sign of a round and its kill.
const MOMENT_MAX_MS: u64 = 60;
/// An end of a job in the history.
const ENDS: &[&str] = &["completed", "discarded", "cancelled", "skipped"];

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Children,
    Both,
}

/// Submits the jobs of each round, again and again until they are acknowledged.
struct Submitter {
    home: PathBuf,
    folder: PathBuf,
    acknowledged: BTreeMap<String, Kind>,
}

/// How a job may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Again,
    Once,
}

impl Submitter {
    fn work(mut self, rounds: &Receiver<usize>) -> BTreeMap<String, Kind> {
        for round in rounds {
            let key = |name: &str| format!("{name}-{round}");
            self.submit(&key("plain"), AGAIN, "0.01");
            self.submit(&key("long"), AGAIN, "0.7");
            let once = self.submit(&key("once"), &["--effects", "once"], "0.03");
            self.submit(&key("after-once"), &[AGAIN, &["--after", &format!("{once}:done")]].concat(), "0.01");
            let array = self.submit(&key("array"), &[AGAIN, &["--array", "1-5", "--at-a-time", "3"]].concat(), "0.02");
            self.submit(&key("after-array"), &[AGAIN, &["--after", &array]].concat(), "0");
        }
        self.acknowledged
    }

    fn submit(&mut self, key: &str, options: &[&str], takes: &str) -> String {
        let mark = format!("{MARK}={}", self.folder.display());
        let [marks, told] = [marks(&self.folder), told(&self.folder)].map(|path| path.display().to_string());
        let command = ["--env", &mark, "--", "sh", "-c", SCRIPT, &marks, &told, takes];
        loop {
            let mut submit = std::process::Command::new(env!("CARGO_BIN_EXE_jobmesh"));
            submit.args(["submit", "--json", "--idempotency-key", key]).args(options).args(command);
            let output = submit.env("JOBMESH_HOME", &self.home).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                let value: Value = std::str::from_utf8(&output.stdout).unwrap().parse().unwrap();
                let number = value["number"].to_string();
                let kind = if options.contains(&"once") { Kind::Once } else { Kind::Again };
                self.acknowledged.insert(number.clone(), kind);
                return number;
            }
            // A node that is down, or goes down: nothing else may be wrong.
            assert!(matches!(output.status.code(), Some(69 | 75)), "{key}: {said}");
        }
    }
}

fn marks(folder: &Path) -> PathBuf {
    folder.join("marks")
}

fn told(folder: &Path) -> PathBuf {
    folder.join("told")
}

struct Stage {
    bench: Bench,
    node: Node,
    told: Fifo,
    /// The jobs that the node has said to be completed, with the attempt that did it.
    reported: BTreeMap<String, u64>,
}

impl Stage {
    fn new() -> Self {
        let bench = bench();
        let node = bench.node("a");
        node.reconfigure("slots = 4\n[drain]\nwait = \"1s\"\n");
        node.up();
        let told = Fifo::new(told(bench.folder()));
        let stage = Self { bench, node, told, reported: BTreeMap::new() };
        stage.schedule("every", &["--overlap", "allow", "--catchup", "1h"]);
        stage.schedule("alone", &["--overlap", "skip", "--catchup", "none"]);
        stage
    }

    fn schedule(&self, name: &str, options: &[&str]) {
        let mark = format!("{MARK}={}", self.bench.folder().display());
        let [marks, told] = [marks(self.bench.folder()), self.told.path().to_owned()];
        let command = ["--env", &mark, "--", "sh", "-c", SCRIPT, marks.to_str().unwrap(), told.to_str().unwrap(), "0"];
        let run = self.node.run(&[&["cron", "add", name, "* * * * * *"], options, AGAIN, &command].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
    }

    fn submitter(&self) -> (SyncSender<usize>, JoinHandle<BTreeMap<String, Kind>>) {
        let (sender, rounds) = sync_channel(1);
        let (home, folder) = (self.node.home().to_owned(), self.bench.folder().to_owned());
        let submitter = Submitter { home, folder, acknowledged: BTreeMap::new() };
        (sender, std::thread::spawn(move || submitter.work(&rounds)))
    }

    /// Waits for a job to start, lets a moment pass that is another one each time, and strikes.
    fn strike(&mut self, round: usize) {
        self.told.line();
        let millis = u64::try_from(round).unwrap() * 7919 % MOMENT_MAX_MS;
        let moment = Instant::now() + Duration::from_millis(millis);
        while self.told.line_within(moment.saturating_duration_since(Instant::now())).is_some() {}
        let victim = [Victim::Daemon, Victim::Children, Victim::Both][round % 3];
        if victim != Victim::Children {
            self.node.kill();
        }
        if victim != Victim::Daemon {
            self.processes().into_iter().for_each(Pid::kill);
        }
        if victim != Victim::Children {
            self.node.up();
        }
        let listed = self.node.api().ask("GET", "/v1/jobs?state=completed&limit=10000", None).json();
        for job in listed["jobs"].as_array().unwrap() {
            self.reported.entry(label(job)).or_insert(job["epoch"].as_u64().unwrap());
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let found = with_variable(MARK, &self.bench.folder().display().to_string());
        found.into_iter().filter(|pid| pid.is_alive()).collect()
    }

    /// Lets everything come to its end, and returns what the node says of all jobs and tasks.
    fn rest(&mut self) -> Vec<Value> {
        for name in ["every", "alone"] {
            assert_eq!(self.node.run(&["cron", "pause", name]).code, 0);
        }
        let run = self.node.run(&["wait", "all", "--exit-code", "zero", "--timeout", "5m"]);
        assert_eq!(run.code, 0, "{}\n{}", run.stderr, self.node.run(&["ls", "--live"]).text());
        let listed = self.node.json(&["ls", "--all", "--tasks"]);
        assert_eq!(children(self.node.pid(), true), Vec::new(), "zombies");
        assert_eq!(self.processes(), Vec::new(), "left running");
        listed["jobs"].as_array().unwrap().clone()
    }
}

/// What people call a job, and what it calls itself.
fn label(job: &Value) -> String {
    match job.get("task").and_then(Value::as_u64) {
        Some(task) => format!("{}.{task}", job["number"]),
        None => job["number"].to_string(),
    }
}

#[test]
fn nothing_is_lost_or_done_again_through_rounds_of_kills() {
    let mut stage = Stage::new();
    let (sender, submitter) = stage.submitter();
    for round in 0..scaled(10, 200) {
        sender.send(round).unwrap();
        stage.strike(round);
    }
    drop(sender);
    let acknowledged = submitter.join().unwrap();
    let jobs = stage.rest();
    stage.node.down();
    let marks = fs::read_to_string(marks(stage.bench.folder())).unwrap();
    let record = Record::open(&stage.node.database());
    assert!(record.is_sound());
    every_acknowledged_job_ended_as_it_should(&acknowledged, &jobs);
    every_completed_job_ran(&jobs, &marks);
    no_job_that_may_run_once_ran_twice(&acknowledged, &marks);
    what_was_reported_stays(&stage.reported, &jobs);
    every_job_ended_once(&record, jobs.len());
    no_instant_is_missing_or_double(&record);
    let (jobs, runs, instants) = (jobs.len(), marks.lines().count(), record.fired("every").len());
    eprintln!("{jobs} jobs and tasks, {runs} runs, {instants} instants of a schedule");
}

fn every_acknowledged_job_ended_as_it_should(acknowledged: &BTreeMap<String, Kind>, jobs: &[Value]) {
    let by_label: BTreeMap<String, &Value> = jobs.iter().map(|job| (label(job), job)).collect();
    for (number, kind) in acknowledged {
        let job = by_label.get(number).unwrap_or_else(|| panic!("job {number} was acknowledged and is lost"));
        let state = job["state"].as_str().unwrap();
        let is_right = state == "completed" || (*kind == Kind::Once && state == "discarded");
        assert!(is_right, "job {number} ({kind:?}) ended as {state}: {job}");
    }
    let tasks = jobs.iter().filter(|job| job.get("task").is_some());
    let strange: Vec<&Value> = tasks.filter(|task| task["state"] != "completed").collect();
    assert!(strange.is_empty(), "{strange:?}");
}

fn every_completed_job_ran(jobs: &[Value], marks: &str) {
    let ran: BTreeSet<&str> = marks.lines().collect();
    let completed = jobs.iter().filter(|job| job["state"] == "completed" && job.get("tasks").is_none());
    let silent: Vec<String> = completed.map(label).filter(|label| !ran.contains(label.as_str())).collect();
    assert!(silent.is_empty(), "said to be completed, but never ran: {silent:?}");
}

fn no_job_that_may_run_once_ran_twice(acknowledged: &BTreeMap<String, Kind>, marks: &str) {
    for (number, _) in acknowledged.iter().filter(|(_, kind)| **kind == Kind::Once) {
        let runs = marks.lines().filter(|line| line == number).count();
        assert!(runs <= 1, "job {number} may run once and ran {runs} times");
    }
}

fn what_was_reported_stays(reported: &BTreeMap<String, u64>, jobs: &[Value]) {
    let by_label: BTreeMap<String, &Value> = jobs.iter().map(|job| (label(job), job)).collect();
    assert!(!reported.is_empty());
    for (label, epoch) in reported {
        let job = by_label.get(label).unwrap_or_else(|| panic!("job {label} was reported and is lost"));
        assert_eq!((job["state"].as_str(), job["epoch"].as_u64()), (Some("completed"), Some(*epoch)), "{job}");
    }
}

fn every_job_ended_once(record: &Record, count: usize) {
    let histories = record.histories();
    assert!(histories.len() <= count, "{} jobs have a history, {count} are listed", histories.len());
    for (job, states) in histories {
        let ends = states.iter().filter(|state| ENDS.contains(&state.as_str())).count();
        let is_last = states.last().is_some_and(|state| ENDS.contains(&state.as_str()));
        assert!(ends == 1 && is_last, "job {job}: {states:?}");
    }
}

/// A second apart, all of them, while the schedule makes up for what it missed; of the other, none twice.
fn no_instant_is_missing_or_double(record: &Record) {
    let every = record.fired("every");
    assert!(every.len() > 2, "{every:?}");
    for pair in every.windows(2) {
        assert_eq!(pair[1] - pair[0], 1000, "{every:?}");
    }
    let alone = record.fired("alone");
    assert!(alone.windows(2).all(|pair| pair[1] > pair[0]), "{alone:?}");
}
