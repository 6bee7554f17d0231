//! Which jobs a command means, and waiting for them.

use jobmesh_tests::{Gate, Node};

use crate::{bench, node, refused};

/// Held jobs 1 to 4 with labels, and a completed one, 5.
fn some(node: &Node) {
    for (queue, label) in [("a", "of=x"), ("a", "of=y"), ("b", "of=x"), ("b", "of=y")] {
        let _: String = node.submit(&["--hold", "-Q", queue, "--label", label, "--name", "sheep", "--", "true"]);
    }
    node.wait_for(&[node.submit(&["--type", "goat", "--", "true"])]);
}

#[test]
fn jobs_are_meant_by_number_range_place_and_likeness() {
    let bench = bench();
    let node = node(&bench, "");
    some(&node);
    for (words, numbers) in [
        (&["2"][..], "2"),
        (&["1,3-4"], "4 3 1"),
        (&["last"], "5"),
        (&["all"], "5 4 3 2 1"),
        (&["--label", "of=x"], "3 1"),
        (&["--label", "of=x", "-Q", "a"], "1"),
        (&["--state", "completed,discarded"], "5"),
        (&["--name", "sheep", "-n", "2"], "4 3"),
        (&["--type", "goat"], "5"),
        (&["--live"], "4 3 2 1"),
        (&["--since", "1h", "1-2"], "2 1"),
        (&["--since", "0s"], ""),
    ] {
        assert_eq!(node.listed(words).join(" "), numbers, "{words:?}");
    }
    let refusal = refused(&node, 2, &["ls", "first"]);
    assert!(refusal.contains("42.3-9"), "{refusal}");
    let refusal = refused(&node, 2, &["ls", "--state", "asleep"]);
    assert!(refusal.contains("available"), "{refusal}");
}

#[test]
fn a_wait_ends_as_the_worst_the_first_or_none_of_them() {
    let bench = bench();
    let node = node(&bench, "");
    let gate = Gate::new(bench.folder(), "gate");
    let good = node.submit(&["--", "cat", gate.path()]);
    let bad = node.submit(&["--", "false"]);
    let code = |words: &[&str]| node.run(&[&["wait", "--timeout", "60s"], words].concat()).code;
    assert_eq!(code(&[&good, &bad, "--any"]), 1);
    let waiting = node.spawn(&["wait", &good, &bad, "--timeout", "60s", "--exit-code", "first"]);
    gate.open();
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(code(&[&good]), 0);
    assert_eq!(code(&[&good, &bad]), 1);
    assert_eq!(code(&[&good, &bad, "--exit-code", "zero"]), 0);
    assert_eq!(node.run(&["wait", &bad, "--timeout", "0s"]).code, 1, "what has ended is told however short the time");
    let held = node.submit(&["--hold", "--", "true"]);
    assert_eq!(node.run(&["wait", &held, "--timeout", "0s"]).code, 124);
    assert_eq!(node.run(&["wait", &held, "--timeout", "1ms"]).code, 124);
    assert_eq!(node.run(&["cancel", &held]).code, 0);
    assert_eq!(code(&[&held]), 3);
    refused(&node, 2, &["wait"]);
}

#[test]
fn tasks_of_the_last_job_are_named_by_it() {
    let bench = bench();
    let node = node(&bench, "");
    let array = node.submit(&["--array", "1-4", "--", "sh", "-c", "echo $JOBMESH_ARRAY_INDEX"]);
    node.wait_for(&[array]);
    assert_eq!(node.wrote("last.3"), "3\n");
    assert_eq!(node.listed(&["last.2-3"]), ["1.3", "1.2"]);
    assert_eq!(node.listed(&["last", "--tasks"]), ["1.4", "1.3", "1.2", "1.1", "1"]);
    assert_eq!(node.run(&["show", "last.2", "-q"]).text(), "1.2\n");
    let refusal = refused(&node, 2, &["show", "last.9"]);
    assert!(refusal.contains("no task 1.9"), "{refusal}");
}

#[test]
fn a_shell_is_offered_the_names_that_there_are() {
    let bench = bench();
    let node = node(&bench, "");
    some(&node);
    let offered = |kind: &str| node.run(&["__complete", kind]).text();
    assert!(offered("jobs").lines().any(|line| line.starts_with("3\t")), "{}", offered("jobs"));
    assert!(offered("queues").lines().any(|line| line.starts_with("a\t")), "{}", offered("queues"));
    assert!(offered("schedules").lines().any(|line| line.starts_with("retention\t")), "{}", offered("schedules"));
    for shell in ["bash", "zsh", "fish"] {
        let script = node.run(&["completions", shell]);
        assert!(script.code == 0 && script.text().contains("__complete"), "{shell}: {}", script.stderr);
    }
}
