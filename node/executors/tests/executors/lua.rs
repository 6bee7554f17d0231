//! Scripts: what they can reach, and that none gets more than it may have or goes on for longer.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use jobmesh_executors::{Ended, Limits, Order, StopReason, result_path};
use jobmesh_protocol::task::{Content, LuaTask, Task};
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome};

use crate::harness::Node;

fn script(node: &Node, text: &str) -> Order {
    node.order(Task::Lua(LuaTask::new(text)))
}

fn run(node: &Node, text: &str) -> Ended {
    node.end_of(script(node, text))
}

/// The result of a script that must succeed.
fn result(node: &Node, text: &str) -> String {
    let order = script(node, text);
    let directory = order.directory.clone();
    let ended = node.end_of(order);
    assert_eq!(ended.outcome, Outcome::Ok, "{text}: {ended:?}");
    std::fs::read_to_string(result_path(&directory)).unwrap()
}

fn message(ended: &Ended) -> &str {
    ended.outcome.message().unwrap_or_else(|| panic!("{ended:?}"))
}

#[test]
fn a_script_prints_returns_and_is_kept_apart() {
    let node = Node::start(1);
    let ended = run(&node, "print('out', 1, nil, true) job.warn('err') return {answer = 42, list = {1, 2}}");
    assert_eq!((ended.outcome.clone(), ended.exit.code), (Outcome::Ok, Some(0)), "{ended:?}");
    let expected = [&b"out\t1\tnil\ttrue\n"[..], b"err\n", br#"{"answer":42,"list":[1,2]}"#].map(<[u8]>::to_vec);
    assert_eq!(ended.inline, expected);
    assert_eq!(ended.usage.fuel, None);
    let probe = node.executors.probe().into_iter().find(|probe| probe.executor == "lua").unwrap();
    assert_eq!(Some(ended.isolation), probe.isolation, "{probe:?}");
    if cfg!(target_os = "linux") && probe.lacks.is_empty() {
        assert_eq!(ended.isolation, Isolation::Sandboxed);
    }
}

#[test]
fn a_script_finds_what_it_was_given() {
    let node = Node::start(1);
    let text = "return {job.args, job.env.COLOUR, job.id, job.attempt, job.input() .. job.input()}";
    let mut order = script(&node, "");
    let (input, script) = (node.blob(b"input"), node.blob(text.as_bytes()));
    order.task = Task::Lua(LuaTask {
        script: Content::Blob(script),
        argv: vec!["a".to_owned(), "b".to_owned()],
        environment: [("COLOUR".to_owned(), "red".to_owned())].into(),
        stdin: Some(input),
    });
    order.stdin = Some(order.blobs.join(input.hash.to_string()));
    order.environment =
        [("JOBMESH_JOB", "7"), ("JOBMESH_ATTEMPT", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let ended = node.end_of(order);
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(ended.outputs.result, Some(BlobRef::of(br#"[["a","b"],"red","7",2,"inputinput"]"#)), "{ended:?}");
}

/// All that a worker is told was one variable, and one of more than 128 KiB fails the start of a program on Linux.
#[test]
fn a_long_script_with_long_arguments_and_variables_runs() {
    let node = Node::start(1);
    let text = format!("-- {}\nreturn {{#job.args[1], #job.env.KEYS, job.args[1]:byte(1)}}", "x".repeat(200 << 10));
    let mut order = script(&node, "");
    order.task = Task::Lua(LuaTask {
        script: Content::Blob(node.blob(text.as_bytes())),
        // Each of these takes six bytes where they travel.
        argv: vec!["\u{1}".repeat(50 << 10)],
        environment: [].into(),
        stdin: None,
    });
    order.environment = [("KEYS".to_owned(), "k".repeat(250 << 10))].into();
    let ended = node.end_of(order);
    assert_eq!(ended.outputs.result, Some(BlobRef::of(b"[51200,256000,1]")), "{ended:?}");
}

#[test]
fn a_script_says_how_it_ended_and_no_pcall_keeps_it_from_that() {
    let node = Node::start(1);
    let message = || "why".to_owned();
    let cases = [
        ("job.fail('why')", Outcome::error("why")),
        ("job.fail('why', 1.5)", Outcome::Error { message: message(), retry_after_ms: Some(DurationMillis(1500)) }),
        ("pcall(job.permanent, 'why') print('still here')", Outcome::Permanent { message: message() }),
        ("job.snooze(60, 'why')", Outcome::Snoozed { for_ms: DurationMillis(60_000), reason: Some(message()) }),
        ("job.cancel('why')", Outcome::SelfCancelled { reason: message() }),
    ];
    for (text, expected) in cases {
        let ended = run(&node, text);
        assert_eq!((ended.outcome, ended.outputs.stdout), (expected, None), "{text}");
    }
}

#[test]
fn errors_name_the_line_and_what_can_be_done_is_told_apart() {
    let node = Node::start(1);
    let cases = [
        ("local x\n\nerror('boom')", "error", "script:3: boom"),
        ("\nlocal function f() job.read('missing') end\nf()", "error", "script:2: missing: No such file"),
        ("x = = 1", "permanent", "syntax error: script:1:"),
        ("return print", "permanent", "result is a function"),
        ("return 0/0", "permanent", "result is NaN"),
        ("\x1bLua", "permanent", "syntax error"),
        ("job.snooze(-1)", "error", "-1 is no number of seconds"),
        ("job.progress(0.5)", "error", "no socket"),
        ("job.args[1] = 'x'", "error", "readonly"),
        ("string.rep = nil", "error", "readonly"),
        ("error({code = 1})", "error", ""),
    ];
    for (text, word, expected) in cases {
        let ended = run(&node, text);
        assert_eq!(ended.outcome.word(), word, "{text}: {ended:?}");
        assert!(message(&ended).contains(expected), "{text}: {ended:?}");
    }
}

#[test]
fn nothing_of_the_machine_is_reachable() {
    let node = Node::start(1);
    assert_eq!(
        result(&node, "return {require == nil, io == nil, os == nil, debug == nil or debug.getregistry == nil}"),
        "[true,true,true,true]"
    );
    std::fs::write(node.home.path().join("secret"), "secret").unwrap();
    let secret = node.home.path().join("secret");
    for path in ["../stdout", "../../../secret", secret.to_str().unwrap(), "/etc/passwd", "a/../../stdout"] {
        for call in ["read", "list", "remove"] {
            let ended = run(&node, &format!("job.write('a/x', '') job.{call}({path:?})"));
            assert_eq!(ended.outcome.word(), "error", "{call} {path}: {ended:?}");
        }
        assert_eq!(run(&node, &format!("job.write({path:?}, 'x')")).outcome.word(), "error", "write {path}");
    }
    assert!(secret.exists());
    // Code that was compiled elsewhere isn't checked by anybody.
    assert_eq!(run(&node, "return pcall(loadstring, '\\6\\3') and 1").outcome, Outcome::Ok);
    assert_eq!(run(&node, "loadstring('\\6\\3')()").outcome.word(), "permanent");
}

#[test]
fn files_of_the_working_directory_are_there() {
    let node = Node::start(1);
    let text = "job.write('a/b.txt', 'x\\0y') job.write('c', 'z') job.remove('c') job.remove('c')
        return {job.list(), job.list('a'), #job.read('a/b.txt')}";
    assert_eq!(result(&node, text), r#"[["a"],["b.txt"],3]"#);
    assert_eq!(result(&node, "job.result({1}) job.result('last')"), r#""last""#);
    assert_eq!(result(&node, r#"return job.decode('{"a":[1,null]}').a[1] + #job.encode({1})"#), "4");
}

/// Each of these goes on for ever in some way, and catches what can be caught.
const ENDLESS: [&str; 7] = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do pcall(error) end",
    "coroutine.wrap(function() while true do coroutine.yield(pcall(error)) end end)() while true do end",
    "local s = ('a'):rep(28) return s:find(('a?'):rep(28) .. ('a'):rep(28) .. 'b')",
    "setmetatable({}, {__index = function(t, k) while true do end end}).x = nil local _ = setmetatable({}, {__index = function() while true do end end}).x",
    "for i = 1, math.huge do local ok = xpcall(function() error('x') end, function() while true do end end) end",
];

#[test]
fn an_endless_script_is_stopped_at_once() {
    let node = Node::start(2);
    for text in ENDLESS {
        let order = script(&node, text);
        let id = order.run;
        node.executors.run(order);
        node.started(id);
        let asked = Instant::now();
        node.executors.stop(id, StopReason::Timeout);
        let ended = node.ended(id);
        assert_eq!(ended.outcome, Outcome::Timeout, "{text}: {ended:?}");
        assert!(asked.elapsed() < Duration::from_secs(4), "{text}: it did not wait for the grace to be over");
    }
}

/// Each of these wants more memory than there is.
const GREEDY: [&str; 7] = [
    "local t = {} while true do t[#t + 1] = {} end",
    "local s = 'x' while true do s = s .. s end",
    "return ('x'):rep(1e9)",
    "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "return buffer.create(1e9)",
    "return table.create(6e7, 0)",
    "local t = {} for i = 1, math.huge do t[tostring(i)] = ('y'):rep(1000) end",
];

#[test]
fn a_greedy_script_learns_its_limit() {
    let node = Node::start(1);
    let limits = Limits { memory_bytes: Some(24 << 20), ..Limits::default() };
    for text in GREEDY {
        let ended = node.end_of(Order { limits, ..script(&node, text) });
        assert_eq!(ended.outcome, Outcome::error("needed more than 24 MiB of memory (memory limit)"), "{text}");
    }
    let caught =
        "local t = {} local ok, why = pcall(function() while true do t[#t + 1] = tostring(#t):rep(1e5) end end)
        t = nil return {ok, why}";
    let ended = node.end_of(Order { limits, ..script(&node, caught) });
    assert_eq!(ended.outputs.result, Some(BlobRef::of(br#"[false,"not enough memory"]"#)), "{ended:?}");
}

#[test]
fn what_recurses_without_end_is_an_error() {
    let node = Node::start(1);
    let nested = format!("return {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let blob = node.blob(nested.as_bytes());
    let deep = node.order(Task::Lua(LuaTask { script: Content::Blob(blob), ..LuaTask::new("") }));
    assert_eq!(node.end_of(deep).outcome.word(), "permanent");
    let cases = [
        "local function f() return 1 + f() end return f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local t = {} t.t = t return job.encode(t)",
    ];
    for text in cases {
        let ended = run(&node, text);
        assert_eq!(ended.outcome.word(), "error", "{text}: {ended:?}");
    }
    assert_eq!(run(&node, "return 1").outcome, Outcome::Ok);
}

#[test]
fn a_flood_of_lines_ends_at_the_limit() {
    let node = Node::start(1);
    let limits = Limits { log_bytes_max: 100_000, ..Limits::default() };
    let ended = node.end_of(Order { limits, ..script(&node, "while true do print(('x'):rep(1000)) end") });
    assert!(message(&ended).contains("log limit"), "{ended:?}");
}

#[test]
fn what_a_script_tells_its_node_goes_over_the_socket() {
    let node = Node::start(1);
    let path = node.home.path().join("task.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut order = script(
        &node,
        "job.progress(0.5, 'half') job.heartbeat() job.checkpoint('page', '42')
        local ok, why = pcall(function() job.checkpoint('bad', 'x') end)
        local page, number = job.checkpoints().page, job.submit({job_type = 't', task = {noop = 1}})
        -- Now the node is gone.
        job.heartbeat() job.progress(1)
        return {page, number, why, select(2, pcall(function() job.checkpoint('late', 'x') end))}",
    );
    order.environment = [("JOBMESH_SOCKET", path.to_str().unwrap()), ("JOBMESH_TOKEN", "secret")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let run = order.run.to_string();
    let served = std::thread::spawn(move || {
        let answers = [
            r#"{"ok":true}"#,
            r#"{"ok":true}"#,
            r#"{"ok":true}"#,
            r#"{"ok":true}"#,
            r#"{"error":{"code":"conflict","message":"too many"}}"#,
            r#"{"ok":true,"checkpoints":{"page":"42"}}"#,
            r#"{"ok":true,"submitted":{"number":9}}"#,
        ];
        let mut lines = Vec::new();
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        for answer in answers {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            lines.push(line);
            reader.get_mut().write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        lines
    });
    let ended = node.end_of(order);
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    let told = String::from_utf8_lossy(&ended.inline[0]).into_owned();
    assert!(
        told.starts_with(r#"["42",9,"script:2: too many","script:6: the connection to the node is lost"#),
        "{told}"
    );
    let lines = served.join().unwrap();
    assert!(lines[0].contains(&run) && lines[0].contains("secret"), "{lines:?}");
    assert!(lines[1].contains(r#""progress":0.5"#) && lines[1].contains("half"), "{lines:?}");
    assert!(lines[6].contains("idempotency_key"), "{lines:?}");
}
