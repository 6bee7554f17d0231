//! Why a job does not run, in words, with what would start it; and the same before it is there.

use jobmesh_tests::{Gate, Value};

use crate::{bench, kinds, node};

#[test]
fn every_reason_is_told_at_once() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 1\nrate = \"1/1h\"\n");
    let gate = Gate::new(bench.folder(), "gate");
    let first = node.submit(&["-Q", "q", "--concurrency-key", "k:1", "--", "cat", gate.path()]);
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let job = node.submit(&["-Q", "q", "--concurrency-key", "k:1", "--cpus", "8", "--", "true"]);
    let mut found = kinds(&node, &job);
    found.sort();
    assert_eq!(found, ["key_full", "no_room", "paused", "queue_full", "rate"]);
    let text = node.run(&["explain", &job]).text();
    assert!(text.contains("what would help: `jobmesh queue resume q`"), "{text}");
    gate.open();
    node.wait_for(&[first]);
}

#[test]
fn what_is_ahead_is_counted() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let jobs: Vec<String> = (0..3).map(|_| node.submit(&["-Q", "q", "--", "true"])).collect();
    let text = |job: &str| node.run(&["explain", job]).text();
    assert!(!text(&jobs[0]).contains("ahead"), "{}", text(&jobs[0]));
    assert!(text(&jobs[1]).contains("1 job like it is ahead"), "{}", text(&jobs[1]));
    assert!(text(&jobs[2]).contains("2 jobs like it are ahead"), "{}", text(&jobs[2]));
}

#[test]
fn every_slot_in_use_is_a_reason() {
    let bench = bench();
    let node = bench.node_with("a", 1, &crate::resources(""));
    node.up();
    let gate = Gate::new(bench.folder(), "gate");
    let first = node.submit(&["--", "cat", gate.path()]);
    let second = node.submit(&["--cpus", "none", "--", "true"]);
    assert_eq!(kinds(&node, &second), ["no_slot"]);
    gate.open();
    node.wait_for(&[first, second]);
}

#[test]
fn a_dry_run_tells_the_reasons_of_a_job_that_is_not_queued() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let plan =
        |options: &[&str]| node.json(&[&["submit", "--dry-run"], options, &["--", "true"]].concat())["plan"].take();
    let kinds = |plan: &Value| -> Vec<String> {
        plan["reasons"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&plan(&["-Q", "q"])), ["paused"]);
    assert_eq!(kinds(&plan(&["--cpus", "99"])), ["incapable"]);
    assert_eq!(kinds(&plan(&["--hold"])), ["held"]);
    assert_eq!(kinds(&plan(&["--delay", "1h"])), ["time"]);
    let free = plan(&[]);
    assert_eq!((kinds(&free).len(), &free["summary"]), (0, &"is about to start".into()));
    assert!(node.listed(&["-a"]).is_empty());
}

#[test]
fn what_has_ended_is_explained_too() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--", "sh", "-c", "exit 7"]);
    assert_eq!(node.ended(&job)["job"]["state"], "discarded");
    let text = node.run(&["explain", &job]).text();
    assert!(text.contains("was discarded") && text.contains("exit code 7"), "{text}");
}
