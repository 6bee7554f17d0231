//! Where a job may come from: a script that says itself how to run it, a file, or lines that are read.

use std::io::Write as _;
use std::process::Stdio;

use jobmesh_tests::{Node, Run, Value, json};

use crate::{bench, node, refused};

/// Runs a command that reads this.
fn fed(node: &Node, arguments: &[&str], input: &str) -> Run {
    let mut command = node.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_script_says_how_it_wants_to_be_run() {
    let bench = bench();
    let node = node(&bench, "");
    let text = b"#!/bin/sh\n#JM --name 'nightly build' -p 3\n#JM --env GREETING=hello\necho $GREETING $1\n#JM -p 9\n";
    let script = node.file("build.sh", text);
    let job = node.submit(&[&script, "world", "--label", "of=x"]);
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["name"], &shown["job"]["priority"]), (&"nightly build".into(), &3.into()), "{shown}");
    assert_eq!(node.wrote(&job), "hello world\n");
    let script = node.file("bad.sh", b"#!/bin/sh\n#JM --colour red\n");
    let refusal = refused(&node, 2, &["submit", &script]);
    assert!(refusal.contains("bad.sh line 2") && refusal.contains("--colour"), "{refusal}");
}

#[test]
fn what_a_dry_run_shows_is_a_file_that_can_be_submitted() {
    let bench = bench();
    let node = node(&bench, "");
    let shown = node.json(&["submit", "--dry-run", "--name", "x", "--retries", "3", "--", "echo", "hello"]);
    let file = node.file("job.json", shown["submission"].to_string().as_bytes());
    let job = node.submit(&["-f", &file, "-p", "7"]);
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["name"], &shown["job"]["priority"]), (&"x".into(), &7.into()));
    assert_eq!(shown["spec"]["retry"]["max_attempts"], 4);
    assert_eq!(node.wrote(&job), "hello\n");
}

#[test]
fn a_submission_in_toml_is_read_and_its_mistakes_are_named_by_line() {
    let bench = bench();
    let node = node(&bench, "");
    let text = "[spec]\njob_type = \"x\"\n[spec.task.process]\nargv = [\"echo\", \"toml\"]\n";
    let run = fed(&node, &["submit", "-f", "-"], text);
    assert_eq!((run.code, run.text().as_str()), (0, "1\n"), "{}", run.stderr);
    let run = fed(&node, &["submit", "-f", "-"], &format!("{text}colour = 1\n"));
    assert!(run.code == 2 && run.stderr.contains("line 5") && run.stderr.contains("colour"), "{}", run.stderr);
}

#[test]
fn lines_become_jobs_all_of_them_or_none() {
    let bench = bench();
    let node = node(&bench, "");
    let line =
        |word: &str| json!({"spec": {"job_type": "x", "task": {"process": {"argv": ["echo", word]}}}}).to_string();
    let run = fed(&node, &["submit", "--stdin-jobs"], &format!("{}\n{}\n\n{}\n", line("a"), line("b"), line("c")));
    assert_eq!((run.code, run.text().as_str()), (0, "1-3\n"), "{}", run.stderr);
    node.wait_for(&["1", "2", "3"].map(str::to_owned));
    assert_eq!(node.wrote("3"), "c\n");
    let run = fed(&node, &["submit", "--stdin-jobs"], &format!("{}\n{{}}\n", line("d")));
    assert!(run.code == 2 && run.stderr.contains("line 2"), "{}", run.stderr);
    assert_eq!(node.listed(&["-a"]).len(), 3);
}

#[test]
fn what_a_job_reads_is_kept_with_it() {
    let bench = bench();
    let node = node(&bench, "");
    let file = node.file("input", b"some text");
    let job = node.submit(&["--hold", "--stdin", &file, "--", "cat"]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(node.run(&["release", &job]).code, 0);
    node.wait_for(std::slice::from_ref(&job));
    assert_eq!(node.wrote(&job), "some text");
}

#[test]
fn the_socket_refuses_what_it_does_not_know() {
    let bench = bench();
    let node = node(&bench, "");
    let spec = json!({"job_type": "x", "task": {"noop": {}}});
    for (body, what) in [
        (json!({"spec": spec, "colour": "red"}), "colour"),
        (json!({"spec": {"job_type": "x"}}), "task"),
        (json!({"spec": spec, "start": {"after": -1}}), "-1"),
        (Value::from("text"), "text"),
    ] {
        let (status, answer) = node.ask("POST", "/v1/jobs", &body);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!((400..500).contains(&status) && message.contains(what), "{body}: {status} {answer}");
    }
    let (status, answer) = node.ask("GET", "/v1/nothing", &Value::Null);
    assert_eq!((status, &answer["error"]["code"]), (404, &"not_found".into()), "{answer}");
}
