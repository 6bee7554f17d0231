//! What every executor owes the runtime.
//!
//! Each kind of work has a function that makes its [`Tasks`], or says what this machine lacks for them; then all of them
//! pass the same checks. A new executor adds its function to [`KINDS`] and nothing else; one that needs an engine beside
//! the node calls [`conforms`] where it has one.

mod server;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jobmesh_executors::{Ended, Event, Limits, Order, StopReason, Stream, log_path, result_path};
use jobmesh_protocol::task::{EmbeddingTask, HttpTask, LlmTask, LuaTask, ProcessTask, Task, WasmTask};
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome};

use crate::harness::{LEVEL, Node, Tools, command};
use server::Server;

/// Tasks of one executor with a known end. What a kind of work can't do it has no task for.
pub(crate) struct Tasks {
    /// Succeeds.
    pub(crate) ok: Task,
    /// Fails, and may work another time.
    pub(crate) failing: Task,
    /// Goes on until it is stopped.
    pub(crate) endless: Task,
    /// Goes on whatever it is asked, and must be killed; only for code that hears of it at all.
    pub(crate) stubborn: Option<Task>,
    /// Writes [`GREETING`] to standard output.
    pub(crate) greeting: Option<Task>,
    /// Writes without end.
    pub(crate) noisy: Option<Task>,
    /// Writes 8 MiB or more into its working directory, and goes on.
    pub(crate) filling: Option<Task>,
    /// Writes what it reads on standard input.
    pub(crate) echoing: Option<Box<dyn Fn(BlobRef) -> Task>>,
    /// Says that its result is [`RESULT`].
    pub(crate) telling: Option<Task>,
    /// Writes the variable `GREETING` of its environment.
    pub(crate) reading: Option<Task>,
    /// The level at which its runs are kept apart, at least.
    pub(crate) isolation: Isolation,
}

/// What a greeting says.
const GREETING: &str = "hello\n";
/// What a result is.
const RESULT: &[u8] = b"{\"answer\":42}";
/// Most bytes that a noisy task may write.
const NOISE_MAX: u64 = 1 << 20;
/// Most room on the disk that a filling task may take.
const DISK_MAX: u64 = 4 << 20;

/// Every kind of work that has an executor.
const KINDS: &[Kind] = &[
    Kind { name: "process", make: process, node: Node::start },
    Kind { name: "wasm", make: wasm, node: Node::start },
    Kind { name: "lua", make: lua, node: Node::start },
    Kind { name: "http", make: http, node: Node::start },
    Kind { name: "llm", make: llm, node: asking },
    Kind { name: "embedding", make: embedding, node: asking },
];

/// One kind of work.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) make: fn(&Node) -> Tasks,
    /// Starts a node that runs them, with so many slots.
    pub(crate) node: fn(u16) -> Node,
}

impl Kind {
    /// A node with its tasks.
    fn start(&self, slots: u16) -> (Node, Tasks) {
        let node = (self.node)(slots);
        let tasks = (self.make)(&node);
        (node, tasks)
    }

    /// What this machine lacks for it, if it lacks something.
    fn lacks(&self) -> Option<String> {
        let probe = (self.node)(1).executors.probe().into_iter().find(|probe| probe.executor == self.name);
        let Some(probe) = probe else { return Some("it is not probed".to_owned()) };
        probe.isolation.is_none().then(|| probe.lacks.join("; "))
    }
}

fn process(_node: &Node) -> Tasks {
    let script = |text: &str| command(&["sh", "-c", text]);
    Tasks {
        ok: command(&["true"]),
        failing: command(&["false"]),
        endless: command(&["sleep", "600"]),
        stubborn: Some(script("trap '' TERM; while :; do sleep 600; done")),
        greeting: Some(command(&["echo", "hello"])),
        noisy: Some(command(&["yes"])),
        filling: Some(script("head -c 8388608 /dev/zero > big; sleep 600")),
        echoing: Some(Box::new(|blob| {
            Task::Process(ProcessTask { stdin: Some(blob), ..ProcessTask::new(vec!["cat".to_owned()]) })
        })),
        telling: Some(script("printf '{\"answer\":42}' > \"$JOBMESH_RESULT\"")),
        reading: Some(script("printf '%s\\n' \"$GREETING\"")),
        isolation: Isolation::Contained,
    }
}

/// A module that does this at its start. Its memory begins with two places of a vector; a greeting is at 64.
fn module(node: &Node, body: &str) -> WasmTask {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "hello\0a")
          (func (export "_start") {body}))"#
    );
    WasmTask::new(node.blob(text.as_bytes()))
}

