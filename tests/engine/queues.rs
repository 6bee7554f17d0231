//! Queues: how many of their jobs run at once and in a time, in which order, and what a person can do to them.

use jobmesh_tests::{Gate, Node};

use crate::{bench, kinds, node, obey, reasons, refused};

fn gated(node: &Node, gate: &Gate, arguments: &[&str]) -> String {
    node.submit(&[arguments, &["--", "cat", gate.path()]].concat())
}

fn running(node: &Node, queue: &str) -> Vec<String> {
    let mut jobs = node.listed(&["--queue", queue, "--state", "running"]);
    jobs.reverse();
    jobs
}

#[test]
fn a_queue_runs_as_many_at_once_as_its_limit_and_its_remedy_lifts_it() {
    let bench = bench();
    let node = node(&bench, "[queues.slow]\nconcurrency = 2\n");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let jobs = gates.each_ref().map(|gate| gated(&node, gate, &["--queue", "slow"]));
    assert_eq!(running(&node, "slow"), &jobs[..2]);
    let [reason] = &reasons(&node, &jobs[2])[..] else { panic!("one reason") };
    assert_eq!(reason["kind"], "queue_full");
    obey(&node, reason);
    assert_eq!(running(&node, "slow"), &jobs);
    gates.iter().for_each(Gate::open);
    node.wait_for(&jobs);
}

#[test]
fn a_paused_queue_starts_nothing_and_goes_on_when_resumed() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let job = node.submit(&["--queue", "q", "--", "true"]);
    assert_eq!((node.state(&job).as_str(), kinds(&node, &job)), ("available", vec!["paused".to_owned()]));
    assert_eq!(node.json(&["queue", "show", "q"])["mode"], "paused");
    obey(&node, &reasons(&node, &job)[0]);
    node.wait_for(&[job]);
}

#[test]
fn a_draining_queue_takes_nothing_new_and_runs_what_it_has() {
    let bench = bench();
    let node = node(&bench, "");
    let gate = Gate::new(bench.folder(), "gate");
    let first = gated(&node, &gate, &["--queue", "q"]);
    assert_eq!(node.run(&["queue", "drain", "q"]).code, 0);
    let refusal = refused(&node, 2, &["submit", "--queue", "q", "--", "true"]);
    assert!(refusal.contains("draining") && refusal.contains("jobmesh queue resume q"), "{refusal}");
    gate.open();
    node.wait_for(&[first]);
    assert_eq!(node.run(&["queue", "resume", "q"]).code, 0);
    node.wait_for(&[node.submit(&["--queue", "q", "--", "true"])]);
}

#[test]
fn what_is_set_by_hand_holds_over_a_restart_and_until_it_is_reset() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 7\n");
    assert_eq!(node.run(&["queue", "set", "q", "concurrency=3", "rate=60/1m"]).code, 0);
    node.kill();
    node.up();
    let queue = node.json(&["queue", "show", "q"]);
    assert_eq!((&queue["concurrency"], &queue["is_set_by_hand"]), (&3.into(), &true.into()), "{queue}");
    assert_eq!(queue["rate"]["count"], 60);
    assert_eq!(node.run(&["queue", "reset", "q"]).code, 0);
    let queue = node.json(&["queue", "show", "q"]);
    assert_eq!((&queue["concurrency"], &queue["is_set_by_hand"]), (&7.into(), &false.into()), "{queue}");
    assert!(queue["rate"].is_null());
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_with_the_command_that_was_meant() {
    let bench = bench();
    let node = node(&bench, "");
    let refusal = refused(&node, 2, &["queue", "set", "q", "concurrency=0"]);
    assert!(refusal.contains("jobmesh queue pause"), "{refusal}");
    for (limits, why) in [
        (&["concurrency=4294967295"][..], "at most 1000000"),
        (&["rate=1/1m", "rate=2/1m"], "twice"),
        (&["speed=9"], "concurrency=4 and rate=60/1m"),
    ] {
        let refusal = refused(&node, 2, &[&["queue", "set", "q"], limits].concat());
        assert!(refusal.contains(why), "{refusal}");
    }
    let refusal = refused(&node, 2, &["queue", "set", "q", "speed=9"]);
    assert!(refusal.contains("concurrency=4 and rate=60/1m"), "{refusal}");
    let refusal = refused(&node, 2, &["queue", "show", "q"]);
    assert!(refusal.contains("jobmesh queue ls"), "{refusal}");
}

