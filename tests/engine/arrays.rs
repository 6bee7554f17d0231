//! One submit, many tasks: by number, by line, by value; some at a time; the failed ones again; and what becomes of
//! their results.

use std::io::Write as _;
use std::process::Stdio;

use jobmesh_tests::{Gate, Node};

use crate::{bench, node, refused};

/// Submits an array of what this command reads.
fn read(node: &Node, option: &str, input: &str, script: &str) -> String {
    let mut command = node.command(&["submit", option, "-", "--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

/// What these tasks of an array wrote.
fn wrote<const N: usize>(node: &Node, array: &str, tasks: [u32; N]) -> [String; N] {
    tasks.map(|task| node.wrote(&format!("{array}.{task}")))
}

#[test]
fn tasks_have_their_numbers() {
    let bench = bench();
    let node = node(&bench, "");
    let array = node.submit(&["--array", "5-9:2,20", "--", "sh", "-c", "echo $JOBMESH_ARRAY_INDEX"]);
    node.wait_for(std::slice::from_ref(&array));
    assert_eq!(wrote(&node, &array, [5, 7, 9, 20]), ["5\n", "7\n", "9\n", "20\n"]);
    let counts = node.job(&array)["tasks"].take();
    assert_eq!((&counts["total"], &counts["ended"], &counts["failed"]), (&4.into(), &4.into(), &0.into()));
}

#[test]
fn tasks_have_their_lines_and_values_which_no_shell_reads() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "printf %s \"$JOBMESH_ITEM\"";
    let array = read(&node, "--each-line", "a\n\nb c\n$(true) *\n", script);
    node.wait_for(std::slice::from_ref(&array));
    assert_eq!(wrote(&node, &array, [1, 2, 3]), ["a", "b c", "$(true) *"]);
    let array = read(&node, "--from-json", r#"["text", 7, {"key": [null]}]"#, script);
    node.wait_for(std::slice::from_ref(&array));
    assert_eq!(wrote(&node, &array, [1, 2, 3]), ["text", "7", r#"{"key":[null]}"#]);
}

#[test]
fn only_so_many_tasks_run_at_a_time() {
    let bench = bench();
    let node = node(&bench, "");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let script = format!("cat {}/$JOBMESH_ARRAY_INDEX", bench.folder().display());
    let array = node.submit(&["--array", "1-3%2", "--", "sh", "-c", &script]);
    assert_eq!(node.listed(&["--tasks", "--state", "running", "-a"]).iter().filter(|job| job.contains('.')).count(), 2);
    gates.iter().for_each(Gate::open);
    node.wait_for(&[array]);
}

#[test]
fn the_rest_is_dropped_when_too_many_have_failed() {
    let bench = bench();
    let node = node(&bench, "");
    let array = node.submit(&["--array", "1-100000%1", "--max-fails", "2", "--", "false"]);
    assert_eq!(node.run(&["wait", &array, "--timeout", "60s"]).code, 1);
    let job = node.job(&array);
    let count = |key: &str| job["tasks"][key].as_u64().unwrap();
    assert_eq!((&job["finish_reason"], count("ended")), (&"tasks_failed".into(), 100_000), "{job}");
    assert!((3..100).contains(&count("failed")), "{job}");
    assert_eq!(count("failed") + count("dropped"), 100_000, "{job}");
}

#[test]
fn only_the_tasks_that_failed_are_tried_again() {
    let bench = bench();
    let node = node(&bench, "");
    let flag = bench.folder().join("flag");
    let script = format!("[ $JOBMESH_ARRAY_INDEX != 2 ] || [ -e {} ]", flag.display());
    let array = node.submit(&["--array", "1-3", "--", "sh", "-c", &script]);
    assert_eq!(node.run(&["wait", &array, "--timeout", "60s"]).code, 1);
    std::fs::write(flag, b"").unwrap();
    assert_eq!(node.run(&["retry", &array]).code, 0);
    node.wait_for(std::slice::from_ref(&array));
    let attempts = |task: &str| node.json(&["show", &format!("{array}.{task}")])["attempts"].as_array().unwrap().len();
    assert_eq!(["1", "2", "3"].map(attempts), [1, 2, 1]);
}

#[test]
fn a_reduce_gets_the_results_of_all_tasks() {
    let bench = bench();
    let node = node(&bench, "");
    let array =
        node.submit(&["--array", "1-3", "--", "sh", "-c", "echo $((JOBMESH_ARRAY_INDEX * 10)) > $JOBMESH_RESULT"]);
    let sum = node.submit(&["--reduce", "--after", &array, "--", "sh", "-c", "cat $JOBMESH_RESULTS"]);
    node.wait_for(std::slice::from_ref(&sum));
    let lines = node.wrote(&sum);
    let values: Vec<jobmesh_tests::Value> = lines.lines().map(|line| line.parse().unwrap()).collect();
    let results: Vec<u64> = values.iter().map(|value| value["result"].as_u64().unwrap()).collect();
    assert_eq!(results, [10, 20, 30], "{lines}");
}

#[test]
fn an_array_that_makes_no_sense_is_refused() {
    let bench = bench();
    let node = node(&bench, "");
    for words in ["9-1", "1-", "x", "1-5%0", "1-99999999999"] {
        refused(&node, 2, &["submit", "--array", words, "--", "true"]);
    }
    let refusal = refused(&node, 2, &["submit", "--max-fails", "3", "--", "true"]);
    assert!(refusal.contains("--array"), "{refusal}");
    assert!(node.listed(&["-a"]).is_empty());
}

#[test]
fn the_logs_of_a_group_are_those_of_its_tasks() {
    let bench = bench();
    let node = node(&bench, "");
    let gates = ["1", "2"].map(|name| Gate::new(bench.folder(), name));
    let script = format!("echo first; cat {}/$JOBMESH_ARRAY_INDEX; printf last", bench.folder().display());
    let array = node.submit(&["--array", "1-2%1", "--", "sh", "-c", &script]);
    let follow = node.command(&["logs", "-f", &array]).stdout(Stdio::piped()).spawn().unwrap();
    gates.iter().for_each(Gate::open);
    let followed = String::from_utf8(follow.wait_with_output().unwrap().stdout).unwrap();
    let wanted = format!("{array}.1 | first\n{array}.1 | last\n{array}.2 | first\n{array}.2 | last\n");
    // The end of one task may be read after the beginning of the next.
    let of = |task: u32| -> String {
        let label = format!("{array}.{task} | ");
        followed.split_inclusive('\n').filter(|line| line.starts_with(&label)).collect()
    };
    assert_eq!(of(1) + &of(2), wanted, "{followed}");
    assert_eq!(followed.len(), wanted.len(), "{followed}");
    assert_eq!(String::from_utf8(node.run(&["logs", &array]).stdout).unwrap(), wanted);
    assert!(node.run(&["logs", "--stderr", &array]).stdout.is_empty());
}
