//! Two and three real daemons on loopback: jobs that only another machine can run.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is the failure of the test")]

mod audit;
mod escalation;
mod loss;
mod reach;
mod receipt;
mod refusal;
mod remote_logs;
mod transfer;

use jobmesh_tests::{Bench, Node};

/// The binary that ships.
fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// Nodes `a` and `b` of one mesh; only `b` has `tool:gzip`.
fn pair(bench: &Bench) -> (Node, Node) {
    let (a, b) = (bench.up("a"), bench.up("b"));
    a.admit(&b);
    assert_eq!(a.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(b.run(&["capability", "add", "tool:gzip"]).code, 0);
    (a, b)
}
