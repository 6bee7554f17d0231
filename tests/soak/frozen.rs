//! Ten nodes, of which three are stopped with SIGSTOP in the middle of their work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jobmesh_protocol::job::Effects;
use jobmesh_tests::{Bench, Fifo, Node, Value};

use crate::ledger::{Acknowledged, Jobs, Ledger, the_work_was_done};
use crate::{alone, bench, script};

/// Leases that outlast whatever else loads the machine: a heartbeat that comes late on a busy one loses no job. The wait
/// for bids leaves a busy bidder its time, and half of the second that others may take to go on. Slots for all that is
/// held at once: a bid that did not win holds its slot to its end, and with fewer slots those that are left turn the next
/// jobs down although they are idle. The jobs talk to the test through files, which a sandbox would hide.
const SETTINGS: &str = "slots = 8\n[lease]\nttl = \"8s\"\ngrace = \"1s\"\nbid_window = \"500ms\"\nbid_hold = \"2s\"\n\
                        [learning]\npublish_after = \"200ms\"\n[drain]\nwait = \"1s\"\n[isolation]\nmembers = \"contained\"\n";
/// What the others can do, and takes none of the few processors, which lost bids would hold like slots.
const WORK: &[&str] = &["--require", "tool:work", "--cpus", "none"];
const WORKERS: usize = 9;
const STOPPED: usize = 3;
/// Jobs by which it is measured how long a job takes: enough that a busy moment of the machine is not the middle of them.
const PROBES: usize = 7;
/// What a job for the others may lose by it.
const GOES_ON_MS: u64 = 1_000;