fn wasm(node: &Node) -> Tasks {
    let task = |body: &str| Task::Wasm(module(node, body));
    let say =
        |bytes: u32| format!("(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {bytes}))");
    let write = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))";
    let echo = module(
        node,
        "(loop $more
           (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))
           (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
           (if (i32.eqz (i32.load (i32.const 32))) (then (return)))
           (i32.store (i32.const 4) (i32.load (i32.const 32)))
           (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
           (br $more))",
    );
    // 150 times 60,000 bytes into a file that is called hello.
    let fill = "(local $count i32)
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 1)
          (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 40)))
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
        (loop $more
          (drop (call $write (i32.load (i32.const 40)) (i32.const 0) (i32.const 1) (i32.const 32)))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $count) (i32.const 150))))
        (loop $end (br $end))";
    Tasks {
        ok: task(""),
        failing: task("(call $exit (i32.const 3))"),
        endless: task("(loop $more (br $more))"),
        stubborn: None,
        greeting: Some(task(&format!("{} {write}", say(6)))),
        filling: Some(task(fill)),
        noisy: Some(task(&format!("{} (loop $more {write} (br $more))", say(4096)))),
        echoing: Some(Box::new(move |blob| Task::Wasm(WasmTask { stdin: Some(blob), ..echo.clone() }))),
        telling: None,
        reading: None,
        isolation: Isolation::Contained,
    }
}

fn lua(_node: &Node) -> Tasks {
    let task = |text: &str| Task::Lua(LuaTask::new(text));
    Tasks {
        ok: task(""),
        failing: task("error('no')"),
        endless: task("while true do end"),
        stubborn: Some(task("while true do pcall(function() while true do end end) end")),
        greeting: Some(task("print('hello')")),
        noisy: Some(task("while true do print(string.rep('x', 1000)) end")),
        filling: Some(task("job.write('big', string.rep('x', 8388608)) while true do end")),
        echoing: Some(Box::new(|blob| {
            // What it reads ends with the line break that `print` writes.
            Task::Lua(LuaTask { stdin: Some(blob), ..LuaTask::new("print((job.input():gsub('\\n$', '')))") })
        })),
        telling: Some(task("return {answer = 42}")),
        reading: Some(task("print(job.env.GREETING)")),
        isolation: Isolation::Contained,
    }
}

fn http(_node: &Node) -> Tasks {
    let task = |path: &str| Task::Http(HttpTask::new(server().url(path)));
    Tasks {
        ok: task("/ok"),
        failing: task("/busy"),
        endless: task("/endless"),
        stubborn: None,
        greeting: Some(task("/greeting")),
        noisy: Some(task("/noisy")),
        filling: None,
        echoing: None,
        telling: None,
        reading: None,
        isolation: Isolation::None,
    }
}

fn llm(_node: &Node) -> Tasks {
    let ask =
        |provider: &str| Task::Llm(LlmTask { model: Some(format!("{provider}/small")), ..LlmTask::new("hello?") });
    Tasks {
        ok: ask("greeting"),
        failing: ask("busy"),
        endless: ask("endless"),
        stubborn: None,
        greeting: Some(ask("greeting")),
        noisy: Some(ask("noisy")),
        filling: None,
        echoing: None,
        telling: None,
        reading: None,
        isolation: Isolation::None,
    }
}

fn embedding(_node: &Node) -> Tasks {
    let ask = |provider: &str| {
        let model = Some(format!("{provider}/small"));
        Task::Embedding(EmbeddingTask { model, ..EmbeddingTask::new(["hello"]) })
    };
    Tasks {
        ok: ask("greeting"),
        failing: ask("busy"),
        endless: ask("endless"),
        stubborn: None,
        greeting: None,
        noisy: None,
        filling: None,
        echoing: None,
        telling: None,
        reading: None,
        isolation: Isolation::None,
    }
}

/// A node that may ask the models of the server.
fn asking(slots: u16) -> Node {
    Node::start_asking(slots, server().models())
}

/// Who answers requests and questions.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(GREETING))
}

/// A check of what one kind owes.
type Check = fn(&Kind);

const CHECKS: &[(&str, Check)] = &[
    ("outcomes are told apart", outcomes_are_told_apart),
    ("each reason to stop has its outcome", each_reason_to_stop_has_its_outcome),
    ("a stop that is not heard is a kill", a_stop_that_is_not_heard_is_a_kill),
    ("an order is answered once", an_order_is_answered_once),
    ("a waiting order is stopped without a slot", a_waiting_order_is_stopped_without_a_slot),
    ("shutdown ends everything", shutdown_ends_everything),
    ("a slot is as good as before", a_slot_is_as_good_as_before),
    ("what is said is kept by its hash", what_is_said_is_kept_by_its_hash),
    ("what is read is what was given", what_is_read_is_what_was_given),
    ("variables of the order win", variables_of_the_order_win),
    ("a result is kept apart from logs", a_result_is_kept_apart_from_logs),
    ("too much output is an end", too_much_output_is_an_end),
    ("too much on the disk is an end", too_much_on_the_disk_is_an_end),
    ("isolation is told and never less", isolation_is_told_and_never_less),
    ("nothing is left of a run that leaves nothing", nothing_is_left_of_a_run_that_leaves_nothing),
];

