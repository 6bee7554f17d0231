//! What a job of each kind takes on a node, beside a job that does nothing.
//!
//! `cargo bench -p jobmesh --bench kinds [-- WORD…] [-- --quick]`: only the kinds whose name contains a word. It prints the
//! table that the README shows.
//!
//! A job is timed from the request that submits it to the answer that it has ended, one after the other, on an idle node
//! of one slot, with its commits (`synchronous=FULL`). The floor is what the node's engine takes for a job that has
//! nothing to run, which passes through the same requests, states and commits: what lies above it is the work itself and
//! what its executor does around it. Three rounds of both, in turns, because a shared machine drifts; the medians count.
//! What an executor costs beside the bare engine of its kind, without a node, is the benchmark of `jobmesh-executors`.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't run may panic")]
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::time::Duration;

use jobmesh_tests::podman::{IMAGE, Podman, podman};
use jobmesh_tests::provider::provider;
use jobmesh_tests::stopwatch::{machine, median, timed, words};
use jobmesh_tests::web::Server;
use jobmesh_tests::{Api, Bench, Node, Value, json};

/// Jobs in a round.
const JOBS: usize = 200;
/// Containers in a round, each of which takes half a second.
const CONTAINERS: usize = 8;
/// Rounds of both.
const ROUNDS: usize = 3;
/// How much less is done for a quick look.
const QUICK: usize = 8;
/// What lies between two jobs, so that nothing of the last one is left to do.
const REST: Duration = Duration::from_millis(3);
/// The smallest module there is.
const MODULE: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// One kind of work.
struct Kind {
    name: &'static str,
    /// How a job is asked for on the command line.
    options: Vec<String>,
    jobs: usize,
}

impl Kind {
    fn new(name: &'static str, options: &[&str]) -> Self {
        Self { name, options: options.iter().map(|word| (*word).to_owned()).collect(), jobs: JOBS }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let share = if arguments.iter().any(|word| word == "--quick") { QUICK } else { 1 };
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let (server, engine) = (provider(), podman());
    let node = bench.node_with("a", 1, &tables(&server, engine.as_deref()));
    node.up();
    println!("{}. fsync: every commit (synchronous=FULL).\n", machine());
    println!("| a job | submit to done | one that does nothing | more | ratio |");
    println!("|---|---:|---:|---:|---:|");
    for kind in kinds(&node, &server, engine.is_some()) {
        if wanted.is_empty() || wanted.iter().any(|word| kind.name.contains(word.as_str())) {
            measure(&node, &kind, share);
        }
    }
}

/// What the node must know of the server and the container engine.
fn tables(server: &Server, engine: Option<&Podman>) -> String {
    let url = server.url("/v1/");
    let asked = format!(
        "[http]\nallow = [\"127.0.0.0/8\"]\n[providers.here]\nkind = \"openai\"\nbase_url = \"{url}\"\n\
         [models.small]\nprovider = \"here\"\nmodel = \"small\"\n\
         [models.vectors]\nprovider = \"here\"\nmodel = \"small\"\nkind = \"embedding\"\n"
    );
    engine.map_or(asked.clone(), |engine| {
        format!("{asked}[container]\nsocket = \"{}\"\nallow = [\"localhost/*\"]\n", engine.socket().display())
    })
}

fn kinds(node: &Node, server: &Server, has_containers: bool) -> Vec<Kind> {
    let (module, page) = (node.file("nothing.wat", MODULE), server.url("/"));
    let mut kinds = vec![
        Kind::new("process", &["--", "true"]),
        Kind::new("process, sandboxed", &["--isolation", "sandboxed", "--", "true"]),
        Kind::new("wasm", &["--wasm", &module]),
        Kind::new("lua", &["--lua-script", "return nil"]),
        Kind::new("http", &["--http", &page]),
        Kind::new("llm", &["--llm", "hello?", "--model", "small"]),
        Kind::new("embedding", &["--embed", "hello", "--model", "vectors"]),
    ];
    if has_containers {
        kinds.push(Kind {
            jobs: CONTAINERS,
            ..Kind::new("container", &["--container", IMAGE, "--isolation", "contained", "--", "true"])
        });
    }
    kinds
}

fn measure(node: &Node, kind: &Kind, share: usize) {
    let (mut api, request) = (node.api(), request(node, kind));
    let nothing = json!({"spec": {"job_type": "noop", "task": {"noop": {}}, "scope": "local"}});
    let jobs = (kind.jobs / share).max(2);
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.extend((0..jobs).map(|_| submit_to_done(&mut api, &nothing)));
        ours.extend((0..jobs).map(|_| submit_to_done(&mut api, &request)));
    }
    let (ours, floor) = (median(ours), median(floors));
    let (more, ratio) = (words(ours.saturating_sub(floor)), ours.as_secs_f64() / floor.as_secs_f64());
    println!("| {} | {} | {} | {more} | {ratio:.2} |", kind.name, words(ours), words(floor));
}

/// What submits a job of a kind once more. The first one, which pays for what is set up once, was submitted by a command
/// and has ended well.
fn request(node: &Node, kind: &Kind) -> Value {
    let options: Vec<&str> = kind.options.iter().map(String::as_str).collect();
    let shown = node.ended(&node.submit(&options));
    assert_eq!(shown["job"]["state"], "completed", "{}: {shown}", kind.name);
    json!({"spec": shown["spec"]})
}

fn submit_to_done(api: &mut Api, request: &Value) -> Duration {
    std::thread::sleep(REST);
    let mut ended = Value::Null;
    let time = timed(|| {
        let submitted = api.ask("POST", "/v1/jobs", Some(request)).json();
        let number = submitted["number"].as_u64().unwrap();
        ended = api.ask("GET", &format!("/v1/jobs/{number}/wait"), None).json();
    });
    assert_eq!(ended["job"]["state"], "completed", "{ended}");
    time
}
