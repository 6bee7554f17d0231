//! What a run says about its own end, and the result that it leaves.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_executors::{Ended, RESULT_INLINE_BYTES_MAX, StopReason, result_path};
use jobmesh_protocol::{BlobRef, DurationMillis, Outcome};

use crate::harness::Node;

/// Runs a script that writes `said` as its outcome and exits with `code`.
fn end(node: &Node, said: &str, code: u8) -> Ended {
    let mut order = node.script("printf %s \"$SAID\" > \"$JOBMESH_OUTCOME\"; exit $CODE");
    order.environment = [("SAID".to_owned(), said.to_owned()), ("CODE".to_owned(), code.to_string())].into();
    node.end_of(order)
}

#[test]
fn a_run_decides_how_its_end_is_understood() {
    let node = Node::start(1);
    let reason = || "later".to_owned();
    let snoozed = Outcome::Snoozed { for_ms: DurationMillis(300_000), reason: Some(reason()) };
    // It would come back hundreds of times a second else.
    let released = Outcome::Snoozed { for_ms: DurationMillis(1000), reason: Some(reason()) };
    let retry = Outcome::Error { message: reason(), retry_after_ms: Some(DurationMillis(1500)) };
    let cases = [
        (r#"{"outcome":"ok"}"#, 0, Outcome::Ok),
        (r#"{"outcome":"ok"}"#, 4, Outcome::error("exit code 4, although its outcome file says `ok`")),
        (r#"{"outcome":"error","message":"later","retry_after":1500}"#, 0, retry),
        (r#"{"outcome":"permanent","message":"later"}"#, 0, Outcome::Permanent { message: reason() }),
        (r#"{"outcome":"permanent","message":"later"}"#, 1, Outcome::Permanent { message: reason() }),
        (r#"{"outcome":"snooze","for":"5m","message":"later"}"#, 0, snoozed.clone()),
        (r#"{"outcome":"snooze","for":"5m","message":"later"}"#, 75, snoozed),
        (r#"{"outcome":"cancel","message":"later"}"#, 0, Outcome::SelfCancelled { reason: reason() }),
        (r#"{"outcome":"release","message":"later"}"#, 75, released),
        (r#"{"outcome":"release"}"#, 1, Outcome::error("exit code 1, although its outcome file says `release`")),
    ];
    for (said, code, expected) in cases {
        assert_eq!(end(&node, said, code).outcome, expected, "{said} and exit {code}");
    }
}

#[test]
fn a_word_that_cannot_be_understood_fails_the_attempt_and_says_why() {
    let node = Node::start(1);
    let ended = end(&node, r#"{"outcome":"done"}"#, 0);
    assert_eq!(ended.outcome.word(), "error");
    assert!(ended.outcome.message().unwrap().contains("unknown variant `done`"), "{ended:?}");
    let ended = node.end_of(node.script("ln -s /etc/hostname \"$JOBMESH_OUTCOME\""));
    assert_eq!(ended.outcome, Outcome::error("the outcome file is not a plain file"));
}

#[test]
fn a_run_that_was_stopped_has_no_say() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let mut order =
        node.script(r#"echo '{"outcome":"ok","result":1}' > "$JOBMESH_OUTCOME"; echo ready > "$PIPE"; sleep 600"#);
    order.environment.insert("PIPE".to_owned(), pipe.path.to_str().unwrap().to_owned());
    let run = order.run;
    node.executors.run(order);
    assert_eq!(pipe.line(), "ready");
    node.executors.stop(run, StopReason::Timeout);
    let ended = node.ended(run);
    assert_eq!((ended.outcome, ended.outputs.result), (Outcome::Timeout, Some(BlobRef::of(b"1"))));
}

#[test]
fn a_result_is_named_and_a_short_one_comes_along_after_the_logs() {
    let node = Node::start(1);
    let order = node.script("printf out; printf err >&2; printf result > \"$JOBMESH_RESULT\"");
    let directory = order.directory.clone();
    let ended = node.end_of(order);
    assert_eq!(ended.outputs.result, Some(BlobRef::of(b"result")));
    assert_eq!(ended.inline, [b"out".to_vec(), b"err".to_vec(), b"result".to_vec()]);
    assert_eq!(std::fs::read(result_path(&directory)).unwrap(), b"result");
}

#[test]
fn a_result_in_the_word_lies_where_every_result_lies() {
    let node = Node::start(1);
    let mut order = node.script(
        r#"echo ignored > "$JOBMESH_RESULT"; echo '{"outcome":"ok","result":{"n": [1, 2.50]}}' > "$JOBMESH_OUTCOME""#,
    );
    order.environment.insert("UNUSED".to_owned(), String::new());
    let directory = order.directory.clone();
    let ended = node.end_of(order);
    let json = br#"{"n": [1, 2.50]}"#;
    assert_eq!((ended.outcome, ended.outputs.result), (Outcome::Ok, Some(BlobRef::of(json))));
    assert_eq!(ended.inline, [json.to_vec()]);
    assert_eq!(std::fs::read(result_path(&directory)).unwrap(), json);
}

#[test]
fn a_long_result_is_named_only() {
    let node = Node::start(1);
    for (length, carried) in [(RESULT_INLINE_BYTES_MAX, 1), (RESULT_INLINE_BYTES_MAX + 1, 0)] {
        let ended = node.end_of(node.script(&format!("head -c {length} /dev/zero > \"$JOBMESH_RESULT\"")));
        assert_eq!(ended.outputs.result, Some(BlobRef::of(&vec![0; length])));
        assert_eq!(ended.inline.len(), carried);
    }
}

#[test]
fn a_result_that_is_no_file_spoils_a_success_only() {
    let node = Node::start(1);
    let ended = node.end_of(node.script("mkfifo \"$JOBMESH_RESULT\""));
    assert_eq!(ended.outcome, Outcome::error("the result file is not a plain file"));
    assert_eq!(node.end_of(node.script("mkfifo \"$JOBMESH_RESULT\"; exit 9")).outcome, Outcome::error("exit code 9"));
}
