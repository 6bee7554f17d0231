//! The chains of receipts of two real nodes: the same on both machines, and on a third that knows neither.

use std::process::Stdio;

use jobmesh_tests::Node;
use serde_json::Value;

use crate::{bench, pair};

/// What a node has of the chains with another one, as a file.
fn export(from: &Node, peer: &str) -> Vec<u8> {
    let ran = from.command(&["audit", "export", peer]).stdout(Stdio::piped()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// The chain of b's work for a, in a report of any of them.
fn of_b(report: &Value, b: &str) -> Value {
    let chains = report["chains"].as_array().unwrap();
    chains.iter().find(|chain| chain["executor"] == b).unwrap().clone()
}

#[test]
fn the_receipts_of_two_nodes_are_a_chain_that_anyone_can_check() {
    let bench = bench();
    let (a, b) = pair(&bench);
    for _ in 0..3 {
        let run = a.run(&["run", "--require", "tool:gzip", "--", "echo", "result"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let refused = a.run(&["run", "--require", "tool:gzip", "--", "false"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);

    let checked = a.run(&["audit", "b"]);
    assert_eq!(checked.code, 0, "{}{}", checked.text(), checked.stderr);
    assert!(checked.text().contains("b worked for this node"), "{}", checked.text());
    assert!(checked.text().contains("4, number 1 to 4"), "{}", checked.text());

    let id = b.json(&["status"])["node"].as_str().unwrap().to_owned();
    let of_a = of_b(&a.json(&["audit", &id]), &id);
    assert_eq!((&of_a["receipts"], &of_a["last"]), (&Value::from(4), &Value::from(4)));
    // The countersignature of the last one may still be on its way to b, but the receipts are the same.
    assert_eq!(of_b(&export_report(&bench.node("c"), &export(&b, "a")), &id)["head"], of_a["head"]);

    let file = export(&a, "b");
    let c = bench.node("elsewhere");
    let offline = export_report(&c, &file);
    assert_eq!((of_b(&offline, &id), &offline["is_good"]), (of_a, &Value::from(true)));
    for at in (0..file.len()).step_by(29).chain([file.len() - 1]) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let path = c.file("changed.audit", &changed);
        let bad = c.run(&["audit", &path]);
        assert_eq!(bad.code, 1, "byte {at} was changed and nobody noticed: {}", bad.text());
    }
}

/// What a machine without a node makes of a file.
fn export_report(on: &Node, file: &[u8]) -> Value {
    let path = on.file("receipts.audit", file);
    let ran = on.run(&["audit", &path, "-o", "json"]);
    serde_json::from_str(&ran.text()).unwrap()
}

#[test]
fn who_is_unknown_and_what_is_no_export_is_refused_with_words() {
    let bench = bench();
    let a = bench.up("a");
    let unknown = a.run(&["audit", "nobody"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("this node has met no node called nobody"), "{}", unknown.stderr);
    let path = a.file("no.audit", b"no export");
    let bad = a.run(&["audit", &path]);
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("the file is no export of receipts"), "{}", bad.stderr);
}
