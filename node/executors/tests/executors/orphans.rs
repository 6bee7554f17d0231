//! Runs that an earlier life of the daemon left.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use jobmesh_executors::{OrphanEnd, ProcessId, RUN_VARIABLE, end_orphan};
use jobmesh_protocol::RunId;

use crate::harness::{Node, exists, run_id};

/// Starts what a dead daemon would have left: a group leader with the marker. Killed, it is reaped like any orphan that
/// came to us, so the test must not wait for it.
fn leave(run: RunId, script: &str) -> (Child, ProcessId) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env(RUN_VARIABLE, run.to_string()).process_group(0);
    let child = command.spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let process = ProcessId { pid: child.id(), started };
    (child, process)
}

#[test]
fn a_run_left_alive_is_killed_with_its_hidden_children() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let run = run_id();
    let script = format!(
        r#"trap "" TERM; (setsid sh -c 'echo $$ > {path}; exec sleep 600' &); env -i setsid sleep 600 & echo $! > {path}; wait"#,
        path = pipe.path.to_str().unwrap()
    );
    let (_, process) = leave(run, &script);
    let hidden = [pipe.pid(), pipe.pid()];
    assert_eq!(end_orphan(process, run), OrphanEnd::Ended);
    assert!(!exists(process.pid) && !hidden.into_iter().any(exists));
    assert_eq!(end_orphan(process, run), OrphanEnd::NotFound);
}

#[test]
fn the_marker_alone_is_enough() {
    let run = run_id();
    let (_, process) = leave(run, "sleep 600");
    assert_eq!(end_orphan(ProcessId { pid: 1, started: 0 }, run), OrphanEnd::Ended);
    assert!(!exists(process.pid));
}

#[test]
fn a_stranger_that_got_the_number_is_left_alone() {
    let (mut child, process) = leave(run_id(), "exec sleep 600");
    let reused = ProcessId { pid: process.pid, started: process.started + 1 };
    assert_eq!(end_orphan(reused, run_id()), OrphanEnd::NotFound);
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}
