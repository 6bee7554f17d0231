//! What a person does to jobs that are there.

use jobmesh_tests::Gate;

use crate::{bench, kinds, node, obey, reasons, refused};

#[test]
fn a_held_job_waits_until_it_is_released() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--delay", "1h", "--", "true"]);
    assert_eq!(node.run(&["hold", &job, "--reason", "not today"]).code, 0);
    assert_eq!(node.run(&["reschedule", "--at", "now", &job]).code, 0);
    let held = &reasons(&node, &job)[0];
    assert!(held["kind"] == "held" && held["words"].as_str().unwrap().contains("not today"), "{held}");
    obey(&node, held);
    node.wait_for(&[job]);
}

#[test]
fn a_time_is_moved_forth_and_back_and_its_remedy_starts_the_job_now() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--delay", "1h", "--", "true"]);
    let run_at = || node.job(&job)["run_at"].as_u64().unwrap();
    let first = run_at();
    assert_eq!(node.run(&["snooze", &job, "2h"]).code, 0);
    assert!(run_at() > first);
    assert_eq!(node.run(&["reschedule", "--at", "2200-01-01T00:00:00Z", &job]).code, 0);
    assert_eq!(run_at(), 7_258_118_400_000);
    assert_eq!(kinds(&node, &job), ["time"]);
    obey(&node, &reasons(&node, &job)[0]);
    node.wait_for(&[job]);
}

#[test]
fn priorities_and_queues_are_changed() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--hold", "--", "true"]);
    assert_eq!(node.run(&["prio", "-7", &job]).code, 0);
    assert_eq!(node.run(&["move", &job, "--to", "elsewhere"]).code, 0);
    let shown = node.job(&job);
    assert_eq!((&shown["priority"], &shown["queue"]), (&(-7).into(), &"elsewhere".into()));
    assert_eq!(node.run(&["release", &job]).code, 0);
    node.wait_for(&[job]);
}

#[test]
fn a_cancel_reaches_jobs_in_every_place() {
    let bench = bench();
    let node = node(&bench, "");
    let gate = Gate::new(bench.folder(), "gate");
    let running = node.submit(&["--", "cat", gate.path()]);
    let scheduled = node.submit(&["--delay", "1h", "--", "true"]);
    let held = node.submit(&["--hold", "--", "true"]);
    let pending = node.submit(&["--after", &running, "--", "true"]);
    let array = node.submit(&["--hold", "--array", "1-1000000", "--", "true"]);
    let jobs = [running, scheduled, held, pending, array];
    let words: Vec<&str> =
        ["cancel", "--reason", "enough"].into_iter().chain(jobs.iter().map(String::as_str)).collect();
    assert_eq!(node.run(&words).code, 0);
    for job in &jobs {
        let shown = node.ended(job);
        assert_eq!((&shown["job"]["state"], &shown["job"]["cancel_reason"]), (&"cancelled".into(), &"enough".into()));
    }
}

#[test]
fn all_means_those_that_it_can_be_done_to() {
    // `cancel all` tried jobs that had ended, too, and failed for them.
    let bench = bench();
    let node = node(&bench, "");
    let done = node.submit(&["--", "true"]);
    node.wait_for(std::slice::from_ref(&done));
    let held = node.submit(&["--hold", "--", "true"]);
    let other = node.submit(&["--hold", "--", "true"]);
    let refusal = refused(&node, 2, &["cancel", "all"]);
    assert!(refusal.contains("cancel 2 jobs") && refusal.contains("--yes"), "{refusal}");
    let run = node.run(&["cancel", "all", "--yes"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!([&held, &other, &done].map(|job| node.state(job)), ["cancelled", "cancelled", "completed"]);
    let refusal = refused(&node, 2, &["cancel", &done]);
    assert!(refusal.contains("has not ended"), "{refusal}");
    refused(&node, 2, &["cancel"]);
}

#[test]
fn what_has_ended_is_deleted_by_name_and_by_age() {
    let bench = bench();
    let node = node(&bench, "");
    let jobs: Vec<String> = (0..4).map(|_| node.submit(&["--", "true"])).collect();
    node.wait_for(&jobs);
    assert_eq!(node.run(&["rm", &jobs[0]]).code, 0);
    let refusal = refused(&node, 2, &["show", &jobs[0]]);
    assert!(refusal.contains(&jobs[0]), "{refusal}");
    let live = node.submit(&["--hold", "--", "true"]);
    let refusal = refused(&node, 2, &["rm", &live]);
    assert!(refusal.contains("cancel it first"), "{refusal}");
    let refusal = refused(&node, 2, &["prune", "--older", "0s"]);
    assert!(refusal.contains("--yes"), "{refusal}");
    assert_eq!(node.json(&["prune", "--older", "0s", "--yes"])["jobs"], 3);
    assert_eq!(node.listed(&["-a"]), [live]);
}

#[test]
fn nothing_that_was_kept_by_its_own_wish_is_pruned() {
    let bench = bench();
    let node = node(&bench, "[retention]\ncompleted = \"1s\"\n");
    let kept = node.submit(&["--keep", "365d", "--", "true"]);
    let brief = node.submit(&["--", "true"]);
    node.wait_for(&[kept.clone(), brief.clone()]);
    crate::until_clock(node.job(&brief)["finished_at"].as_u64().unwrap() + 1000);
    assert_eq!(node.json(&["prune"])["jobs"], 1);
    assert_eq!(node.listed(&["-a"]), [kept]);
}
