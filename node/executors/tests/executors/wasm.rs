//! Modules written by hand: what the executor says of each way to end, and that none gets more than it may have.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Duration, Instant};

use jobmesh_executors::{Ended, Limits, Order, StopReason};
use jobmesh_protocol::task::{Task, WasmTask};
use jobmesh_protocol::{Isolation, Outcome};

use crate::harness::Node;

/// An order to run a module that is given as text.
pub(crate) fn module(node: &Node, text: &str) -> Order {
    node.order(Task::Wasm(WasmTask::new(node.blob(text.as_bytes()))))
}

/// A module whose `_start` is `body`, with two pages of memory.
fn start(node: &Node, body: &str) -> Order {
    module(
        node,
        &format!(
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 2)
                (table $table 1 funcref)
                (data (i32.const 0) "\10\00\00\00\06\00\00\00")
                (data (i32.const 16) "hello\n")
                (func $recurse (call $recurse) (drop (i32.const 0)))
                (func (export "_start") {body}))"#
        ),
    )
}

fn fuel(order: Order, fuel: u64) -> Order {
    let Task::Wasm(task) = order.task else { panic!("{:?}", order.task) };
    Order { task: Task::Wasm(WasmTask { fuel: Some(fuel), ..task }), ..order }
}

fn message(ended: &Ended) -> &str {
    ended.outcome.message().unwrap_or_else(|| panic!("{ended:?}"))
}

const HELLO: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
const ENDLESS: &str = "(loop $again (br $again))";

#[test]
fn a_module_says_hello_is_counted_and_kept_apart() {
    let node = Node::start(1);
    let ended = node.end_of(start(&node, HELLO));
    assert_eq!((ended.outcome.clone(), ended.exit.code), (Outcome::Ok, Some(0)), "{ended:?}");
    assert_eq!(ended.inline, [b"hello\n".to_vec()]);
    assert!(ended.usage.fuel.unwrap() > 0);
    // On a system that has every wall; on another one it is said to be less.
    let walled = node.executors.probe().into_iter().find(|probe| probe.executor == "wasm").unwrap();
    assert_eq!(Some(ended.isolation), walled.isolation, "{walled:?}");
    if cfg!(target_os = "linux") && walled.lacks.is_empty() {
        assert_eq!(ended.isolation, Isolation::Untrusted);
    }
}

#[test]
fn a_module_that_wrote_nothing_leaves_no_directory() {
    let node = Node::start(1);
    let order = start(&node, "");
    let directory = order.directory.clone();
    assert_eq!(node.end_of(order).outcome, Outcome::Ok);
    assert!(!directory.exists());
}

#[test]
fn an_exit_code_is_one_whatever_its_size() {
    let node = Node::start(1);
    for (given, code) in [(0, 0), (3, 3), (125, 125), (200, 200), (256, 0)] {
        let ended = node.end_of(start(&node, &format!("(call $exit (i32.const {given}))")));
        assert_eq!(ended.exit.code, Some(code), "{ended:?}");
        let expected = if code == 0 { Outcome::Ok } else { Outcome::error(format!("exit code {code}")) };
        assert_eq!(ended.outcome, expected);
    }
}

