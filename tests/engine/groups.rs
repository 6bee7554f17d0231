//! Groups that are open for further tasks.

use crate::{bench, node, refused};

#[test]
fn an_open_group_takes_tasks_until_it_is_closed() {
    let bench = bench();
    let node = node(&bench, "");
    let group = node.submit(&["--open", "--name", "harvest"]);
    let tasks = ["a", "b"].map(|word| node.submit(&["--into", &group, "--", "echo", word]));
    assert_eq!(tasks, [format!("{group}.1"), format!("{group}.2")]);
    node.wait_for(&tasks);
    let counts = node.job(&group)["tasks"].take();
    assert_eq!((&counts["total"], &counts["ended"], &counts["is_open"]), (&2.into(), &2.into(), &true.into()));
    assert_eq!(node.run(&["close", &group]).code, 0);
    node.wait_for(std::slice::from_ref(&group));
    assert_eq!(node.wrote(&tasks[1]), "b\n");
    let refusal = refused(&node, 2, &["submit", "--into", &group, "--", "true"]);
    assert!(refusal.contains("--open"), "{refusal}");
}

#[test]
fn a_group_with_a_failed_task_fails_once_it_is_closed() {
    let bench = bench();
    let node = node(&bench, "");
    let group = node.submit(&["--open"]);
    let bad = node.submit(&["--into", &group, "--", "false"]);
    assert_eq!(node.ended(&bad)["job"]["state"], "discarded");
    assert_eq!(node.run(&["close", &group]).code, 0);
    assert_eq!(node.run(&["wait", &group, "--timeout", "60s"]).code, 1);
}

#[test]
fn what_waits_for_a_group_waits_for_its_last_task() {
    let bench = bench();
    let node = node(&bench, "");
    let group = node.submit(&["--open"]);
    let after = node.submit(&["--after", &group, "--", "true"]);
    node.wait_for(&[node.submit(&["--into", &group, "--", "true"])]);
    assert_eq!(node.state(&after), "pending");
    assert_eq!(node.run(&["close", &group]).code, 0);
    node.wait_for(&[after]);
}
