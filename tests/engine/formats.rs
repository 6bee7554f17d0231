//! What the commands write: for people, for programs, and as it happens.

use std::io::{BufRead as _, BufReader};

use jobmesh_tests::{Node, Value};

use crate::{bench, node, refused};

fn two_jobs(node: &Node) -> [String; 2] {
    let jobs = ["one", "two"].map(|word| node.submit(&["--", "echo", word]));
    node.wait_for(&jobs);
    jobs
}

#[test]
fn one_list_in_every_format() {
    let bench = bench();
    let node = node(&bench, "");
    let [first, second] = two_jobs(&node);
    let text = |format: &str| node.run(&["ls", "-o", format]).text();
    assert_eq!(text("name"), format!("{second}\n{first}\n"));
    let document: Value = serde_json_of(&text("json"));
    assert_eq!(document["jobs"].as_array().unwrap().len(), 2);
    let lines: Vec<Value> = text("jsonl").lines().map(serde_json_of).collect();
    assert_eq!(lines.as_slice(), document["jobs"].as_array().unwrap().as_slice());
    assert!(text("yaml").starts_with("jobs:\n  - "), "{}", text("yaml"));
    assert!(text("table").starts_with("JOB"), "{}", text("table"));
    assert!(text("wide").lines().next().unwrap().contains("LABELS"));
}

