//! Why a job does not run, in words, with what would start it; and the same before it is there.

use jobmesh_tests::{Gate, Value};

use crate::{bench, kinds, node};

#[test]
fn every_reason_is_told_at_once() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 1\nrate = \"1/1h\"\n");
    let gate = Gate::new(bench.folder(), "gate");
    let first = node.submit(&["-Q", "q", "--concurrency-key", "k:1", "--", "cat", gate.path()]);
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let job = node.submit(&["-Q", "q", "--concurrency-key", "k:1", "--cpus", "8", "--", "true"]);
    let mut found = kinds(&node, &job);
    found.sort();
    assert_eq!(found, ["key_full", "no_room", "paused", "queue_full", "rate"]);
    let text = node.run(&["explain", &job]).text();
    assert!(text.contains("what would help: `jobmesh queue resume q`"), "{text}");
    gate.open();
    node.wait_for(&[first]);
}

#[test]
fn what_is_ahead_is_counted() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let jobs: Vec<String> = (0..3).map(|_| node.submit(&["-Q", "q", "--", "true"])).collect();
    let text = |job: &str| node.run(&["explain", job]).text();
    assert!(!text(&jobs[0]).contains("ahead"), "{}", text(&jobs[0]));
    assert!(text(&jobs[1]).contains("1 job like it is ahead"), "{}", text(&jobs[1]));
    assert!(text(&jobs[2]).contains("2 jobs like it are ahead"), "{}", text(&jobs[2]));
}

#[test]
fn every_slot_in_use_is_a_reason() {
    let bench = bench();
    let node = bench.node_with("a", 1, &crate::resources(""));
    node.up();
    let gate = Gate::new(bench.folder(), "gate");
    let first = node.submit(&["--", "cat", gate.path()]);
    let second = node.submit(&["--cpus", "none", "--", "true"]);
    assert_eq!(kinds(&node, &second), ["no_slot"]);
    gate.open();
    node.wait_for(&[first, second]);
}

#[test]
fn a_dry_run_tells_the_reasons_of_a_job_that_is_not_queued() {
    let bench = bench();
    let node = node(&bench, "");
    assert_eq!(node.run(&["queue", "pause", "q"]).code, 0);
    let plan =
        |options: &[&str]| node.json(&[&["submit", "--dry-run"], options, &["--", "true"]].concat())["plan"].take();
    let kinds = |plan: &Value| -> Vec<String> {
        plan["reasons"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&plan(&["-Q", "q"])), ["paused"]);
    assert_eq!(kinds(&plan(&["--cpus", "99"])), ["incapable"]);
    assert_eq!(kinds(&plan(&["--hold"])), ["held"]);
    assert_eq!(kinds(&plan(&["--delay", "1h"])), ["time"]);
    let free = plan(&[]);
    assert_eq!((kinds(&free).len(), &free["summary"]), (0, &"is about to start".into()));
    assert!(node.listed(&["-a"]).is_empty());
}

#[test]
fn what_has_ended_is_explained_too() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--", "sh", "-c", "exit 7"]);
    assert_eq!(node.ended(&job)["job"]["state"], "discarded");
    let text = node.run(&["explain", &job]).text();
    assert!(text.contains("was discarded") && text.contains("exit code 7"), "{text}");
}

#[test]
fn a_run_that_nobody_can_start_says_why_once_and_ends_with_a_signal() {
    let bench = bench();
    let node = node(&bench, "");
    let mut command = node.command(&["run", "--idempotency-key", "one", "--require", "tool:nowhere", "--", "true"]);
    let mut run = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(run.stderr.take().unwrap()));
    let said = lines.next().unwrap().unwrap();
    assert!(said.starts_with("job 1 waits") && said.contains("tool:nowhere"), "{said}");
    let again = node.spawn(&["run", "--idempotency-key", "one", "--require", "tool:nowhere", "--", "true"]);
    jobmesh_tests::Pid::new(run.id().into()).terminate();
    assert_eq!(run.wait().unwrap().code(), Some(3));
    assert!(lines.next().unwrap().unwrap().starts_with("cancelling job 1"));
    let again = again.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(3) && said.contains("nothing new was queued"), "{said}");
}

#[test]
fn what_has_ended_is_counted() {
    let bench = bench();
    let node = node(&bench, "");
    for program in ["true", "false"] {
        let _: Value = node.ended(&node.submit(&["--type", "sheep", "--", program]));
    }
    for by in ["whole", "day", "hour"] {
        let rows = node.json(&["metrics", "--by", by])["rows"].take();
        let of = |what: &str| -> u64 {
            let sheep = rows.as_array().unwrap().iter().filter(|row| row["job_type"] == "sheep");
            sheep.map(|row| row[what].as_u64().unwrap()).sum()
        };
        assert_eq!((of("completed"), of("discarded")), (1, 1), "{rows}");
    }
    assert!(node.run(&["metrics"]).text().contains("sheep"));
}

/// It waited for its own end, without a word of that.
#[test]
fn a_run_inside_the_job_that_has_the_only_slot_says_so() {
    let bench = bench();
    let node = bench.node_with("a", 1, &crate::resources(""));
    node.up();
    let gate = Gate::new(bench.folder(), "gate");
    let outer = node.submit(&["--", "cat", gate.path()]);
    let mut command = node.command(&["run", "--cpus", "none", "--", "true"]);
    let mut run = command.env("JOBMESH_JOB", &outer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(run.stderr.take().unwrap()));
    let mut said = || lines.next().unwrap().unwrap();
    let (why, hint) = (said(), said());
    assert!(why.contains(&format!("the only slot of this node is in use, by job {outer}")), "{why}");
    assert!(hint.contains(&format!("inside job {outer}")), "{hint}");
    gate.open();
    assert!(run.wait().unwrap().success());
    assert_eq!(lines.map(Result::unwrap).find(|line| line.contains("inside job")), None, "once is enough");
}
