//! How attempts end, what is tried again, and what becomes of a job that has failed for good.

use jobmesh_tests::{Node, Value};

use crate::{bench, node};

/// Options of a job that is tried three times in all, at once.
const THRICE: [&str; 4] = ["--retries", "2", "--backoff", "fixed:1ms"];

fn ended(node: &Node, options: &[&str], script: &str) -> Value {
    let job = node.submit(&[options, &["--", "sh", "-c", script]].concat());
    node.ended(&job)
}

fn attempts(shown: &Value) -> usize {
    shown["attempts"].as_array().unwrap().len()
}

#[test]
fn a_failure_is_tried_again_as_often_as_was_asked_for() {
    let bench = bench();
    let node = node(&bench, "");
    for (code, said) in [(1, "exit code 1"), (75, "temporary failure")] {
        let shown = ended(&node, &THRICE, &format!("exit {code}"));
        let job = &shown["job"];
        assert_eq!(
            (&job["state"], &job["finish_reason"], attempts(&shown)),
            (&"discarded".into(), &"exhausted".into(), 3)
        );
        assert!(job["message"].as_str().unwrap().contains(said), "{job}");
        assert_eq!((&job["exit"]["code"], &job["failures"]), (&code.into(), &3.into()));
    }
}

/// Its history names them as well, but who follows a run looks at its end.
#[test]
fn the_end_of_a_run_names_what_had_to_be_ended() {
    let bench = bench();
    let node = node(&bench, "");
    let stubborn =
        ["--timeout", "200ms", "--kill-grace", "100ms", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    let run = node.run(&[["run"].as_slice(), &stubborn].concat());
    let said = ["timeout; killed, since it ignored TERM: ", "sh (pid "];
    assert!(run.code == 124 && said.iter().all(|said| run.stderr.contains(said)), "{}", run.stderr);
    let run = node.run(&["-v", "run", "--", "sh", "-c", "setsid sleep 600 & exit 0"]);
    assert!(run.code == 0 && run.stderr.contains("ended what it left running: "), "{}", run.stderr);
    let shown = String::from_utf8(node.run(&["show", "last"]).stdout).unwrap();
    assert!(shown.contains("ended what it left running: "), "{shown}");
}

/// The process ended with 0, `run` with another code, and nobody said why.
#[test]
fn a_run_that_ends_with_a_code_of_ours_says_why() {
    let bench = bench();
    let node = node(&bench, "");
    for (options, script, code, said) in [
        (&[][..], r#"echo '{"outcome":"permanent","message":"no way"}' > $JOBMESH_OUTCOME"#, 1, "no way"),
        (&[], r#"echo '{"outcome":"cancel","message":"not wanted"}' > $JOBMESH_OUTCOME"#, 3, "not wanted"),
        (&[], "echo garbage > $JOBMESH_OUTCOME", 1, "the outcome file"),
        (&["--timeout", "200ms"], "trap 'exit 0' TERM; while :; do sleep 0.1; done", 124, "timeout"),
    ] {
        let run = node.run(&[&["run"][..], options, &["--", "sh", "-c", script]].concat());
        assert_eq!(run.code, code, "{script}: {}", run.stderr);
        assert!(run.stderr.contains(said) && run.stderr.contains("see `jobmesh show "), "{script}: {}", run.stderr);
    }
    let run = node.run(&["run", "--", "sh", "-c", "exit 7"]);
    assert_eq!((run.code, run.stderr.as_str()), (7, ""), "a code of the job speaks for itself");
}

#[test]
fn a_job_that_works_the_second_time_completes() {
    let bench = bench();
    let node = node(&bench, "");
    let shown = ended(&node, &THRICE, "[ $JOBMESH_ATTEMPT = 2 ]");
    assert_eq!((&shown["job"]["state"], attempts(&shown)), (&"completed".into(), 2), "{shown}");
    assert_eq!(shown["attempts"][0]["state"], "failed");
}

#[test]
fn only_the_failures_that_were_named_are_tried_again() {
    let bench = bench();
    let node = node(&bench, "");
    for (option, failure, script, tries) in [
        ("--retry-on", "exit=3-5", "exit 4", 3),
        ("--retry-on", "exit=3-5", "exit 6", 1),
        ("--fail-on", "exit=4", "exit 4", 1),
        ("--fail-on", "exit=4", "exit 5", 3),
        ("--retry-on", "signal=15", "kill -TERM $$", 3),
    ] {
        let shown = ended(&node, &[&THRICE[..], &[option, failure]].concat(), script);
        assert_eq!(attempts(&shown), tries, "{option} {failure}, {script}: {shown}");
    }
}

#[test]
fn a_program_that_is_not_there_is_not_tried_again() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&[&THRICE[..], &["--", "no-such-program-anywhere"]].concat());
    let shown = node.ended(&job);
    assert_eq!((&shown["job"]["finish_reason"], attempts(&shown)), (&"permanent".into(), 1), "{shown}");
    assert!(shown["job"]["message"].as_str().unwrap().contains("no-such-program-anywhere"));
}

#[test]
fn a_job_says_itself_how_it_ended() {
    let bench = bench();
    let node = node(&bench, "");
    for (word, state, reason) in [
        (r#"{"outcome":"permanent","message":"never"}"#, "discarded", "permanent"),
        (r#"{"outcome":"cancel","message":"never"}"#, "cancelled", "itself"),
        (r#"{"outcome":"ok"}"#, "completed", "ok"),
    ] {
        let shown = ended(&node, &THRICE, &format!("echo '{word}' > $JOBMESH_OUTCOME"));
        let job = &shown["job"];
        assert_eq!(
            (&job["state"], &job["finish_reason"], attempts(&shown)),
            (&state.into(), &reason.into(), 1),
            "{shown}"
        );
    }
}

#[test]
fn an_outcome_that_can_not_be_read_is_a_failure_that_says_why() {
    let bench = bench();
    let node = node(&bench, "");
    let shown = ended(&node, &[], "echo '{\"outcome\":\"splendid\"}' > $JOBMESH_OUTCOME");
    assert_eq!(shown["job"]["state"], "discarded");
    assert!(shown["job"]["message"].as_str().unwrap().contains("splendid"), "{shown}");
}

#[test]
fn a_snooze_costs_no_attempt_and_comes_back() {
    let bench = bench();
    let node = node(&bench, "");
    let script = r#"[ $JOBMESH_ATTEMPT = 3 ] || echo '{"outcome":"snooze","for":"1ms"}' > $JOBMESH_OUTCOME"#;
    let shown = ended(&node, &[], script);
    assert_eq!((&shown["job"]["state"], attempts(&shown)), (&"completed".into(), 3), "{shown}");
    assert_eq!(shown["job"]["failures"], 0);
    let shown =
        ended(&node, &["--max-snoozes", "1"], "echo '{\"outcome\":\"snooze\",\"for\":\"1ms\"}' > $JOBMESH_OUTCOME");
    assert_eq!((&shown["job"]["state"], attempts(&shown)), (&"discarded".into(), 2), "{shown}");
}

#[test]
fn a_job_that_gives_itself_back_runs_again() {
    let bench = bench();
    let node = node(&bench, "");
    let script = r#"[ $JOBMESH_ATTEMPT = 2 ] || echo '{"outcome":"release"}' > $JOBMESH_OUTCOME"#;
    let shown = ended(&node, &[], script);
    assert_eq!((&shown["job"]["state"], &shown["job"]["failures"]), (&"completed".into(), &0.into()), "{shown}");
}

#[test]
fn the_command_says_the_same_as_the_file() {
    let bench = bench();
    let node = node(&bench, "");
    let tool = node.binary().to_string_lossy().into_owned();
    let run = |words: &str| ended(&node, &THRICE, &format!("{tool} task {words}"));
    assert_eq!(run("outcome permanent never")["job"]["finish_reason"], "permanent");
    assert_eq!(run("outcome cancel never")["job"]["state"], "cancelled");
    let both = format!("outcome permanent never; {tool} task outcome ok");
    assert_eq!(run(&both)["job"]["finish_reason"], "permanent", "the worse of what is said");
    let shown = run(r#"result '{"answer": 42}'"#);
    let result = node.run(&["result", &shown["job"]["number"].to_string()]);
    assert_eq!((result.code, result.text().as_str()), (0, r#"{"answer": 42}"#), "{}", result.stderr);
}

#[test]
fn a_large_result_comes_back_byte_for_byte() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x > $JOBMESH_RESULT"]);
    node.wait_for(std::slice::from_ref(&job));
    let result = node.run(&["result", &job]);
    assert_eq!((result.code, result.stdout.len()), (0, 300_000), "{}", result.stderr);
    assert!(result.stdout.iter().all(|byte| *byte == b'x'));
}

#[test]
fn dead_letters_are_kept_listed_and_tried_again_with_their_history() {
    let bench = bench();
    let node = node(&bench, "");
    let flag = bench.folder().join("flag");
    let script = format!("[ -e {} ]", flag.display());
    let jobs: Vec<String> = (0..3).map(|_| node.submit(&["--", "sh", "-c", &script])).collect();
    jobs.iter().for_each(|job| assert_eq!(node.ended(job)["job"]["state"], "discarded"));
    assert_eq!(node.run(&["dead", "ls", "-q"]).text().lines().count(), 3);
    std::fs::write(flag, b"").unwrap();
    assert_eq!(node.run(&["dead", "retry", &jobs[0]]).code, 0);
    let shown = node.ended(&jobs[0]);
    assert_eq!((&shown["job"]["state"], attempts(&shown)), (&"completed".into(), 2));
    let run = node.run(&["dead", "retry", "--all"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    node.wait_for(&jobs);
    assert_eq!(node.run(&["dead", "ls", "-q"]).text(), "");
}

#[test]
fn a_result_that_is_not_there_says_why() {
    let bench = bench();
    let node = node(&bench, "");
    let held = node.submit(&["--hold", "--", "true"]);
    let array = node.submit(&["--array", "1-2", "--", "true"]);
    node.wait_for(std::slice::from_ref(&array));
    let ended = format!("{array}.1");
    for (job, said) in
        [(&held, "has not begun"), (&array, "is a group"), (&ended, "attempt 1 of job 2.1 has no result")]
    {
        let run = node.run(&["result", job]);
        assert!(run.code == 2 && run.stderr.contains(said), "{job}: {}", run.stderr);
    }
    assert_eq!(node.run(&["kill", &held]).code, 0);
    assert!(node.run(&["result", &held]).stderr.contains("was cancelled before it began"));
}
