//! Jobs that wait for others, across submits.

use crate::{bench, kinds, node, refused};

#[test]
fn a_job_waits_for_the_end_that_it_was_told_to_wait_for() {
    let bench = bench();
    let node = node(&bench, "");
    let good = node.submit(&["--hold", "--", "true"]);
    let bad = node.submit(&["--hold", "--", "false"]);
    let cases = [
        (&good, "", "completed"),
        (&good, ":ok", "completed"),
        (&good, ":done", "completed"),
        (&good, ":failed", "skipped"),
        (&bad, "", "skipped"),
        (&bad, ":ok", "skipped"),
        (&bad, ":done", "completed"),
        (&bad, ":failed", "completed"),
    ];
    let waiting = cases.map(|(on, how, state)| (node.submit(&["--after", &format!("{on}{how}"), "--", "true"]), state));
    for (job, _) in &waiting {
        assert_eq!((node.state(job).as_str(), kinds(&node, job)), ("pending", vec!["dependency".to_owned()]));
    }
    assert_eq!(node.run(&["release", &good, &bad]).code, 0);
    for (job, state) in &waiting {
        let shown = node.ended(job);
        assert_eq!(shown["job"]["state"], *state, "{shown}");
        if *state == "skipped" {
            assert_eq!(shown["job"]["finish_reason"], "upstream_failed", "{shown}");
        }
    }
}

#[test]
fn the_rule_says_how_many_of_them_must_end_how() {
    let bench = bench();
    let node = node(&bench, "");
    let good = node.submit(&["--hold", "--", "true"]);
    let bad = node.submit(&["--hold", "--", "false"]);
    let both = format!("{good},{bad}");
    let cases = [
        ("all_success", "skipped"),
        ("all_done", "completed"),
        ("any_success", "completed"),
        ("none_failed", "skipped"),
    ];
    let waiting =
        cases.map(|(rule, state)| (node.submit(&["--after", &both, "--after-rule", rule, "--", "true"]), state));
    let always = node.submit(&["--after", &both, "--after-rule", "always", "--", "true"]);
    node.wait_for(&[always]);
    assert_eq!(node.run(&["release", &good, &bad]).code, 0);
    for ((job, state), (rule, _)) in waiting.iter().zip(cases) {
        assert_eq!(node.ended(job)["job"]["state"], *state, "{rule}");
    }
}

#[test]
fn a_chain_goes_on_over_a_restart_and_breaks_at_its_first_failure() {
    let bench = bench();
    let node = node(&bench, "");
    let first = node.submit(&["--hold", "--", "true"]);
    let second = node.submit(&["--after", "last", "--", "false"]);
    let third = node.submit(&["--after", "last", "--", "true"]);
    node.kill();
    node.up();
    assert_eq!(node.run(&["release", &first]).code, 0);
    assert_eq!(node.run(&["wait", &first, &second, &third, "--timeout", "60s"]).code, 1);
    assert_eq!((node.state(&second).as_str(), node.state(&third).as_str()), ("discarded", "skipped"));
}

#[test]
fn waiting_for_a_job_that_has_ended_or_never_was() {
    let bench = bench();
    let node = node(&bench, "");
    let ended = node.submit(&["--", "true"]);
    node.wait_for(std::slice::from_ref(&ended));
    node.wait_for(&[node.submit(&["--after", &ended, "--", "true"])]);
    let late = node.submit(&["--after", &format!("{ended}:failed"), "--", "true"]);
    assert_eq!(node.ended(&late)["job"]["state"], "skipped");
    let refusal = refused(&node, 2, &["submit", "--after", "99", "--", "true"]);
    assert!(refusal.contains("no job 99"), "{refusal}");
    let refusal = refused(&node, 2, &["submit", "--after", "1:perhaps", "--", "true"]);
    assert!(refusal.contains(":failed"), "{refusal}");
}
