//! Real programs: C, compiled by Debian's clang for WASI while the test runs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;

use jobmesh_executors::{Ended, Limits, Order, StopReason};
use jobmesh_protocol::task::{Task, WasmTask};
use jobmesh_protocol::{BlobRef, Outcome};
use jobmesh_tests::{until_folder, wasi};

use crate::harness::Node;

/// A node and the compiled program; none if there is no compiler, which is said.
fn compiled() -> Option<(Node, BlobRef)> {
    let module = wasi::module()?;
    let node = Node::start(1);
    let blob = node.blob(module);
    Some((node, blob))
}

fn order(node: &Node, module: BlobRef, argv: &[&str]) -> Order {
    let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
    node.order(Task::Wasm(WasmTask { argv, ..WasmTask::new(module) }))
}

fn stdout(ended: &Ended) -> String {
    String::from_utf8(ended.inline.first().cloned().unwrap_or_default()).unwrap()
}

fn work(order: &Order) -> PathBuf {
    let work = order.directory.join("work");
    std::fs::create_dir_all(&work).unwrap();
    work
}

#[test]
fn arguments_variables_and_input_come_as_to_any_command() {
    let Some((node, module)) = compiled() else { return };
    let mut order = order(&node, module, &["echo", "two words", ""]);
    let input = node.blob(b"from the input\n");
    let Task::Wasm(task) = &mut order.task else { panic!() };
    // A worker that took it for its own would be told so by its loader.
    task.environment =
        [("LD_PRELOAD", "/nowhere.so"), ("COLOUR", "red")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    task.stdin = Some(input);
    order.stdin = Some(order.blobs.join(input.hash.to_string()));
    order.environment = [("COLOUR".to_owned(), "blue".to_owned())].into();
    let run = order.run;
    let ended = node.end_of(order);
    let expected = format!("[echo][two words][]\nblue /nowhere.so {run}\nfrom the input\n");
    assert_eq!((stdout(&ended), ended.outputs.stderr, &ended.outcome), (expected, None, &Outcome::Ok), "{ended:?}");
}

#[test]
fn files_are_read_and_written_below_the_working_directory_only() {
    let Some((node, module)) = compiled() else { return };
    let copy = order(&node, module, &["copy", "in.txt", &["/work", "out.txt"].join("/")]);
    let here = work(&copy);
    std::fs::write(here.join("in.txt"), "content").unwrap();
    let ended = node.end_of(copy);
    assert_eq!((ended.outcome.clone(), ended.exit.code), (Outcome::Ok, Some(0)), "{ended:?}");
    assert_eq!(std::fs::read_to_string(here.join("out.txt")).unwrap(), "content");

    let secret = node.home.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let secret = secret.to_str().unwrap();
    for path in ["../stdout", "../../../secret", secret, "/etc/passwd", "a/../../stdout", "link/secret", "file-link"] {
        let order = order(&node, module, &["open", path]);
        let here = work(&order);
        std::fs::create_dir(here.join("a")).unwrap();
        std::os::unix::fs::symlink(node.home.path(), here.join("link")).unwrap();
        std::os::unix::fs::symlink(secret, here.join("file-link")).unwrap();
        let ended = node.end_of(order);
        assert!(stdout(&ended).starts_with("refused"), "{path}: {ended:?}");
    }
}

#[test]
fn a_result_and_a_word_about_the_outcome_are_heard() {
    let Some((node, module)) = compiled() else { return };
    let said = order(&node, module, &["say", r#"{"outcome":"snooze","for":"5m","message":"later"}"#, "[1,2]"]);
    let here = work(&said);
    let ended = node.end_of(said);
    assert_eq!((ended.outcome.word(), ended.outcome.message()), ("snoozed", Some("later")), "{ended:?}");
    assert_eq!(ended.outputs.result, Some(BlobRef::of(b"[1,2]")));
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0, "nothing of that stays among its files");
}

#[test]
fn a_program_that_eats_memory_learns_its_limit() {
    let Some((node, module)) = compiled() else { return };
    let limits = Limits { memory_bytes: Some(16 << 20), ..Limits::default() };
    let ended = node.end_of(Order { limits, ..order(&node, module, &["eat"]) });
    assert_eq!(ended.outcome, Outcome::error("needed more than 16 MiB of memory (memory limit): exit code 3"));
    let eaten: u64 = stdout(&ended).trim().parse().unwrap();
    assert!((8..16).contains(&eaten), "{eaten} MiB");
}

#[test]
fn deep_recursion_and_abort_are_traps() {
    let Some((node, module)) = compiled() else { return };
    for mode in ["recurse", "abort"] {
        let ended = node.end_of(order(&node, module, &[mode]));
        assert_eq!(ended.outcome.word(), "error", "{ended:?}");
        assert!(ended.outcome.message().unwrap().starts_with("trap: "), "{ended:?}");
    }
}

#[test]
fn what_was_written_before_a_cancel_is_kept() {
    let Some((node, module)) = compiled() else { return };
    let order = order(&node, module, &["hang"]);
    let (run, log) = (order.run, jobmesh_executors::log_path(&order.directory, jobmesh_executors::Stream::Stdout));
    node.executors.run(order);
    node.started(run);
    let has_begun = || std::fs::read_to_string(&log).unwrap().contains("no end of line");
    until_folder(log.parent().unwrap(), "it says nothing", has_begun);
    node.executors.stop(run, StopReason::Cancel);
    let ended = node.ended(run);
    assert_eq!((ended.outcome.clone(), stdout(&ended).as_str()), (Outcome::Cancelled, "no end of line"), "{ended:?}");
}

/// A worker had no limit on the size of a file, and a file that was removed while it was open was never found: one module
/// could fill the disk.
#[test]
fn a_file_without_a_name_is_no_way_round_the_disk_limit() {
    let Some((node, module)) = compiled() else { return };
    // The kernel ends the one that makes a file too large; a look, the one that holds some less than that.
    for mebibytes in ["200", "9"] {
        let limits = Limits { disk_bytes: Some(8 << 20), log_bytes_max: 1 << 20, ..Limits::default() };
        let ended = node.end_of(Order { limits, ..order(&node, module, &["swell", mebibytes]) });
        let message = "used more than 8 MiB of disk (disk limit)".to_owned();
        assert_eq!(ended.outcome, Outcome::Permanent { message }, "{ended:?}");
    }
}