#[test]
fn every_executor_conforms() {
    KINDS.iter().for_each(conforms);
}

/// Puts one kind of work to the test.
pub(crate) fn conforms(kind: &Kind) {
    let name = kind.name;
    if let Some(lacks) = kind.lacks() {
        Tools::missing(&format!("the conformance of {name}"), &lacks);
        return;
    }
    let (node, tasks) = kind.start(1);
    for task in [&tasks.ok, &tasks.failing, &tasks.endless] {
        assert_eq!(task.executor(), name);
    }
    drop(node);
    for (check, run) in CHECKS {
        // What fails must say for whom.
        let failed = std::panic::catch_unwind(|| run(kind)).is_err();
        assert!(!failed, "the executor for {name} does not keep this: {check}");
    }
}

#[test]
fn the_process_executor_conforms_in_a_sandbox() {
    if Node::start_sandboxed(1).is_none() {
        return;
    }
    let make = |node: &Node| Tasks { isolation: Isolation::Sandboxed, ..process(node) };
    let kind = Kind { name: "process", make, node: Node::start };
    LEVEL.set(Isolation::Sandboxed);
    for (check, run) in CHECKS {
        let failed = std::panic::catch_unwind(|| run(&kind)).is_err();
        assert!(!failed, "a sandboxed process does not keep this: {check}");
    }
}

/// An executor that can't run anything here says why.
#[test]
fn every_kind_is_probed_under_its_own_name() {
    let probes = asking(1).executors.probe();
    for kind in KINDS {
        assert!(probes.iter().any(|probe| probe.executor == kind.name), "{} is not probed: {probes:?}", kind.name);
    }
    for probe in probes {
        assert!(probe.isolation.is_some() || !probe.lacks.is_empty(), "{probe:?} does not say what it lacks");
    }
}

fn end_of(node: &Node, task: &Task) -> Ended {
    node.end_of(node.order(task.clone()))
}

fn stdout(order: &Order, ended: &Ended) -> Vec<u8> {
    let kept = std::fs::read(log_path(&order.directory, Stream::Stdout)).unwrap_or_default();
    let named = ended.outputs.stdout.unwrap_or_else(|| panic!("nothing was said: {ended:?}"));
    assert_eq!(BlobRef::of(&kept), named, "the log is not what its hash says");
    kept
}

fn outcomes_are_told_apart(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    assert_eq!(end_of(&node, &tasks.ok).outcome, Outcome::Ok);
    let failed = end_of(&node, &tasks.failing);
    assert_eq!(failed.outcome.word(), "error", "{failed:?}");
    assert!(failed.outcome.message().is_some_and(|message| !message.is_empty()), "{failed:?}");
}

fn each_reason_to_stop_has_its_outcome(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let reasons = [
        (StopReason::Cancel, "cancelled"),
        (StopReason::Kill, "cancelled"),
        (StopReason::Timeout, "timeout"),
        (StopReason::LeaseEnded, "lost"),
        (StopReason::Shutdown, "released"),
    ];
    for (reason, word) in reasons {
        let order = node.order(tasks.endless.clone());
        let run = order.run;
        node.executors.run(order);
        node.is_under_way(run);
        node.executors.stop(run, reason);
        node.executors.stop(run, StopReason::Cancel);
        assert_eq!(node.ended(run).outcome.word(), word);
    }
}

fn a_stop_that_is_not_heard_is_a_kill(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(stubborn) = &tasks.stubborn else { return };
    let order = Order { kill_grace: DurationMillis(200), ..node.order(stubborn.clone()) };
    let run = order.run;
    node.executors.run(order);
    node.is_under_way(run);
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!(node.ended(run).outcome, Outcome::Cancelled);
}

fn an_order_is_answered_once(kind: &Kind) {
    let (node, tasks) = kind.start(2);
    let order = node.order(tasks.endless.clone());
    let run = order.run;
    node.executors.run(order.clone());
    node.executors.run(order);
    node.is_under_way(run);
    node.executors.stop(run, StopReason::Cancel);
    node.ended(run);
    node.executors.shutdown();
    assert!(!node.has_event(), "an order given twice was answered twice");
}

