//! When a job may start, has to have started, and has to be over.

use jobmesh_tests::{Gate, Node, json};

use crate::{bench, node, now, refused, resources, until_clock};

#[test]
fn a_delay_is_kept() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--delay", "200ms", "--", "true"]);
    let shown = node.ended(&job);
    let at = |key: &str| shown["job"][key].as_u64().unwrap();
    assert!(at("started_at") >= at("created_at") + 200, "{shown}");
    assert_eq!(shown["events"][0]["state"], "scheduled");
}

#[test]
fn a_job_starts_at_its_time_and_at_once_if_that_is_over() {
    let bench = bench();
    let node = node(&bench, "");
    let later = node.submit(&["--at", "2200-01-01T00:00:00Z", "--", "true"]);
    let job = node.job(&later);
    assert_eq!((&job["state"], &job["run_at"]), (&"scheduled".into(), &7_258_118_400_000_u64.into()));
    node.wait_for(&[node.submit(&["--at", "2020-01-01T00:00:00Z", "--", "true"])]);
    let refusal = refused(&node, 2, &["submit", "--at", "half past", "--", "true"]);
    assert!(refusal.contains("tomorrow 08:00"), "{refusal}");
}

#[test]
fn a_job_that_could_not_start_in_time_is_skipped() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let job = node.submit(&["--queue", "q", "--start-within", "50ms", "--", "true"]);
    assert_eq!(node.run(&["wait", &job, "--timeout", "60s"]).code, 4);
    let job = node.job(&job);
    assert_eq!((&job["state"], &job["finish_reason"]), (&"skipped".into(), &"expired".into()), "{job}");
}

#[test]
fn a_running_job_is_stopped_at_its_deadline_and_is_not_tried_again() {
    let bench = bench();
    let node = node(&bench, "");
    let spec = json!({"job_type": "sleep", "task": {"process": {"argv": ["sleep", "1000"]}},
                      "retry": {"max_attempts": 5, "backoff": {"growth": {"fixed": {"wait_ms": 1}}}}});
    let (status, job) = node.ask("POST", "/v1/jobs", &json!({"spec": spec, "deadline": now() + 400}));
    assert_eq!(status, 200, "{job}");
    let shown = node.ended(&job["number"].to_string());
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!((&shown["job"]["state"], &shown["job"]["finish_reason"]), (&"discarded".into(), &"deadline".into()));
}

#[test]
fn a_job_whose_deadline_has_passed_never_starts() {
    // It was started all the same, since the timer came only after the start.
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--deadline", "2020-01-01T00:00:00Z", "--", "true"]);
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["state"], &shown["job"]["finish_reason"]), (&"skipped".into(), &"deadline".into()));
    assert_eq!(shown["attempts"], json!([]));
    let array = node.submit(&["--array", "1-3", "--deadline", "2020-01-01T00:00:00Z", "--", "true"]);
    assert_eq!(node.ended(&array)["job"]["state"], "skipped");
}

/// A job that lacks something, so that it still waits when the daemon is killed.
fn wait_without(node: &Node, within: u64) -> (String, u64) {
    let spec = json!({"job_type": "true", "task": {"process": {"argv": ["true"]}}, "resources": ["licence=1"]});
    let deadline = now() + within;
    let (status, job) = node.ask("POST", "/v1/jobs", &json!({"spec": spec, "deadline": deadline}));
    if status == 200 {
        return (job["number"].to_string(), deadline);
    }
    panic!("{job}")
}

#[test]
fn a_deadline_that_passes_while_the_daemon_is_down_counts() {
    // A restart began with what could start, and looked at the clock afterwards.
    let bench = bench();
    let node = node(&bench, "");
    let (job, deadline) = wait_without(&node, 300);
    node.kill();
    node.configure(8, &resources("licence = \"sum(1)\"\n"));
    until_clock(deadline);
    node.up();
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["state"], &shown["attempts"]), (&"skipped".into(), &json!([])), "{shown}");
}

#[test]
fn a_timeout_ends_an_attempt_and_a_heartbeat_that_is_missing_does_so_too() {
    let bench = bench();
    let node = node(&bench, "");
    for option in ["--timeout", "--heartbeat"] {
        let job = node.submit(&[option, "100ms", "--", "sleep", "1000"]);
        let shown = node.ended(&job);
        assert_eq!(shown["attempts"][0]["state"], "timed_out", "{option}: {shown}");
        assert_eq!(shown["job"]["state"], "discarded", "{option}");
    }
}

#[test]
fn a_run_that_ends_late_ends_with_the_code_of_a_timeout() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["run", "--timeout", "100ms", "--", "sleep", "1000"]).code, 124);
    let gate = Gate::new(bench.folder(), "gate");
    let job = node.submit(&["--", "cat", gate.path()]);
    assert_eq!(node.run(&["wait", &job, "--timeout", "1ms"]).code, 124);
    gate.open();
    node.wait_for(&[job]);
}

/// One such job kept the daemon from committing the end of any, and one such schedule kept it from starting.
#[test]
fn a_time_beyond_all_sense_is_refused_with_the_option_that_has_it() {
    let bench = bench();
    let node = node(&bench, "");
    for option in ["--keep", "--delay", "--start-within", "--timeout"] {
        let refusal = refused(&node, 2, &["submit", option, "584542046y", "--", "true"]);
        assert!(refusal.contains(option) && refusal.contains("100 years"), "{refusal}");
    }
    let refusal = refused(&node, 2, &["cron", "add", "p", "every 1s", "--delay", "101y", "--", "true"]);
    assert!(refusal.contains("--delay"), "{refusal}");
    let job = node.submit(&["--keep", "99y", "--", "true"]);
    node.wait_for(&[job]);
}