/// The nodes on which the attempts of a job were, first to last.
fn ran_on(shown: &Value) -> Vec<String> {
    let attempts = shown["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["node"]["name"].as_str().unwrap_or("").to_owned()).collect()
}

fn accepted(shown: &Value) -> usize {
    shown["receipts"].as_array().unwrap().iter().filter(|receipt| receipt["verdict"] == "accepted").count()
}

fn date(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_else(|| panic!("{key} of {of}"))
}

/// What jobs take from their submission to their end, one after the other.
struct Probes {
    median_ms: u64,
    /// When most of them had ended.
    most_ended_at: u64,
    /// All of them, the slowest last.
    shown: Vec<Value>,
}

impl Probes {
    fn slowest(&self) -> &Value {
        &self.shown[PROBES - 1]
    }
}

fn probe(origin: &Node) -> Probes {
    let ended = |job: &Value| date(&job["job"], "finished_at");
    let took = |job: &Value| ended(job) - date(&job["job"], "created_at");
    let one = |_| {
        let shown = origin.ended(&origin.submit(&[WORK, &["--", "true"]].concat()));
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        shown
    };
    let mut shown: Vec<Value> = (0..PROBES).map(one).collect();
    let most_ended_at = ended(&shown[PROBES / 2]);
    shown.sort_by_key(took);
    Probes { median_ms: took(&shown[PROBES / 2]), most_ended_at, shown }
}

fn up(bench: &Bench, name: &str) -> Node {
    let node = bench.node(name);
    node.reconfigure(SETTINGS);
    node.up();
    node
}

/// The nodes that can do the work, by their names.
fn workers(bench: &Bench, origin: &Node) -> BTreeMap<String, Node> {
    let worker = |number| {
        let name = format!("w{number}");
        let node = up(bench, &name);
        origin.admit(&node);
        assert_eq!(node.run(&["capability", "add", "tool:work"]).code, 0);
        (name, node)
    };
    (1..=WORKERS).map(worker).collect()
}

/// Submits a job for each worker that goes on until there is a file `go`, and returns when all have begun. Each attempt of
/// them tells so in `told`, which must be open for as long.
fn hold(bench: &Bench, origin: &Node, told: &mut Fifo) -> Jobs {
    let wait = format!(
        // Whatever becomes of the test, nobody waits in a folder that is gone.
        "echo . > {told}; while [ -d {folder} ] && [ ! -e {folder}/go ]; do sleep 0.05; done",
        told = told.path().display(),
        folder = bench.folder().display()
    );
    let submit = |number| {
        // Each is of a class of its own: a slot lease would give all of them to one node.
        let (name, own) = (format!("long-{number}"), format!("{}M", 64 + number));
        let command = ["--mem", &own, "--", "sh", "-c", &script(bench.folder(), &wait), &name];
        let job = origin.submit(&[WORK, &command].concat());
        (name, Acknowledged { number: job.parse().unwrap(), effects: Effects::Idempotent })
    };
    let jobs = (0..WORKERS).map(submit).collect();
    (0..WORKERS).for_each(|_| drop(told.line()));
    jobs
}

fn show(origin: &Node, job: &Acknowledged) -> Value {
    origin.json(&["show", &job.number.to_string()])
}

/// Waits for the end of the jobs. Those that a stopped node held must have been lost there, and only after the others had
/// gone on.
fn all_end_elsewhere(origin: &Node, jobs: &Jobs, was_stopped: impl Fn(&str) -> bool, others: &Probes) {
    for (name, job) in jobs {
        let shown = origin.ended(&job.number.to_string());
        let ran_on = ran_on(&shown);
        let (first, last) = (ran_on.first().unwrap(), ran_on.last().unwrap());
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        assert!(!was_stopped(last), "{name} ended on {last}, which is stopped: {shown}");
        if was_stopped(first) {
            let lost = &shown["attempts"][0];
            assert_eq!(lost["state"], "lost", "{shown}");
            let is_later = date(lost, "finished_at") > others.most_ended_at;
            assert!(is_later, "the others waited until {name} was lost: {shown}, {}", others.slowest());
        }
    }
}

/// Lets a node go on, and waits until its receipts have come: a job that it runs queues behind them.
fn wake(origin: &Node, name: &str, node: &Node) {
    node.pid().thaw();
    let tag = format!("tool:after-{name}");
    assert_eq!(node.run(&["capability", "add", &tag]).code, 0);
    let run = origin.run(&["run", "--require", &tag, "--", "true"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, node.log());
}

#[test]
fn what_three_stopped_nodes_of_ten_hold_runs_again_and_counts_once() {
    let _alone = alone();
    let bench = bench();
    let origin = up(&bench, "origin");
    let workers = workers(&bench, &origin);
    let before = probe(&origin).median_ms;

    let mut told = Fifo::new(bench.folder().join("told"));
    let jobs = hold(&bench, &origin, &mut told);
    let holders: BTreeSet<String> = jobs.values().map(|job| ran_on(&show(&origin, job)).pop().unwrap()).collect();
    let stopped: BTreeSet<String> = holders.into_iter().take(STOPPED).collect();
    assert_eq!(stopped.len(), STOPPED, "{jobs:?}");
    stopped.iter().for_each(|name| workers[name].pid().freeze());

    // The promise twice. As a length of time, against the same on the same machine a moment before; and as an order of
    // events, which no load can turn round: nobody has to be written off before others go on.
    let others = probe(&origin);
    let (after, slowest) = (others.median_ms, others.slowest());
    assert!(
        after <= before + GOES_ON_MS,
        "others took {before} ms before and {after} ms after three had stopped: {slowest}"
    );

    std::fs::write(bench.folder().join("go"), "").unwrap();
    let began = Instant::now();
    all_end_elsewhere(&origin, &jobs, |name| stopped.contains(name), &others);
    eprintln!("others: {before} ms before, {after} ms after; the lost jobs were done {:?} after", began.elapsed());

    stopped.iter().for_each(|name| wake(&origin, name, &workers[name]));
    for (name, job) in &jobs {
        let shown = show(&origin, job);
        assert_eq!(accepted(&shown), 1, "{name}: {shown}");
    }
    let mesh = origin.json(&["status"])["mesh"].as_str().unwrap().parse().unwrap();
    origin.down();
    let ledger = Ledger::open(&origin.database());
    ledger.nothing_is_lost(&jobs);
    ledger.every_result_counts_once(&jobs, &mesh);
    the_work_was_done(&ledger, &jobs, &std::fs::read_to_string(bench.folder().join("marks")).unwrap());
}