fn a_waiting_order_is_stopped_without_a_slot(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let (first, second) = (node.order(tasks.endless.clone()), node.order(tasks.endless.clone()));
    let (running, waiting) = (first.run, second.run);
    node.executors.run(first);
    node.is_under_way(running);
    node.executors.run(second);
    node.executors.stop(waiting, StopReason::Cancel);
    assert_eq!(node.ended_before(waiting, running).outcome, Outcome::Cancelled);
    assert_eq!(node.executors.running(), 1);
}

fn shutdown_ends_everything(kind: &Kind) {
    let (node, tasks) = kind.start(2);
    let orders: Vec<Order> = (0..4).map(|_| node.order(tasks.endless.clone())).collect();
    let first = orders.first().map(|order| order.run);
    for order in orders {
        node.executors.run(order);
    }
    if let Some(run) = first {
        node.is_under_way(run);
    }
    node.executors.shutdown();
    assert_eq!(node.executors.running(), 0);
    node.executors.run(node.order(tasks.ok.clone()));
    assert_eq!(node.executors.running(), 0, "an order after the shutdown was taken");
}

fn a_slot_is_as_good_as_before(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    for _ in 0..3 {
        let order = node.order(tasks.endless.clone());
        let run = order.run;
        node.executors.run(order);
        node.is_under_way(run);
        node.executors.stop(run, StopReason::Kill);
        node.ended(run);
        assert_eq!(end_of(&node, &tasks.ok).outcome, Outcome::Ok);
    }
}

fn what_is_said_is_kept_by_its_hash(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(greeting) = &tasks.greeting else { return };
    let order = node.order(greeting.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
    assert!(ended.inline.iter().any(|bytes| bytes == GREETING.as_bytes()), "what is short comes along: {ended:?}");
}

fn what_is_read_is_what_was_given(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(echoing) = &tasks.echoing else { return };
    let blob = node.blob(GREETING.as_bytes());
    let order = Order { stdin: Some(node.blob_path(blob)), ..node.order(echoing(blob)) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
    node.damage(blob);
    let ended = node.end_of(Order { stdin: order.stdin, ..node.order(echoing(blob)) });
    let message = ended.outcome.message().unwrap_or_default();
    assert!(ended.outcome.word() == "error" && message.contains("was damaged"), "{ended:?}");
    assert!(ended.outputs.stdout.is_none() && !node.blob_path(blob).exists(), "{ended:?}");
}

fn variables_of_the_order_win(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(reading) = &tasks.reading else { return };
    let mut task = reading.clone();
    if let Some(environment) = task.environment_mut() {
        environment.insert("GREETING".to_owned(), "of the task".to_owned());
    }
    let environment = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let order = Order { environment, ..node.order(task) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
}

fn a_result_is_kept_apart_from_logs(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(telling) = &tasks.telling else { return };
    let order = node.order(telling.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(ended.outputs.result, Some(BlobRef::of(RESULT)), "{ended:?}");
    let kept = std::fs::read(result_path(&order.directory)).ok();
    let told = ended.inline.iter().any(|bytes| bytes == RESULT);
    assert!(told || kept.as_deref() == Some(RESULT), "{ended:?}");
}

fn too_much_output_is_an_end(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(noisy) = &tasks.noisy else { return };
    let limits = Limits { log_bytes_max: NOISE_MAX, ..Limits::default() };
    let order = Order { limits, ..node.order(noisy.clone()) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    assert!(ended.outcome.message().is_some_and(|message| message.contains("log limit")), "{ended:?}");
    let sizes = [ended.outputs.stdout, ended.outputs.stderr].into_iter().flatten().map(|blob| blob.size);
    assert!(sizes.sum::<u64>() <= NOISE_MAX, "{ended:?}");
}

fn too_much_on_the_disk_is_an_end(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let Some(filling) = &tasks.filling else { return };
    let limits = Limits { disk_bytes: Some(DISK_MAX), ..Limits::default() };
    let ended = node.end_of(Order { limits, ..node.order(filling.clone()) });
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    assert!(ended.outcome.message().is_some_and(|message| message.contains("disk limit")), "{ended:?}");
}

fn isolation_is_told_and_never_less(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    for task in [&tasks.ok, &tasks.failing] {
        let ended = end_of(&node, task);
        assert!(ended.isolation >= tasks.isolation, "{ended:?}");
    }
}

fn nothing_is_left_of_a_run_that_leaves_nothing(kind: &Kind) {
    let (node, tasks) = kind.start(1);
    let order = node.order(tasks.ok.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok);
    let is_empty = ended.outputs.blobs().next().is_none();
    assert!(!is_empty || !order.directory.exists(), "{} is left", order.directory.display());
    assert_eq!(node.executors.running(), 0);
    assert!(!matches!(node.event_if_any(), Some(Event::Ended { .. })), "it ended twice");
}
