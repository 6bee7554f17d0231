//! What the commands and the control socket promise of the jobs of one node, each promise a test.
//!
//! Jobs that have to be caught while they run wait at a [`jobmesh_tests::Gate`]; what is to happen is waited for by
//! events. Nothing here depends on how fast the machine is, or how many processors it has.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

mod arrays;
mod changes;
mod configuration;
mod dependencies;
mod explanations;
mod files;
mod formats;
mod groups;
mod import;
mod job_types;
mod outcomes;
mod queues;
mod reports;
mod requests;
mod resources;
mod schedules;
mod scripts;
mod selection;
mod sources;
mod times;
mod unique;

use jobmesh_tests::{Bench, Node, Value};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// A running node with room for eight jobs, whatever the machine has. The text that follows begins among its
/// resources.
fn node(bench: &Bench, rest: &str) -> Node {
    let node = bench.node_with("a", 8, &resources(rest));
    node.up();
    node
}

fn resources(rest: &str) -> String {
    format!("[resources]\ncpus = \"range(0-7)\"\n{rest}")
}

/// The reasons why a job does not run, as `explain` gives them.
fn reasons(node: &Node, job: &str) -> Vec<Value> {
    node.json(&["explain", job])["reasons"].as_array().unwrap().clone()
}

/// The kinds of those reasons.
fn kinds(node: &Node, job: &str) -> Vec<String> {
    reasons(node, job).iter().map(|reason| reason["kind"].as_str().unwrap().to_owned()).collect()
}

/// Types the command that a reason names as its remedy.
fn obey(node: &Node, reason: &Value) {
    let remedy = reason["remedy"].as_str().unwrap();
    let line = remedy.split('`').nth(1).unwrap_or_else(|| panic!("{remedy:?} names no command"));
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let run = node.run(&words);
    assert_eq!(run.code, 0, "{line}: {}", run.stderr);
}

/// Runs a command that must be refused with this code, and returns what it says.
fn refused(node: &Node, code: i32, arguments: &[&str]) -> String {
    let run = node.run(arguments);
    assert_eq!(run.code, code, "{arguments:?}: {}{}", run.text(), run.stderr);
    run.stderr
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Comes back when the clock on the wall shows this.
fn until_clock(at: u64) {
    while now() <= at {
        std::thread::yield_now();
    }
}
