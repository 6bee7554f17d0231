//! Jobs that come again by the clock.

use crate::{bench, node, refused};

#[test]
fn a_schedule_is_made_shown_and_forgotten() {
    let bench = bench();
    let node = node(&bench, "");
    let run = node.run(&["cron", "add", "early", "0 8 * * *", "--tz", "Europe/Oslo", "-Q", "q", "--", "true"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let shown = node.json(&["cron", "show", "early"]);
    let timing = &shown["schedule"]["timing"];
    assert_eq!((&timing["text"], &timing["zone"]), (&"0 8 * * *".into(), &"Europe/Oslo".into()), "{shown}");
    let next = node.run(&["cron", "next", "early", "-n", "3", "-o", "name"]).text();
    assert_eq!(next.lines().count(), 3);
    assert!(next.lines().all(|line| line.contains("T06:00") || line.contains("T07:00")), "{next}");
    assert!(node.run(&["cron", "ls", "-q"]).text().lines().any(|name| name == "early"));
    assert_eq!(node.run(&["cron", "rm", "early"]).code, 0);
    let refusal = refused(&node, 2, &["cron", "rm", "retention"]);
    assert!(refusal.contains("enabled = false"), "{refusal}");
    let refusal = refused(&node, 2, &["cron", "rm", "early"]);
    assert!(refusal.contains("no schedule \"early\""), "{refusal}");
}

#[test]
fn a_schedule_that_can_never_fire_is_refused() {
    let bench = bench();
    let node = node(&bench, "");
    for (when, why) in
        [("0 0 30 2 *", "never fires"), ("* * *", "3 fields"), ("every 0s", "every"), ("61 * * * *", "61")]
    {
        let refusal = refused(&node, 2, &["cron", "add", "x", when, "--", "true"]);
        assert!(refusal.contains(why), "{when}: {refusal}");
    }
    let refusal = refused(&node, 2, &["cron", "add", "x", "@daily", "--tz", "Europe/Atlantis", "--", "true"]);
    assert!(refusal.contains("Europe/Atlantis"), "{refusal}");
}

#[test]
fn it_fires_by_the_clock_and_not_while_it_is_paused() {
    let bench = bench();
    let node = node(&bench, "");
    let mut watch = node.watch();
    assert_eq!(node.run(&["cron", "add", "often", "every 1s", "--overlap", "allow", "--", "true"]).code, 0);
    for _ in 0..2 {
        watch.until("a job of the schedule", |event| event["state"] == "completed");
    }
    assert_eq!(node.run(&["cron", "pause", "often"]).code, 0);
    let paused = node.json(&["cron", "show", "often"]);
    assert!(paused["is_paused"] == true && paused["next"].is_null(), "{paused}");
    let before = node.listed(&["--schedule", "often", "-a"]);
    assert_eq!(node.run(&["cron", "trigger", "often"]).code, 0);
    let after = node.listed(&["--schedule", "often", "-a"]);
    assert_eq!(after.len(), before.len() + 1, "a trigger is beside the instants, and nothing else came");
    assert_eq!(node.run(&["cron", "resume", "often"]).code, 0);
    watch.until("a job after the pause", |event| {
        event["state"] == "completed" && !after.contains(&event["number"].to_string())
    });
}

#[test]
fn every_instant_is_made_up_for_once_however_often_it_is_asked_for() {
    let bench = bench();
    let node = node(&bench, "");
    let run = node.run(&["cron", "add", "daily", "0 8 * * *", "--overlap", "buffer-all", "--", "true"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let backfill = ["cron", "backfill", "daily", "--from", "2024-01-01T00:00:00Z", "--to", "2024-01-05T00:00:00Z"];
    let refusal = refused(&node, 2, &backfill);
    assert!(refusal.contains("would submit 4 jobs"), "{refusal}");
    assert_eq!(node.json(&[&backfill[..], &["--dry-run"]].concat())["jobs"], 4);
    for count in [4, 0] {
        assert_eq!(node.json(&[&backfill[..], &["--yes"]].concat())["jobs"], count);
        node.kill();
        node.up();
    }
    let jobs = node.listed(&["--schedule", "daily", "-a"]);
    assert_eq!(jobs.len(), 4);
    node.wait_for(&jobs);
}

#[test]
fn a_job_that_still_runs_is_not_overtaken() {
    let bench = bench();
    let node = node(&bench, "");
    let gate = jobmesh_tests::Gate::new(bench.folder(), "gate");
    let mut watch = node.watch();
    assert_eq!(node.run(&["cron", "add", "slow", "every 1s", "--overlap", "skip", "--", "cat", gate.path()]).code, 0);
    let slow = watch.until("the slow job", |event| event["state"] == "running")["number"].to_string();
    assert_eq!(node.run(&["cron", "add", "quick", "every 1s", "--", "true"]).code, 0);
    for _ in 0..2 {
        watch.until("a quick job", |event| event["state"] == "completed");
    }
    assert_eq!(node.listed(&["--schedule", "slow", "-a"]), std::slice::from_ref(&slow));
    assert_eq!(node.run(&["cron", "pause", "slow"]).code, 0);
    gate.open();
    node.wait_for(&[slow]);
}

#[test]
fn a_job_that_was_triggered_belongs_to_its_schedule() {
    // It was submitted without the schedule's name, so that nobody found it by that.
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["cron", "add", "yearly", "@yearly", "--", "true"]).code, 0);
    for _ in 0..2 {
        assert_eq!(node.run(&["cron", "trigger", "yearly"]).code, 0);
    }
    let jobs = node.listed(&["--schedule", "yearly"]);
    assert_eq!(jobs.len(), 2);
    node.wait_for(&jobs);
}