#[test]
fn the_same_work_takes_the_same_fuel() {
    let node = Node::start(2);
    let count = r"(local $n i32) (local.set $n (i32.const 100000))
        (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let used = [0, 1].map(|_| node.end_of(start(&node, count)).usage.fuel.unwrap());
    assert!(used[0] > 100_000 && used[0] == used[1], "{used:?}");
    // Just enough is enough, and one less is not.
    assert_eq!(node.end_of(fuel(start(&node, count), used[0])).outcome, Outcome::Ok);
    let ended = node.end_of(fuel(start(&node, count), used[0] / 2));
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    assert_eq!(message(&ended), format!("used more than {} fuel (fuel limit)", used[0] / 2));
}

#[test]
fn an_endless_module_is_ended_by_fuel_by_a_stop_and_by_its_time() {
    let node = Node::start(1);
    let ended = node.end_of(fuel(start(&node, ENDLESS), 50_000_000));
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    for (reason, word) in [(StopReason::Cancel, "cancelled"), (StopReason::Timeout, "timeout")] {
        let order = start(&node, ENDLESS);
        let run = order.run;
        node.executors.run(order);
        node.started(run);
        let asked = Instant::now();
        node.executors.stop(run, reason);
        assert_eq!(node.ended(run).outcome.word(), word);
        assert!(asked.elapsed() < Duration::from_secs(4), "it did not wait for the grace to be over");
    }
}

#[test]
fn memory_is_limited_and_the_message_says_so() {
    let node = Node::start(1);
    // Grows until it is told no, and takes that for a failure.
    let bomb =
        r"(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $exit (i32.const 9))";
    let limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    let ended = node.end_of(Order { limits, ..start(&node, bomb) });
    assert_eq!(ended.outcome, Outcome::error("needed more than 32 MiB of memory (memory limit): exit code 9"));
    // One that can do without goes on.
    let modest = r"(drop (memory.grow (i32.const 60000)))";
    assert_eq!(node.end_of(Order { limits, ..start(&node, modest) }).outcome, Outcome::Ok);
    let large = r#"(module (memory (export "memory") 1000) (func (export "_start")))"#;
    let ended = node.end_of(Order { limits, ..module(&node, large) });
    assert!(message(&ended).contains("needed more than 32 MiB"), "{ended:?}");
}

#[test]
fn recursion_tables_and_traps_end_the_attempt_only() {
    let node = Node::start(1);
    let cases = [
        ("(call $recurse)", "call stack exhausted"),
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const -4)))", "out of bounds memory access"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
    ];
    for (body, expected) in cases {
        let ended = node.end_of(start(&node, body));
        assert_eq!(ended.outcome.word(), "error", "{ended:?}");
        assert!(message(&ended).starts_with("trap: ") && message(&ended).contains(expected), "{ended:?}");
    }
    let table = r"(loop $again (br_if $again
        (i32.ne (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1))))";
    assert_eq!(node.end_of(start(&node, table)).outcome, Outcome::Ok);
    assert_eq!(node.end_of(start(&node, HELLO)).outcome, Outcome::Ok);
}

#[test]
fn what_is_no_module_of_wasi_is_refused_by_name() {
    let node = Node::start(1);
    let import = r#"(module (import "env" "system" (func (param i32))) (func (export "_start")))"#;
    let unknown = r#"(module (import "wasi_snapshot_preview1" "sock_make" (func)) (func (export "_start")))"#;
    let other = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func)) (func (export "_start")))"#;
    let cases = [
        (module(&node, import), "imports env.system"),
        (module(&node, unknown), "sock_make"),
        (module(&node, other), "proc_exit"),
        (module(&node, "(module)"), "no function `_start`"),
        (module(&node, "(module (func $f))) )"), "not valid"),
        (node.order(Task::Wasm(WasmTask::new(node.blob(b"\x7fELF")))), "not valid"),
        (node.order(Task::Wasm(WasmTask::new(node.blob(b"")))), "not valid"),
    ];
    for (order, expected) in cases {
        let ended = node.end_of(order);
        assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
        assert!(message(&ended).contains(expected), "{ended:?}");
    }
    let mut order = start(&node, HELLO);
    order.blobs = node.home.path().join("none");
    assert_eq!(node.end_of(order).outcome.word(), "error", "another try may find it fetched");
}

#[test]
fn a_flood_of_output_ends_at_the_limit() {
    let node = Node::start(1);
    let flood = format!("(loop $again {HELLO} (br $again))");
    let limits = Limits { log_bytes_max: 100_000, ..Limits::default() };
    let ended = node.end_of(Order { limits, ..start(&node, &flood) });
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    assert!(message(&ended).contains("log limit"), "{ended:?}");
}

#[test]
fn a_level_that_the_kind_does_not_have_is_refused_before_it_runs() {
    let node = Node::start(1);
    let order = node.order(Task::Lua(jobmesh_protocol::task::LuaTask::new("print('ran')")));
    let ended = node.end_of(Order { isolation: Isolation::Untrusted, ..order });
    assert_eq!((ended.outcome.word(), ended.outputs.stdout), ("permanent", None), "{ended:?}");
    assert!(message(&ended).contains("untrusted"), "{ended:?}");
}
