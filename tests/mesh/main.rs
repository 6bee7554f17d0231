//! Two and three real daemons on loopback: jobs that only another machine can run.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is the failure of the test")]

mod audit;
mod escalation;
mod interpreters;
mod loss;
mod reach;
mod receipt;
mod refusal;
mod remote_logs;
mod secrets;
mod services;
mod transfer;

use jobmesh_tests::{Bench, Node};

/// The binary that ships.
fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// Nodes `a` and `b` of one mesh; only `b` has `tool:gzip`, and runs the jobs of `a` as it would those of any member.
fn pair(bench: &Bench) -> (Node, Node) {
    let b = bench.node_with("b", 2, "[isolation]\nmembers = \"sandboxed\"\n");
    b.up();
    admitted(bench, b)
}

/// The same, but the jobs of `a` see the files by which the test holds them.
fn open_pair(bench: &Bench) -> (Node, Node) {
    let b = bench.up("b");
    admitted(bench, b)
}

fn admitted(bench: &Bench, b: Node) -> (Node, Node) {
    let a = bench.up("a");
    a.admit(&b);
    assert_eq!(a.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(b.run(&["capability", "add", "tool:gzip"]).code, 0);
    (a, b)
}
