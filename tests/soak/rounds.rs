//! Rounds of faults, each at another moment of the work: daemons killed and frozen, wires cut, stalled, half closed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jobmesh_keys::Invite;
use jobmesh_protocol::MeshId;
use jobmesh_protocol::job::Effects;
use jobmesh_tests::{Fifo, Node, Proxy, Value, Wire, scaled};

use crate::ledger::{Acknowledged, Jobs, Ledger, the_work_was_done};
use crate::{alone, bench, script};

/// The jobs talk to the test through files, which a sandbox would hide.
const SETTINGS: &str = "slots = 2\n[lease]\nttl = \"2s\"\ngrace = \"1s\"\nbid_window = \"200ms\"\nbid_hold = \"1s\"\n\
                        [learning]\npublish_after = \"200ms\"\n[drain]\nwait = \"1s\"\n[isolation]\nmembers = \"contained\"\n";
/// Longer than a lease and its grace.
const PAST_THE_LEASE: Duration = Duration::from_millis(3_500);
/// Longest time between the first sign of a round and its fault.
const MOMENT_MAX_MS: u64 = 250;
/// What may run again, as often as it takes.
const AGAIN: &[&str] = &["--retries", "999", "--backoff", "fixed:10ms,jitter=none", "--crash-limit", "1000"];
const ONCE: &[&str] = &["--effects", "once"];

/// What happens to a worker, its wire, or the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillWorker,
    FreezeWorker,
    CutWire,
    KillOrigin,
    StallWire,
    HalfCloseWire,
    ShutWire,
    FreezeOrigin,
}

const FAULTS: [Fault; 8] = [
    Fault::KillWorker,
    Fault::FreezeWorker,
    Fault::CutWire,
    Fault::KillOrigin,
    Fault::StallWire,
    Fault::HalfCloseWire,
    Fault::ShutWire,
    Fault::FreezeOrigin,
];

/// A node that works, and the wire to it if this machine can have one.
struct Worker {
    node: Node,
    wire: Option<Proxy>,
}

struct Stage {
    folder: PathBuf,
    origin: Node,
    workers: Vec<Worker>,
    told: Fifo,
    jobs: Jobs,
    cuts: usize,
}

/// Lets `node` join by a wire, so that neither knows another way to the other.
fn admit(origin: &Node, node: &Node) -> Option<Proxy> {
    let text = origin.json(&["invite"])["invite"].as_str().unwrap().to_owned();
    let mut terms = Invite::decode(&text).unwrap().terms().clone();
    let port = terms.addresses[0].rsplit('/').next().unwrap().parse().unwrap();
    let wire = Proxy::to(port);
    terms.addresses = wire.as_ref().map_or(terms.addresses, |wire| vec![wire.address()]);
    let run = node.run(&["join", &Invite::new(terms).unwrap().encode()]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, origin.log());
    wire
}

impl Stage {
    fn new(bench: &jobmesh_tests::Bench) -> Self {
        let up = |name: &str| {
            let node = bench.node(name);
            node.reconfigure(SETTINGS);
            node.up();
            node
        };
        let origin = up("origin");
        let workers = ["b", "c", "d"].map(|name| {
            let node = up(name);
            let wire = admit(&origin, &node);
            assert_eq!(node.run(&["capability", "add", "tool:work"]).code, 0);
            Worker { node, wire }
        });
        let told = Fifo::new(bench.folder().join("told"));
        Self { folder: bench.folder().to_owned(), origin, workers: workers.into(), told, jobs: Jobs::new(), cuts: 0 }
    }

    fn submit(&mut self, name: String, effects: Effects, takes: &str) {
        let then = format!("echo . > {}; sleep {takes}", self.told.path().display());
        let work = script(&self.folder, &then);
        let options = if effects == Effects::Once { ONCE } else { AGAIN };
        let job = [&["--require", "tool:work"], options, &["--", "sh", "-c", &work, &name]].concat();
        let number = self.origin.submit(&job).parse().unwrap();
        self.jobs.insert(name, Acknowledged { number, effects });
    }