fn serde_json_of(text: &str) -> Value {
    text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn quiet_is_names_and_nothing_beside_them() {
    let bench = bench();
    let node = node(&bench, "");
    let [_, second] = two_jobs(&node);
    let run = node.run(&["ls", "-q", "-n", "1"]);
    assert_eq!((run.text(), run.stderr.as_str()), (format!("{second}\n"), ""));
    let run = node.run(&["ls", "-n", "1"]);
    assert!(run.stderr.contains("there are more"), "{}", run.stderr);
    let run = node.run(&["submit", "-q", "--", "true"]);
    assert_eq!((run.text().as_str(), run.stderr.as_str()), ("3\n", ""));
}

#[test]
fn the_environment_may_say_the_format_and_the_command_line_wins() {
    let bench = bench();
    let node = node(&bench, "");
    let ls = |arguments: &[&str]| {
        let output = node.command(arguments).env("JOBMESH_OUTPUT", "jsonl").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let [first, _] = two_jobs(&node);
    assert!(ls(&["ls", &first]).starts_with("{\"id\""));
    assert_eq!(ls(&["ls", &first, "-o", "name"]), format!("{first}\n"));
}

#[test]
fn an_error_for_a_program_is_a_document() {
    let bench = bench();
    let node = node(&bench, "");
    let run = node.run(&["show", "77", "--json"]);
    let error: Value = serde_json_of(&run.stderr);
    assert_eq!((run.code, &error["error"]["code"]), (2, &"not_found".into()), "{error}");
    assert!(error["error"]["hint"].is_string(), "{error}");
}

#[test]
fn events_are_told_in_order_and_from_where_one_left_off() {
    let bench = bench();
    let node = node(&bench, "");
    let [first, _] = two_jobs(&node);
    let events = |from: &str| -> Vec<Value> {
        let run = node.run(&["events", "--from", from, "-o", "jsonl"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.text().lines().map(serde_json_of).collect()
    };
    let all = events("0");
    assert_eq!(node.json(&["events", "--from", "0"])["events"].as_array().unwrap(), &all);
    let yaml = node.run(&["events", "--from", "0", "-o", "yaml"]).text();
    assert!(yaml.starts_with("events:\n"), "{yaml}");
    let of_first: Vec<&Value> = all.iter().filter(|event| event["number"].as_u64() == first.parse().ok()).collect();
    let states: Vec<&str> = of_first.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["available", "running", "completed"]);
    let numbers: Vec<u64> = all.iter().map(|event| event["event"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(events(&numbers[1].to_string()), all[2..]);
}

/// They wrote bytes, or lines, where one document was wanted.
#[test]
fn logs_and_results_are_documents_for_a_program() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--", "sh", "-c", "echo out; echo err >&2; printf '{\"n\": 1.10}' > $JOBMESH_RESULT"]);
    let silent = node.submit(&["--", "true"]);
    node.wait_for(&[job.clone(), silent.clone()]);
    let logs = node.json(&["logs", &job]);
    let mut texts: Vec<&str> =
        logs["lines"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["err\n", "out\n"], "{logs}");
    assert_eq!(node.json(&["logs", &silent])["lines"].as_array().unwrap().len(), 0);
    assert_eq!(node.run(&["logs", &job, "-o", "jsonl"]).text().lines().count(), 2);
    let result = node.run(&["result", &job, "-o", "jsonl"]).text();
    assert!(result.ends_with("\"encoding\":\"json\",\"result\":{\"n\":1.10}}\n"), "{result}");
    assert_eq!(node.run(&["result", &job]).text(), "{\"n\": 1.10}");
}

/// The shell's tools take such words for options, and so did we: "use -- -5".
#[test]
fn what_begins_with_a_hyphen_is_read_where_it_makes_sense_and_named_where_not() {
    let bench = bench();
    let node = node(&bench, "");
    let program = env!("CARGO_BIN_EXE_jobmesh");
    let script = format!("{program} task notify -x && {program} task checkpoint set a -5 && {program} task result -5");
    let job = node.submit(&["--", "sh", "-c", &script]);
    assert_eq!(node.ended(&job)["job"]["state"], "completed");
    assert_eq!(node.run(&["result", &job]).text(), "-5");
    for arguments in [
        &["submit", "--cpus", "-1", "--", "true"][..],
        &["submit", "--mem", "-1", "--", "true"],
        &["submit", "--delay", "-1h", "--", "true"],
        &["ls", "--since", "-1h"],
        &["snooze", &job, "-1s"],
    ] {
        let said = refused(&node, 2, arguments);
        assert!(said.contains("below zero") && !said.contains("use '--"), "{said}");
    }
    for (arguments, word) in [
        (&["submit", "-q", "--dry-run", "--mem", "none", "--gpus", "none", "--", "true"][..], "start\n"),
        (&["submit", "-q", "--dry-run", "--hold", "--", "true"], "wait\n"),
        (&["explain", "last", "-q"], "1\n"),
    ] {
        assert_eq!(node.run(arguments).text(), word, "{arguments:?}");
    }
}

#[test]
fn a_watched_list_is_written_again_when_something_changes() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--hold", "--", "true"]);
    let mut watching = node.spawn(&["ls", "--watch", "-o", "jsonl"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let shown = serde_json_of(&lines.next().unwrap().unwrap());
    assert_eq!(shown["state"], "available");
    assert_eq!(node.run(&["release", &job]).code, 0);
    let completed = lines.map(|line| serde_json_of(&line.unwrap())).find(|shown| shown["state"] == "completed");
    assert_eq!(completed.unwrap()["number"].to_string(), job);
    watching.kill().unwrap();
    watching.wait().unwrap();
}

/// Where there was nothing, some lists said so on stdout, and a script took the sentence for a name.
#[test]
fn every_list_has_names_only_and_nothing_where_there_is_nothing() {
    let bench = bench();
    let node = node(&bench, "");
    let nothing = node.file("crontab", b"# nothing\n");
    for (command, is_empty) in [
        (&["ls"][..], true),
        (&["ls", "-a", "--state", "discarded"], true),
        (&["dead", "ls"], true),
        (&["peers"], true),
        (&["import", "crontab", &nothing], true),
        (&["hold", "all", "--yes"], true),
        (&["queue", "ls"], false),
        (&["cron", "ls"], false),
        (&["types", "ls"], false),
        (&["capability", "ls"], false),
        (&["metrics"], false),
        (&["learn"], false),
        (&["events"], false),
        (&["config", "show"], false),
    ] {
        for names in [&["-q"][..], &["-o", "name"]] {
            let run = node.run(&[command, names].concat());
            assert_eq!(run.code, 0, "{command:?}: {}", run.stderr);
            let is_name = |line: &str| !line.is_empty() && !line.contains(' ');
            assert!(run.text().lines().all(is_name), "{command:?}: {}", run.text());
            assert!(!is_empty || run.text().is_empty(), "{command:?}: {}", run.text());
        }
        if is_empty && command[0] != "import" {
            let run = node.run(command);
            assert!(run.text().is_empty() && !run.stderr.is_empty(), "{command:?}: {}{}", run.text(), run.stderr);
        }
    }
}
