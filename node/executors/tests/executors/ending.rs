//! Nothing of a run outlives it.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::{Duration, Instant};

use jobmesh_executors::StopReason;
use jobmesh_protocol::{BlobRef, DurationMillis, Outcome};

use crate::harness::{Node, exists};

/// A shell function that starts a sleeper as a session of its own and an orphan, and writes its number to `$PIPE`.
const HIDE: &str = r#"hide() { (setsid sh -c 'echo $$ > "$PIPE"; exec sleep 600' &) ; }"#;

#[test]
fn a_command_that_ignores_term_is_killed_after_the_grace_and_not_before() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let mut order = node.script(r#"trap "" TERM; echo ready > "$PIPE"; while :; do sleep 600; done"#);
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    order.kill_grace = DurationMillis(700);
    let run = order.run;
    node.executors.run(order);
    let process = node.started(run);
    assert_eq!(pipe.line(), "ready");
    let asked = Instant::now();
    node.executors.stop(run, StopReason::Timeout);
    let ended = node.ended(run);
    assert_eq!((ended.outcome, ended.exit.signal), (Outcome::Timeout, Some(9)));
    assert!(asked.elapsed() >= Duration::from_millis(700), "the grace was cut short");
    assert!(asked.elapsed() < Duration::from_millis(5_700), "the end took too long");
    assert!(!exists(process.pid));
}

#[test]
fn a_command_that_obeys_term_may_tidy_up_and_is_still_cancelled() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let mut order =
        node.script(r#"trap 'sh -c "printf tidy"; exit 0' TERM; echo ready > "$PIPE"; while :; do sleep 0.01; done"#);
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    let run = order.run;
    node.executors.run(order);
    assert_eq!(pipe.line(), "ready");
    node.executors.stop(run, StopReason::Cancel);
    let ended = node.ended(run);
    assert_eq!((ended.outcome, ended.exit.code), (Outcome::Cancelled, Some(0)));
    assert_eq!(ended.outputs.stdout, Some(BlobRef::of(b"tidy")));
}

#[test]
fn children_in_other_sessions_and_orphans_end_with_the_command() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let script = format!(
        r#"{HIDE}; hide; hide; setsid sh -c 'echo $$ > "$PIPE"; exec sleep 600' & sleep 600 & echo $! > "$PIPE"; wait"#
    );
    let mut order = node.script(&script);
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    let run = order.run;
    node.executors.run(order);
    let pids = [pipe.pid(), pipe.pid(), pipe.pid(), pipe.pid()];
    assert!(pids.into_iter().all(exists));
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!(node.ended(run).outcome, Outcome::Cancelled);
    let left: Vec<u32> = pids.into_iter().filter(|pid| exists(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left, or were not reaped");
}

#[test]
fn what_a_finished_command_leaves_in_the_background_is_ended() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let mut order = node.script(&format!(r#"{HIDE}; hide; sleep 600 & echo $! > "$PIPE"; read line < "$GO""#));
    let go = node.pipe();
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    order.environment.insert("GO".to_owned(), go.path.to_str().unwrap().to_owned());
    let run = order.run;
    node.executors.run(order);
    let pids = [pipe.pid(), pipe.pid()];
    std::fs::write(&go.path, "\n").unwrap();
    assert_eq!(node.ended(run).outcome, Outcome::Ok);
    assert!(!pids.into_iter().any(exists));
}

#[test]
fn what_a_command_leaves_at_once_is_ended_although_the_run_was_short() {
    let node = Node::start(1);
    for _ in 0..20 {
        let mut pipe = node.pipe();
        let mut order = node.script(r#"setsid sleep 600 & echo $! > "$PIPE""#);
        order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
        assert_eq!(node.end_of(order).outcome, Outcome::Ok);
        assert!(!exists(pipe.pid()));
    }
}

#[test]
fn a_leftover_that_ignores_term_is_killed_after_a_short_grace() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let script = r#"(trap "" TERM; sh -c 'echo $PPID > "$PIPE"'; while :; do sleep 600; done) & read line < "$GO""#;
    let mut order = node.script(script);
    let go = node.pipe();
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    order.environment.insert("GO".to_owned(), go.path.to_str().unwrap().to_owned());
    order.kill_grace = DurationMillis::from_secs(60);
    let run = order.run;
    node.executors.run(order);
    let pid = pipe.pid();
    std::fs::write(&go.path, "\n").unwrap();
    assert_eq!(node.ended(run).outcome, Outcome::Ok);
    assert!(!exists(pid));
}

#[test]
fn a_stopped_command_still_gets_its_term() {
    let node = Node::start(1);
    let order = node.script("kill -STOP $$; sleep 600");
    let run = order.run;
    node.executors.run(order);
    node.started(run);
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!(node.ended(run).exit.signal, Some(15));
}

#[test]
fn the_orphans_of_one_run_survive_the_end_of_another() {
    let node = Node::start(2);
    let mut pipe = node.pipe();
    let mut orders = [0, 1].map(|_| node.script(&format!("{HIDE}; hide; sleep 600")));
    for order in &mut orders {
        order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    }
    let [first, second] = orders;
    let (one, other) = (first.run, second.run);
    node.executors.run(first);
    let mine = pipe.pid();
    node.executors.run(second);
    let theirs = pipe.pid();
    node.executors.stop(one, StopReason::Cancel);
    node.ended(one);
    assert!(!exists(mine) && exists(theirs));
    node.executors.stop(other, StopReason::Cancel);
    node.ended(other);
    assert!(!exists(theirs));
}

#[test]
fn a_command_that_keeps_forking_is_ended() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let script = r#"trap "" TERM; echo ready > "$PIPE"; i=0
        while [ $i -lt 2000 ]; do setsid sh -c 'trap "" TERM; sleep 600' & i=$((i+1)); done; wait"#;
    let mut order = node.script(script);
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    order.kill_grace = DurationMillis(50);
    let run = order.run;
    let marker = format!("JOBMESH_RUN={run}");
    node.executors.run(order);
    assert_eq!(pipe.line(), "ready");
    node.executors.stop(run, StopReason::LeaseEnded);
    assert_eq!(node.ended(run).outcome.word(), "lost");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    });
    assert_eq!(left.count(), 0);
}
