//! Taking over what other programs' queues hold: the report of a dry run is what happens, nothing runs before it is
//! let, and doing it twice changes nothing.

use std::path::Path;

use jobmesh_tests::{Node, Value};

use crate::{bench, node};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/fixtures");
    folder.join(name).to_string_lossy().into_owned()
}

fn import(node: &Node, source: &[&str], options: &[&str]) -> Value {
    node.json(&[&["import"], source, options].concat())
}

/// What the items of a report become, those of this verdict.
fn becoming(report: &Value, verdict: &str) -> Vec<String> {
    let items = report["items"].as_array().unwrap().iter().filter(|item| item["verdict"] == verdict);
    items.map(|item| item["becomes"].as_str().unwrap().to_owned()).collect()
}

/// The keys of the jobs that were imported, oldest first.
fn imported(node: &Node) -> Vec<String> {
    let jobs = node.json(&["ls", "-a"])["jobs"].take();
    let keys = jobs.as_array().unwrap().iter().rev().filter_map(|job| job["labels"]["import"].as_str());
    keys.map(str::to_owned).collect()
}

#[test]
fn jobs_are_held_as_the_dry_run_said_and_come_once() {
    let bench = bench();
    let node = node(&bench, "");
    let (pueue, oban, map) = (fixture("pueue-4.json"), fixture("oban.jsonl"), fixture("oban-map.toml"));
    for source in [&["pueue", &pueue][..], &["oban", &oban, "--map", &map]] {
        let there = imported(&node);
        let dry = import(&node, source, &["--dry-run"]);
        assert_eq!(imported(&node), there, "a dry run changes nothing");
        assert_eq!(import(&node, source, &[]), dry);
        let (mut new, mut promised) = (imported(&node), becoming(&dry, "job"));
        new.retain(|key| !there.contains(key));
        new.sort();
        promised.sort();
        assert!(!promised.is_empty());
        assert_eq!(new, promised, "{source:?}");
        let everything = node.json(&["ls", "-a"]);
        assert!(everything["jobs"].as_array().unwrap().iter().all(|job| !job["held"].is_null()), "{everything}");
        let again = import(&node, source, &[]);
        assert_eq!((becoming(&again, "job").len(), becoming(&again, "already_there").len()), (0, promised.len()));
        assert_eq!(node.json(&["ls", "-a"]), everything, "{source:?}");
    }
}

#[test]
fn a_crontab_becomes_paused_schedules_as_the_dry_run_said() {
    let bench = bench();
    let node = node(&bench, "");
    let crontab = fixture("crontab");
    let source = ["crontab", &crontab, "--tz", "Europe/Oslo"];
    let before = node.json(&["cron", "ls"]);
    let dry = import(&node, &source, &["--dry-run"]);
    assert_eq!(node.json(&["cron", "ls"]), before);
    assert_eq!(import(&node, &source, &[]), dry);
    let names = becoming(&dry, "schedule");
    assert_eq!(names.len(), 5);
    for name in &names {
        let schedule = node.json(&["cron", "show", name]);
        assert_eq!(schedule["is_paused"], true, "{schedule}");
    }
    let everything = node.json(&["cron", "ls"]);
    let again = import(&node, &source, &[]);
    assert_eq!(becoming(&again, "already_there"), names);
    assert_eq!(node.json(&["cron", "ls"]), everything);
    assert_eq!(node.run(&["cron", "resume", &names[0]]).code, 0);
    assert_eq!(node.json(&["cron", "show", &names[0]])["is_paused"], false);
}

#[test]
fn the_crontab_without_what_was_taken_over_can_be_written() {
    let bench = bench();
    let node = node(&bench, "");
    let path = node.home().join("crontab.new");
    let (crontab, target) = (fixture("crontab"), path.to_string_lossy().into_owned());
    let run = node.run(&["import", "crontab", &crontab, "--commented-out", &target, "--dry-run"]);
    assert!(run.code == 0 && !path.exists(), "{}", run.stderr);
    let run = node.run(&["import", "crontab", &crontab, "--commented-out", &target]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().filter(|line| line.starts_with("#jobmesh#")).count(), 5, "{written}");
}

#[test]
fn what_is_enqueued_runs_in_its_order() {
    let bench = bench();
    let node = node(&bench, "");
    let dump = node.file(
        "oban.jsonl",
        br#"{"id":1,"state":"available","queue":"media","worker":"App.Say","args":{"word":"a b; c"},"attempt":0,"max_attempts":5,"inserted_at":"2025-01-02T10:00:00","scheduled_at":"2025-01-02T10:00:00","priority":0,"tags":[]}
"#,
    );
    let map = node.file("map.toml", b"[\"App.Say\"]\ncommand = [\"echo\", \"{{args.word}}\"]\n");
    let report = import(&node, &["oban", &dump, "--map", &map], &["--enqueue"]);
    assert_eq!(report["totals"]["jobs"], 1, "{report}");
    let jobs = node.listed(&["--queue", "media"]);
    node.wait_for(&jobs);
    assert_eq!(node.wrote(&jobs[0]), "a b; c\n");
}

#[test]
fn a_source_that_is_broken_is_named_with_its_line_and_nothing_is_done() {
    let bench = bench();
    let node = node(&bench, "");
    let crontab = node.file("crontab", b"MAILTO=me\nnonsense\n");
    let run = node.run(&["import", "crontab", &crontab]);
    assert!(run.code == 2 && run.stderr.contains("line 2"), "{}", run.stderr);
    let dump = node.file("oban.jsonl", b"{\"id\":\n");
    let run = node.run(&["import", "oban", &dump]);
    assert!(run.code == 2 && run.stderr.contains("line 1"), "{}", run.stderr);
    assert!(!node.run(&["cron", "ls", "-q"]).text().contains("crontab"));
}
