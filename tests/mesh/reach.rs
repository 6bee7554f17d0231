//! Nodes that know each other only through a third.

use crate::bench;

#[test]
fn a_job_reaches_a_node_two_hops_away() {
    let bench = bench();
    let (a, b, c) = (bench.up("a"), bench.up("b"), bench.up("c"));
    b.admit(&a);
    b.admit(&c);
    assert_eq!(c.run(&["capability", "add", "gpu:far"]).code, 0);
    let run = a.run(&["run", "--require", "gpu:far", "--", "echo", "far"]);
    assert_eq!((run.code, run.text().as_str()), (0, "far\n"), "{}\n{}", run.stderr, a.log());
    assert_eq!(a.json(&["show", "last"])["attempts"][0]["node"]["name"], "c");
}