#[test]
fn a_queue_that_nothing_is_of_may_be_a_slip() {
    let bench = bench();
    let node = node(&bench, "");
    let paused = node.run(&["queue", "pause", "defualt"]);
    assert_eq!(paused.code, 0);
    assert!(paused.stderr.contains("defualt"), "{}", paused.stderr);
    let resumed = node.run(&["queue", "resume", "defualt"]);
    assert_eq!((resumed.code, resumed.stderr.as_str()), (0, ""), "it is known by now");
}

#[test]
fn a_concurrency_key_limits_its_own_jobs_only() {
    let bench = bench();
    let node = node(&bench, "");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let first = gated(&node, &gates[0], &["--queue", "q", "--concurrency-key", "alice:1"]);
    let second = gated(&node, &gates[1], &["--queue", "q", "--concurrency-key", "alice:1"]);
    let other = gated(&node, &gates[2], &["--queue", "q", "--concurrency-key", "bob:1"]);
    assert_eq!(running(&node, "q"), [first.clone(), other.clone()]);
    assert_eq!(kinds(&node, &second), ["key_full"]);
    gates[0].open();
    node.wait_for(&[first]);
    gates[1].open();
    gates[2].open();
    node.wait_for(&[second, other]);
}

#[test]
fn the_keys_of_a_queue_take_turns() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 1\n");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let keys = ["alice:9", "alice:9", "alice:9", "bob:9", "bob:9", "carol:9"];
    let jobs = keys.map(|key| node.submit(&["--queue", "q", "--concurrency-key", key, "--", "true"]));
    assert_eq!(node.run(&["queue", "resume", "q"]).code, 0);
    node.wait_for(&jobs);
    let mut watch = node.watch();
    let started =
        jobs.each_ref().map(|_| watch.until("a start", |event| event["state"] == "running")["number"].to_string());
    let turns = [0, 3, 5, 1, 4, 2].map(|place: usize| jobs[place].clone());
    assert_eq!(started, turns);
}

#[test]
fn higher_priorities_go_first_and_equals_in_the_order_they_came() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 1\n");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let jobs = ["-1", "0", "5", "0", "5"].map(|priority| node.submit(&["-Q", "q", "-p", priority, "--", "true"]));
    assert_eq!(node.run(&["queue", "resume", "q"]).code, 0);
    node.wait_for(&jobs);
    let mut watch = node.watch();
    let started =
        jobs.each_ref().map(|_| watch.until("a start", |event| event["state"] == "running")["number"].to_string());
    assert_eq!(started, [2, 4, 1, 3, 0].map(|place: usize| jobs[place].clone()));
}

#[test]
fn a_rate_limit_is_kept_over_a_crash_of_the_daemon() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nrate = \"1/1h\"\n");
    node.wait_for(&[node.submit(&["--queue", "q", "--", "true"])]);
    node.kill();
    node.up();
    let late = node.submit(&["--queue", "q", "--", "true"]);
    assert_eq!((node.state(&late).as_str(), kinds(&node, &late)), ("available", vec!["rate".to_owned()]));
    assert_eq!(node.run(&["queue", "set", "q", "rate=none"]).code, 0);
    node.wait_for(&[late]);
}

#[test]
fn a_rate_of_a_key_holds_across_queues() {
    let bench = bench();
    let node = node(&bench, "");
    node.wait_for(&[node.submit(&["--queue", "q", "--rate", "api=1/1h", "--", "true"])]);
    let late = node.submit(&["--queue", "r", "--rate", "api=1/1h", "--", "true"]);
    assert_eq!(kinds(&node, &late), ["rate"]);
    node.wait_for(&[node.submit(&["--queue", "q", "--", "true"])]);
}