    /// Lets time pass while jobs go on telling.
    fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.told.line_within(end.saturating_duration_since(Instant::now())).is_some() {}
    }

    fn round(&mut self, round: usize) {
        for number in 0..2 {
            self.submit(format!("brief-{round}-{number}"), Effects::Idempotent, "0.05");
        }
        self.submit(format!("long-{round}"), Effects::Idempotent, "0.8");
        self.submit(format!("once-{round}"), Effects::Once, "0.2");
        self.told.line();
        self.pass(Duration::from_millis(u64::try_from(round).unwrap() * 7919 % MOMENT_MAX_MS));
        self.strike(FAULTS[round % FAULTS.len()], round / FAULTS.len() + round);
    }

    fn strike(&mut self, fault: Fault, draw: usize) {
        let at = draw % self.workers.len();
        let (worker, origin) = (&self.workers[at], &self.origin);
        match fault {
            Fault::KillWorker => restart(&worker.node),
            Fault::KillOrigin => restart(origin),
            Fault::CutWire => self.cuts += worker.wire.as_ref().map_or(0, Proxy::cut),
            Fault::HalfCloseWire => self.cuts += worker.wire.as_ref().map_or(0, Proxy::half_close),
            Fault::FreezeWorker => {
                worker.node.pid().freeze();
                self.pass(PAST_THE_LEASE);
                self.workers[at].node.pid().thaw();
            }
            Fault::FreezeOrigin => {
                origin.pid().freeze();
                self.pass(PAST_THE_LEASE);
                self.origin.pid().thaw();
            }
            Fault::StallWire => self.hold_wire(at, Wire::Stalled),
            Fault::ShutWire => {
                self.cuts += worker.wire.as_ref().map_or(0, Proxy::cut);
                self.hold_wire(at, Wire::Shut);
            }
        }
    }

    fn hold_wire(&mut self, at: usize, wire: Wire) {
        self.set_wire(at, wire);
        self.pass(PAST_THE_LEASE);
        self.set_wire(at, Wire::Open);
    }

    fn set_wire(&self, at: usize, wire: Wire) {
        if let Some(proxy) = &self.workers[at].wire {
            proxy.set(wire);
        }
    }

    /// Lets everything come to its end.
    fn rest(&self) {
        let run = self.origin.run(&["wait", "all", "--exit-code", "zero", "--timeout", "5m"]);
        assert_eq!(run.code, 0, "{}\n{}", run.stderr, self.origin.run(&["ls", "--live"]).text());
        for worker in &self.workers {
            assert_no_broken_chain(&self.origin, worker.node.name());
        }
    }
}

fn restart(node: &Node) {
    node.kill();
    node.up();
}

/// The newest receipts may lack their countersignature, and nothing else may be wrong.
fn assert_no_broken_chain(origin: &Node, peer: &str) {
    let run = origin.run(&["--json", "audit", peer]);
    let report: Value = run.text().parse().unwrap_or_else(|_| panic!("audit {peer}: {}{}", run.text(), run.stderr));
    for chain in report["chains"].as_array().unwrap() {
        for finding in chain["findings"].as_array().unwrap() {
            assert_eq!(finding["fault"], "unsettled", "the receipts of {peer}: {report}");
        }
    }
}

#[test]
fn the_guarantees_hold_through_rounds_of_faults() {
    let _alone = alone();
    let bench = bench();
    let mut stage = Stage::new(&bench);
    for round in 0..scaled(FAULTS.len(), 1_200) {
        stage.round(round);
    }
    stage.rest();
    let mesh: MeshId = stage.origin.json(&["status"])["mesh"].as_str().unwrap().parse().unwrap();
    stage.origin.down();
    for worker in &stage.workers {
        worker.node.down();
        drop(Ledger::open(&worker.node.database()));
    }
    let marks = std::fs::read_to_string(bench.folder().join("marks")).unwrap();
    let ledger = Ledger::open(&stage.origin.database());
    ledger.nothing_is_lost(&stage.jobs);
    ledger.every_result_counts_once(&stage.jobs, &mesh);
    the_work_was_done(&ledger, &stage.jobs, &marks);
    let passed: u64 = stage.workers.iter().filter_map(|worker| worker.wire.as_ref()).map(Proxy::passed).sum();
    if stage.workers.iter().all(|worker| worker.wire.is_some()) {
        assert!(passed > 0 && stage.cuts > 0, "the nodes found a way round the wires");
    } else {
        eprintln!("this machine has no address but loopback: no wire was cut");
    }
    let runs = marks.lines().filter(|line| line.starts_with("start ")).count();
    eprintln!("{} jobs, {runs} runs, {} connections cut, {passed} bytes over wires", stage.jobs.len(), stage.cuts);
}
