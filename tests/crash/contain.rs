//! Jobs that do harm: each is ended with everything that it started, and its history says what it did, by name.

use std::fs;
use std::path::PathBuf;

use jobmesh_tests::{Bench, Fifo, Node, Pen, Pid, Value, with_variable};

use crate::{bench, notes};

/// What every process of a job of these tests has in its environment, with the folder of the test.
const MARK: &str = "JOBMESH_TEST_MARK";

/// How many processes and threads the node with the fork bomb may have, all together.
const PEN_SIZE: u32 = 600;

struct Stage {
    bench: Bench,
    node: Node,
    fifo: Fifo,
}

impl Stage {
    fn new() -> Self {
        let bench = bench();
        let node = bench.up("a");
        let fifo = Fifo::new(bench.folder().join("told"));
        Self { bench, node, fifo }
    }

    fn mark(&self) -> String {
        self.bench.folder().display().to_string()
    }

    fn told(&self) -> PathBuf {
        self.fifo.path().to_owned()
    }

    /// Submits a shell script, which finds the path of the pipe in `$0`.
    fn submit(&self, options: &[&str], script: &str) -> String {
        let (mark, told) = (format!("{MARK}={}", self.mark()), self.told());
        let command = ["--env", &mark, "--", "sh", "-c", script, told.to_str().unwrap()];
        self.node.submit(&[options, &command].concat())
    }

    /// Waits for the end of a job, after which nothing of it may be there any more.
    fn ended(&self, job: &str) -> Value {
        let shown = self.node.ended(job);
        let left: Vec<Pid> = with_variable(MARK, &self.mark()).into_iter().filter(|pid| pid.is_alive()).collect();
        assert_eq!(left, Vec::new(), "{shown}");
        shown
    }
}

#[test]
fn a_job_that_ignores_term_is_killed_and_named() {
    let mut stage = Stage::new();
    let script = "trap '' TERM; echo ready > \"$0\"; while :; do sleep 1000; done";
    let job = stage.submit(&["--kill-grace", "200ms"], script);
    stage.fifo.line();
    assert_eq!(stage.node.run(&["cancel", &job]).code, 0);
    let shown = stage.ended(&job);
    assert_eq!(shown["job"]["state"], "cancelled", "{shown}");
    assert!(notes(&shown).contains("ignored TERM: sh (pid "), "{shown}");
    let text = stage.node.run(&["show", &job]).text();
    assert!(text.contains("ignored TERM: sh (pid "), "{text}");
}

#[test]
fn a_job_that_ignores_term_at_its_timeout_is_killed_and_named() {
    let mut stage = Stage::new();
    let script = "trap '' TERM; echo ready > \"$0\"; while :; do sleep 1000; done";
    let job = stage.submit(&["--kill-grace", "200ms", "--timeout", "300ms"], script);
    stage.fifo.line();
    let shown = stage.ended(&job);
    assert_eq!((&shown["job"]["state"], &shown["job"]["finish_reason"]), (&"discarded".into(), &"timeout".into()));
    assert!(notes(&shown).contains("timeout; killed, since it ignored TERM: sh (pid "), "{shown}");
}

#[test]
fn a_background_child_is_ended_and_named() {
    let stage = Stage::new();
    let job = stage.submit(&[], "sleep 1000 & exit 0");
    let shown = stage.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    assert!(notes(&shown).contains("ended what it left running: s"), "{shown}");
    let text = stage.node.run(&["show", &job]).text();
    assert!(text.contains("ended what it left running: s"), "{text}");
}

#[test]
fn a_process_that_forked_twice_into_a_session_of_its_own_is_ended_and_named() {
    let mut stage = Stage::new();
    let script =
        "setsid sh -c 'setsid sh -c \"echo away > $0; exec sleep 1000\" & exit' \"$0\" & wait; read x < \"$0.go\"";
    let mut go = Fifo::new(stage.bench.folder().join("told.go"));
    let job = stage.submit(&[], script);
    assert_eq!(stage.fifo.line(), "away");
    go.tell("on");
    let shown = stage.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    assert!(notes(&shown).contains("ended what it left running: s"), "{shown}");
}

#[test]
fn a_job_that_writes_without_end_is_stopped_at_its_limit() {
    let stage = Stage::new();
    let job = stage.submit(&["--log-limit", "1M"], "exec yes");
    let shown = stage.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    let message = shown["job"]["message"].as_str().unwrap();
    assert_eq!(message, "wrote more than 1 MiB of output (log limit)");
    assert_eq!(shown["attempts"][0]["outputs"]["stdout"]["size"], 1 << 20, "{shown}");
    assert_eq!(stage.node.run(&["logs", &job]).stdout.len(), 1 << 20);
}

#[test]
fn a_job_that_takes_too_much_memory_is_killed_where_the_kernel_can() {
    let stage = Stage::new();
    // A file without a line end is kept by `tail` in memory until its end.
    let job = stage.submit(&["--mem", "64M"], "head -c 300000000 /dev/zero | tail -n 1 > /dev/null");
    let shown = stage.ended(&job);
    let doctor = stage.node.json(&["doctor"]);
    let findings = doctor["findings"].as_array().unwrap();
    if !findings.iter().any(|finding| finding["what"] == "memory" && finding["health"] == "good") {
        eprintln!("SKIPPED: no control group of this machine limits memory");
        return;
    }
    let message = shown["job"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("out of memory (limit 64 MiB"), "{shown}");
}

#[test]
fn a_fork_bomb_is_ended_and_named_and_the_node_goes_on() {
    let Some(pen) = Pen::new(PEN_SIZE) else {
        eprintln!("SKIPPED: this machine lets no test make a control group that counts processes");
        return;
    };
    let bench = bench();
    let node = bench.node("a");
    let run = pen.around(&node.command(&["up", "-d"])).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    node.adopt();
    let before = pen.population();
    assert!(0 < before && before < PEN_SIZE / 2, "the node is not in its pen, or too large for it: {before}");
    let mark = format!("{MARK}={}", bench.folder().display());
    let bomb = "bomb() { bomb | bomb & bomb; }; bomb";
    let job = node.submit(&["--timeout", "30s", "--env", &mark, "--", "sh", "-c", bomb]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    let message = shown["job"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("process limit"), "{shown}");
    let left: Vec<Pid> =
        with_variable(MARK, &bench.folder().display().to_string()).into_iter().filter(|pid| pid.is_alive()).collect();
    assert_eq!(left, Vec::new(), "{shown}");
    let next = node.submit(&["--", "true"]);
    assert_eq!(node.ended(&next)["job"]["state"], "completed");
    let log = fs::read_to_string(node.home().join("daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    node.down();
}
