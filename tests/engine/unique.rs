//! Jobs of which there may be only one, and submits that are said twice.

use jobmesh_tests::{Node, json};

use crate::{bench, node, refused};

/// A held job with this key.
fn held(node: &Node, unique: &str) -> String {
    node.submit(&["--hold", "--unique", unique, "--", "echo", "first"])
}

#[test]
fn the_second_job_of_a_key_is_answered_by_the_first_until_that_has_ended() {
    let bench = bench();
    let node = node(&bench, "");
    let first = held(&node, "k");
    assert_eq!(node.submit(&["--unique", "k", "--", "true"]), first);
    let said = node.run(&["submit", "--unique", "k", "--", "true"]);
    assert!(said.stderr.contains("there already"), "{}", said.stderr);
    assert_eq!(node.run(&["release", &first]).code, 0);
    node.wait_for(std::slice::from_ref(&first));
    assert_ne!(node.submit(&["--unique", "k", "--", "true"]), first);
}

#[test]
fn a_key_may_refuse_replace_or_merge() {
    let bench = bench();
    let node = node(&bench, "");
    let first = held(&node, "k");
    let refusal = refused(&node, 2, &["submit", "--unique", "k:reject", "--", "true"]);
    assert!(refusal.contains(&format!("job {first}")), "{refusal}");
    let second = held(&node, "k:replace");
    let replaced = node.job(&first);
    assert_eq!((&replaced["state"], &replaced["finish_reason"]), (&"skipped".into(), &"replaced".into()));
    assert_eq!(node.submit(&["--unique", "k:merge", "--", "echo", "second"]), second);
    assert_eq!(node.run(&["release", &second]).code, 0);
    node.wait_for(std::slice::from_ref(&second));
    assert_eq!(node.wrote(&second), "first second\n");
}

#[test]
fn a_throttle_holds_for_its_time_though_the_first_has_ended() {
    // The key was given up when the first job ended, so that a throttle held nothing back.
    let bench = bench();
    let node = node(&bench, "");
    let first = node.submit(&["--unique", "k:throttle=1h", "--", "true"]);
    node.wait_for(std::slice::from_ref(&first));
    assert_eq!(node.submit(&["--unique", "k:throttle=1h", "--", "true"]), first);
    let brief = node.submit(&["--unique", "brief:throttle=1ms", "--", "true"]);
    node.wait_for(std::slice::from_ref(&brief));
    let created = node.job(&brief)["created_at"].as_u64().unwrap();
    crate::until_clock(created + 2);
    assert_ne!(node.submit(&["--unique", "brief:throttle=1ms", "--", "true"]), brief);
}

#[test]
fn a_debounce_waits_from_the_first_on_and_anew_with_each_that_comes() {
    // The first job started at once, so that there was nothing left to put off.
    let bench = bench();
    let node = node(&bench, "");
    let first = node.submit(&["--unique", "k:debounce=1h", "--", "true"]);
    let run_at = |job: &str| node.job(job)["run_at"].as_u64().unwrap();
    let (state, before) = (node.state(&first), run_at(&first));
    assert_eq!(state, "scheduled");
    crate::until_clock(node.job(&first)["created_at"].as_u64().unwrap() + 2);
    assert_eq!(node.submit(&["--unique", "k:debounce=1h", "--", "true"]), first);
    assert!(run_at(&first) > before);
    let brief = node.submit(&["--unique", "brief:debounce=50ms", "--", "true"]);
    node.wait_for(&[brief]);
}

#[test]
fn what_makes_jobs_the_same_and_for_how_long_can_be_said() {
    let bench = bench();
    let node = node(&bench, "");
    let first =
        node.submit(&["--unique-by", "type,label:of", "--unique-for", "retained", "--label", "of=a", "--", "true"]);
    node.wait_for(std::slice::from_ref(&first));
    let again = |label: &str| {
        node.submit(&["--unique-by", "type,label:of", "--unique-for", "retained", "--label", label, "--", "true"])
    };
    assert_eq!(again("of=a"), first);
    assert_ne!(again("of=b"), first);
}

#[test]
fn a_submit_of_the_same_name_is_answered_with_the_first_by_command_and_socket_over_a_restart() {
    let bench = bench();
    let node = node(&bench, "");
    let first = node.submit(&["--idempotency-key", "order-7", "--", "true"]);
    node.wait_for(std::slice::from_ref(&first));
    assert_eq!(node.submit(&["--idempotency-key", "order-7", "--", "false"]), first);
    node.kill();
    node.up();
    let spec = json!({"job_type": "true", "task": {"process": {"argv": ["true"]}}});
    let (status, answer) = node.ask("POST", "/v1/jobs", &json!({"spec": spec, "idempotency_key": "order-7"}));
    assert_eq!((status, answer["number"].to_string(), &answer["is_new"]), (200, first, &false.into()), "{answer}");
    assert_eq!(node.listed(&["-a"]).len(), 1);
}
