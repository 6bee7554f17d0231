//! Jobs that outlive their daemon: the next one takes them over as they are.
//!
//! **The hard case** is a process number that was given to another program meanwhile: it has another start time.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Fifo, Node, Pid, Value};

use crate::record::Record;
use crate::{bench, count, notes};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells its number, writes, waits for a word, writes again, ends with 7.
const SCRIPT: &str = "echo $$ > \"$0\"; echo before; read x < \"$1\"; echo after; exit 7";

struct Stage {
    node: Node,
    told: Fifo,
    go: Fifo,
    _bench: Bench,
}

impl Stage {
    fn new() -> Self {
        let bench = bench();
        let node = bench.up("a");
        let [told, go] = ["told", "go"].map(|name| Fifo::new(bench.folder().join(name)));
        Self { node, told, go, _bench: bench }
    }

    /// Submits a job and returns its number and its process once that runs and the node has written it down.
    fn start(&mut self, options: &[&str]) -> (String, Pid) {
        let [told, go] = [self.told.path(), self.go.path()].map(|path| path.display().to_string());
        let job = self.node.submit(&[options, &["--", "sh", "-c", SCRIPT, &told, &go]].concat());
        let process = self.started();
        // Whoever asks for it sees it once it is written down; nobody is told.
        let (mut api, deadline) = (self.node.api(), Instant::now() + LIMIT);
        let path = format!("/v1/jobs/{job}");
        while api.ask("GET", &path, None).json()["attempts"][0]["pid"] != process.number() {
            assert!(Instant::now() < deadline, "the process of job {job} was not written down\n{}", self.node.log());
        }
        (job, process)
    }

    fn started(&mut self) -> Pid {
        Pid::new(self.told.line().parse().unwrap())
    }

    fn restart(&self) {
        self.node.kill();
        self.node.up();
    }

    /// What the node says of a job that goes on, once it has found it.
    fn adopted(&self, job: &str, process: Pid) -> Value {
        let api = self.node.api().ask("GET", &format!("/v1/jobs/{job}"), None).json();
        assert!(process.is_alive(), "{api}");
        assert_eq!((&api["job"]["state"], &api["job"]["epoch"]), (&"running".into(), &1.into()), "{api}");
        api
    }
}

/// Whether the kernel tells how a process ended to whoever holds a descriptor of it: Linux 6.15 and newer.
fn kernel_tells_ends() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(6), Some(15))
}

#[test]
fn a_job_goes_on_under_the_next_daemon_with_its_exit_code_and_output() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&[]);
    stage.restart();
    stage.adopted(&job, process);
    stage.restart();
    stage.adopted(&job, process);
    stage.go.tell("on");
    let shown = stage.node.ended(&job);
    assert!(count(&shown, "adopted") >= 1, "{shown}");
    assert_eq!(shown["attempts"][0]["pid"], process.number(), "{shown}");
    if !kernel_tells_ends() {
        eprintln!("SKIPPED the rest: this kernel tells the end of a process to its parent only");
        return;
    }
    assert_eq!((&shown["job"]["exit"]["code"], &shown["job"]["epoch"]), (&7.into(), &1.into()), "{shown}");
    assert_eq!((&shown["job"]["failures"], &shown["job"]["crashes"]), (&1.into(), &0.into()), "{shown}");
    assert_eq!(stage.node.run(&["logs", &job]).text(), "before\nafter\n");
}

#[test]
fn an_adopted_job_can_be_cancelled() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&[]);
    stage.restart();
    stage.adopted(&job, process);
    assert_eq!(stage.node.run(&["cancel", &job]).code, 0);
    let shown = stage.node.ended(&job);
    assert_eq!(shown["job"]["state"], "cancelled", "{shown}");
    assert!(!process.is_alive());
}

#[test]
fn a_cancellation_that_the_daemon_did_not_live_to_carry_out_is_carried_out() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&["--kill-grace", "100ms"]);
    process.freeze();
    assert_eq!(stage.node.run(&["cancel", &job]).code, 0);
    stage.restart();
    let shown = stage.node.ended(&job);
    assert_eq!(shown["job"]["state"], "cancelled", "{shown}");
    assert!(!process.is_alive());
}

#[test]
fn the_timeout_of_an_adopted_job_holds() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&["--timeout", "2s"]);
    stage.restart();
    stage.adopted(&job, process);
    let shown = stage.node.ended(&job);
    assert_eq!((&shown["job"]["state"], &shown["job"]["finish_reason"]), (&"discarded".into(), &"timeout".into()));
    assert!(!process.is_alive());
}

/// If nobody has taken its exit code it is still there to be told; else it counts as lost, not as failed, and runs again.
/// Never both.
#[test]
fn a_job_that_ended_while_there_was_no_daemon_ends_as_it_did_or_runs_again() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&[]);
    stage.node.kill();
    // One word for this run, and one for the next if there is one.
    stage.go.tell("on");
    process.wait_gone();
    stage.go.tell("on");
    stage.node.up();
    let shown = stage.node.ended(&job);
    assert_eq!((&shown["job"]["state"], &shown["job"]["exit"]["code"]), (&"discarded".into(), &7.into()), "{shown}");
    assert_eq!(shown["job"]["failures"], 1, "{shown}");
    let attempts = shown["attempts"].as_array().unwrap();
    let lost = attempts.iter().filter(|attempt| attempt["state"] == "lost").count();
    assert_eq!((attempts.len(), &shown["job"]["crashes"]), (lost + 1, &lost.into()), "{shown}");
    assert!(lost <= 1, "{shown}");
}

#[test]
fn a_job_that_may_run_once_only_is_adopted_like_any_other_and_not_run_again_if_it_is_gone() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&["--effects", "once"]);
    stage.restart();
    stage.adopted(&job, process);
    stage.node.kill();
    process.kill();
    stage.node.up();
    let shown = stage.node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
}

/// A program of somebody else, which leads a process group like every run does.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("sleep");
        Self(command.arg("1000").process_group(0).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_with_the_number_of_a_dead_run_is_left_alone() {
    let mut stage = Stage::new();
    let (job, process) = stage.start(&[]);
    stage.node.kill();
    process.kill();
    let stranger = Stranger::new();
    let id = stranger.0.id();
    Record::open(&stage.node.database())
        .change(&format!("UPDATE attempt SET process_id = {id}, process_started = process_started - 1"));
    stage.node.up();
    let again = stage.started();
    assert_ne!(again.number(), u64::from(id));
    stage.go.tell("on");
    let shown = stage.node.ended(&job);
    assert_eq!((&shown["job"]["exit"]["code"], &shown["job"]["crashes"]), (&7.into(), &1.into()), "{shown}");
    assert_eq!(count(&shown, "adopted"), 0, "{}", notes(&shown));
    assert!(Pid::new(id.into()).is_alive(), "the stranger was killed");
}
