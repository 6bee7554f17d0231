//! Job types: declared in the configuration, discovered by commands, checked before they become jobs.

use crate::{bench, node, refused, resources};

const GREET: &str = r#"
[job_types.greet]
description = "Says hello"
command = ["printf", "%s:%s", "{{who}}", "{{times}}"]
queue = "greetings"
retries = 2
[job_types.greet.parameters]
who = { type = "string", required = true }
times = { type = "integer", default = 1, min = 1, max = 9 }
"#;

#[test]
fn a_declared_type_is_listed_shown_and_run_with_its_parameters() {
    let bench = bench();
    let node = node(&bench, GREET);
    let all = node.run(&["types", "ls", "-q"]).text();
    for name in ["greet", "download", "scrape", "file-process", "agent-task", "research", "computation", "testing"] {
        assert!(all.lines().any(|line| line == name), "{name}: {all}");
    }
    let shown = node.run(&["types", "show", "greet"]).text();
    assert!(shown.contains("Says hello") && shown.contains("1 to 9"), "{shown}");
    let job = node.submit(&["--type", "greet", "-P", "who=you; rm -rf $HOME", "-P", "times=3"]);
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["queue"], &shown["spec"]["retry"]["max_attempts"]), (&"greetings".into(), &3.into()));
    assert_eq!(node.wrote(&job), "you; rm -rf $HOME:3");
}

#[test]
fn a_parameter_that_makes_no_sense_is_refused_by_name() {
    let bench = bench();
    let node = node(&bench, GREET);
    for (parameters, why) in [
        (&[][..], "needs the parameter who"),
        (&["-P", "who=x", "-P", "times=10"][..], "1 to 9"),
        (&["-P", "who=x", "-P", "times=many"][..], "whole number"),
        (&["-P", "who=x", "-P", "whom=y"][..], "did you mean \"who\""),
    ] {
        let refusal = refused(&node, 2, &[&["submit", "--type", "greet"], parameters].concat());
        assert!(refusal.contains(why), "{parameters:?}: {refusal}");
    }
    let refusal = refused(&node, 2, &["submit", "--type", "gret", "-P", "who=x"]);
    assert!(refusal.contains("did you mean \"greet\""), "{refusal}");
    assert!(node.listed(&[]).is_empty());
}

#[test]
fn a_built_in_type_is_changed_key_by_key_and_disabled() {
    let bench = bench();
    let changes = "[job_types.file-process]\ntimeout = \"7m\"\n[job_types.scrape]\nenabled = false\n";
    let node = node(&bench, changes);
    let text = node.file("text", b"b\na\n");
    let job = node.submit(&["--type", "file-process", "-P", "operation=sort", "-P", &format!("input={text}")]);
    let shown = node.ended(&job);
    assert_eq!((&shown["spec"]["timeout_ms"], &shown["spec"]["retry"]["max_attempts"]), (&420_000.into(), &2.into()));
    assert_eq!(node.wrote(&job), "a\nb\n");
    let refusal = refused(&node, 2, &["submit", "--type", "scrape", "-P", "url=http://localhost/"]);
    assert!(refusal.contains("[job_types.scrape]"), "{refusal}");
}

#[test]
fn the_jobs_of_a_type_begin_with_files_as_they_are_when_each_is_made() {
    let bench = bench();
    let changes = r#"
[job_types.sum]
shell = "cat -- in/table.csv lib/* > sum && cat sum"
inputs = ["{{table}}:in/table.csv", "{{folder}}:lib"]
outputs = ["sum"]
parameters.table = { type = "path", required = true }
parameters.folder = { type = "path", required = true }
"#;
    let node = node(&bench, changes);
    let table = node.file("odd:name.csv", b"one\n");
    let folder = bench.folder().join("library");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a"), b"two\n").unwrap();
    let (given, library) = (format!("table={table}"), format!("folder={}", folder.display()));
    let submit = ["--type", "sum", "-P", &given, "-P", &library];
    let first = node.submit(&[&submit[..], &["--delay", "1h"]].concat());
    std::fs::write(&table, b"three\n").unwrap();
    let second = node.submit(&submit);
    let shown = node.ended(&second);
    assert_eq!(node.wrote(&second), "three\ntwo\n", "{shown}");
    assert_eq!(node.run(&["reschedule", &first, "--at", "now"]).code, 0);
    let shown = node.ended(&first);
    assert_eq!(node.wrote(&first), "one\ntwo\n", "{shown}");
    let kept = node.json(&["artifacts", &first]);
    assert_eq!(kept["artifacts"][0]["path"], "sum", "{kept}");
    let shown = node.run(&["types", "show", "sum"]).text();
    assert!(shown.contains("{{table}}:in/table.csv") && shown.contains("outputs   sum"), "{shown}");
    std::fs::remove_file(&table).unwrap();
    let refusal = refused(&node, 2, &[&["submit"], &submit[..]].concat());
    assert!(refusal.contains("failed to read") && refusal.contains("odd:name.csv"), "{refusal}");
    assert_eq!(node.listed(&[]).len(), 2);
}

#[test]
fn housekeeping_runs_when_it_is_triggered() {
    let bench = bench();
    let node = node(&bench, "[job_types.learning-export]\nenabled = true\n");
    let duties = ["metrics", "retention", "upkeep", "learning-export"];
    for duty in duties {
        let run = node.run(&["cron", "trigger", duty]);
        assert_eq!(run.code, 0, "{duty}: {}", run.stderr);
    }
    let jobs = node.listed(&["--queue", "maintenance"]);
    assert_eq!(jobs.len(), duties.len());
    node.wait_for(&jobs);
}

#[test]
fn housekeeping_that_is_disabled_has_no_schedule() {
    let bench = bench();
    let node = bench.node_with("a", 8, &resources("[job_types.upkeep]\nenabled = false\n"));
    node.up();
    let schedules = node.run(&["cron", "ls", "-q"]).text();
    assert!(!schedules.contains("upkeep") && schedules.contains("retention"), "{schedules}");
}
