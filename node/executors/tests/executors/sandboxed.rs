//! What a sandboxed process can't do, and that it is a run like any other for the rest.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use jobmesh_executors::{Ended, Limits, Order, StopReason};
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome};
use jobmesh_tests::{until_folder, with_argument};

use crate::harness::{Node, exists};

/// The first short output, which these tests take for standard output.
fn text(ended: &Ended) -> String {
    ended.inline.first().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// Runs a script of a peer, without network, and expects its end to be a success.
fn output(node: &Node, script: &str) -> String {
    let ended = node.end_of(foreign(node.script(script)));
    assert_eq!(ended.outcome, Outcome::Ok, "{}: {ended:?}", text(&ended));
    assert_eq!(ended.isolation, Isolation::Sandboxed);
    text(&ended)
}

fn foreign(order: Order) -> Order {
    Order { is_foreign: true, network: false, ..order }
}

fn python(node: &Node, script: &str) -> String {
    let ended = node.end_of(foreign(node.command(&["python3", "-c", script])));
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    text(&ended)
}

/// One that was submitted before the node's owner wanted sandboxes ran in an empty directory instead of its own.
#[test]
fn a_directory_of_the_machine_is_refused_and_nothing_runs() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let place = tempfile::tempdir().unwrap();
    let mut order = node.script("echo ran; echo x > written");
    let Task::Process(task) = &mut order.task else { panic!("not a command") };
    task.directory = Some(place.path().to_str().unwrap().to_owned());
    let ended = node.end_of(order);
    assert_eq!((ended.outcome.word(), text(&ended).as_str()), ("permanent", ""), "{ended:?}");
    assert!(ended.outcome.message().unwrap_or_default().contains("which a sandbox does not show"), "{ended:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn exit_codes_and_signals_come_through() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    for code in [1, 7, 125, 255] {
        let ended = node.end_of(node.script(&format!("exit {code}")));
        assert_eq!(ended.exit, Exit { code: Some(code), signal: None }, "{ended:?}");
    }
    for signal in [1, 2, 6, 9, 10, 11, 13, 14, 15, 31] {
        let ended = node.end_of(node.script(&format!("kill -{signal} $$")));
        assert_eq!(ended.exit, Exit { code: None, signal: Some(signal) }, "{ended:?}");
    }
}

#[test]
fn words_results_input_and_working_directory_are_where_they_always_are() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let blob = node.blob(b"from outside\n");
    let mut order = foreign(node.script(
        "cat; pwd; echo $HOME; echo made > made; cat made; printf 41 > $JOBMESH_RESULT; echo err > /dev/stderr; \
         printf '{\"outcome\":\"snooze\",\"for\":\"5m\",\"message\":\"later\"}' > $JOBMESH_OUTCOME",
    ));
    order.stdin = Some(node.blobs().join(blob.hash.to_string()));
    if let Task::Process(task) = &mut order.task {
        task.stdin = Some(blob);
        task.environment.insert("LD_PRELOAD".to_owned(), "/none.so".to_owned());
    }
    let directory = order.directory.clone();
    let ended = node.end_of(order);
    let expected = Outcome::Snoozed { for_ms: DurationMillis(300_000), reason: Some("later".to_owned()) };
    assert_eq!(ended.outcome, expected, "{ended:?}");
    assert_eq!(text(&ended), "from outside\n/work\n/work\nmade\n");
    assert_eq!(fs::read(directory.join("result")).unwrap(), b"41");
    assert!(!directory.join("work").exists(), "nobody here looks for what a peer's job has written");
    assert!(!directory.join("words").exists());
}

#[test]
fn a_link_in_place_of_a_result_leads_nowhere() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let ended = node.end_of(foreign(node.script("ln -s /etc/passwd $JOBMESH_RESULT; mkdir -p /run/jobmesh/words/x/y")));
    assert_eq!(ended.outcome.word(), "error", "{ended:?}");
    assert_eq!(ended.outputs.result, None);
}

#[test]
fn nothing_of_the_machine_is_seen() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let secret = node.home.path().join("node.key");
    fs::write(&secret, "secret").unwrap();
    let other = node.home.path().join("runs/other");
    fs::create_dir_all(&other).unwrap();
    let script = format!(
        "for f in {} {} /etc/shadow /root/.ssh /sys/kernel /var/log /boot /run/dbus; do \
         if ls $f >/dev/null 2>&1; then echo seen $f; fi; done; ls /root /home /tmp; ls -d /proc/[0-9]* | wc -l",
        secret.display(),
        other.display()
    );
    let seen = output(&node, &script);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 6, "{seen}");
    assert!(!seen.contains("seen"), "{seen}");
    assert!(lines.last().unwrap().trim().parse::<u32>().unwrap() <= 5, "{seen}");
    let written = output(
        &node,
        "for f in /usr/x /etc/x /x /proc/sys/kernel/core_pattern /dev/x; do \
         if (echo x > $f) 2>/dev/null; then echo wrote $f; fi; done; chmod 777 /usr/bin 2>/dev/null && echo changed; \
         mknod node c 1 3 2>/dev/null && echo made; ls /dev; cat /proc/self/status | grep -E 'CapEff|NoNewPrivs|Seccomp:'",
    );
    assert!(!written.contains("wrote") && !written.contains("changed") && !written.contains("made"), "{written}");
    assert!(written.contains("CapEff:\t0000000000000000") && written.contains("NoNewPrivs:\t1"), "{written}");
    assert!(written.contains("Seccomp:\t2"), "{written}");
}

/// Makes system calls by their numbers and says which error each gave.
const CALLS: &str = "
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
calls = {'io_uring_setup': (425, 425, 8, 0), 'ptrace': (101, 117, 0), 'unshare': (272, 97, 0x10000000),
         'mount': (165, 40, 0), 'bpf': (321, 280, 0), 'keyctl': (250, 219, 0), 'perf': (298, 241, 0),
         'userfaultfd': (323, 282, 0), 'alg': (41, 198, 38, 5, 0), 'netlink': (41, 198, 16, 3, 0),
         'vsock': (41, 198, 40, 1, 0), 'packet': (41, 198, 17, 3, 0), 'clone3': (435, 435, 0, 0),
         'setns': (308, 268, 0, 0), 'personality': (135, 92, 0x40000), 'open_by_handle_at': (304, 265, 0, 0, 0),
         'process_vm_readv': (310, 270, 1, 0, 0, 0, 0, 0), 'clone_newuser': (56, 220, 0x10000011, 0, 0, 0, 0)}
for name, (a, b, *rest) in calls.items():
    got = libc.syscall(a if x86 else b, *rest)
    print(name, got, ctypes.get_errno())
";

#[test]
fn dangerous_calls_are_refused() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let said = python(&node, CALLS);
    assert_eq!(said.lines().count(), 18, "{said}");
    for line in said.lines() {
        let expected = if line.starts_with("io_uring") || line.starts_with("clone3") { " -1 38" } else { " -1 1" };
        assert!(line.ends_with(expected), "{said}");
    }
}

#[test]
fn there_is_no_network() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = python(
        &node,
        &format!(
            "import socket\nfor a in [('127.0.0.1', {port}), ('169.254.169.254', 80), ('10.0.0.1', 22)]:\n  \
             s = socket.socket(); s.settimeout(5)\n  try:\n    s.connect(a); print('connected', a)\n  \
             except OSError as e: print('refused')\n"
        ),
    );
    assert_eq!(said, "refused\nrefused\nrefused\n");
    let mut order = foreign(node.command(&[
        "python3",
        "-c",
        &format!("import socket; socket.create_connection(('127.0.0.1', {port})); print('connected')"),
    ]));
    order.network = true;
    assert_eq!(text(&node.end_of(order)), "connected\n", "what is granted is there");
}

#[test]
fn nobody_outlives_it_and_nobody_else_is_reached() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    // Both are known by how long they sleep, whatever they do with their names and their environment.
    let [beside, within] = ["600.25", "600.75"];
    let mut bystander = std::process::Command::new("sleep").arg(beside).spawn().unwrap();
    let said = output(
        &node,
        &format!(
            "mkfifo up; setsid sh -c 'trap \"\" TERM HUP; echo hidden > up; env -i sleep {within}' & \
             cat up; trap '' TERM; kill -TERM -1; kill -KILL 1; echo still"
        ),
    );
    assert_eq!(said, "hidden\nstill\n");
    assert_eq!(bystander.try_wait().unwrap(), None);
    assert_eq!(with_argument(beside).len(), 1, "who sleeps is found");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(with_argument(within).is_empty() && node.executors.running() == 0);
}

#[test]
fn term_reaches_the_program_and_its_own_exit_code_counts() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let order = foreign(node.script("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"));
    let (run, directory) = (order.run, order.directory.clone());
    node.executors.run(order);
    let process = node.started(run);
    until_folder(&directory, "it said nothing", || {
        fs::read(directory.join("stdout")).is_ok_and(|said| said == b"up\n")
    });
    node.executors.stop(run, StopReason::Cancel);
    let ended = node.ended(run);
    assert_eq!((ended.outcome.clone(), ended.exit.code), (Outcome::Cancelled, Some(3)), "{ended:?}");
    assert_eq!(text(&ended), "up\nbye\n");
    assert!(!exists(process.pid));
}

/// The signal came before there was a program that it could reach, and the run went on until its grace was over.
#[test]
fn term_while_the_sandbox_is_made_is_not_lost() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    for _ in 0..20 {
        let order = Order { kill_grace: DurationMillis::from_secs(60), ..foreign(node.command(&["sleep", "600"])) };
        let run = order.run;
        node.executors.run(order);
        node.started(run);
        node.executors.stop(run, StopReason::Cancel);
        // Far sooner than the grace, or the wait for it fails.
        assert_eq!(node.ended(run).outcome, Outcome::Cancelled);
    }
}

#[test]
fn the_disk_is_limited() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let limits = Limits { disk_bytes: Some(4 << 20), log_bytes_max: 1 << 20, ..Limits::default() };
    let one = Order { limits, ..foreign(node.script("head -c 64M /dev/zero > big; sleep 5")) };
    let many = "i=0; while :; do i=$((i+1)); head -c 300k /dev/zero > f$i; done";
    for order in [one, Order { limits, ..foreign(node.script(many)) }] {
        let ended = node.end_of(order);
        let expected = "used more than 4 MiB of disk (disk limit)".to_owned();
        assert_eq!(ended.outcome, Outcome::Permanent { message: expected }, "{ended:?}");
    }
}

#[test]
fn a_flood_of_output_and_one_of_processes_are_ended() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let limits = Limits { log_bytes_max: 1 << 20, processes_max: 20, ..Limits::default() };
    let flood = node.end_of(Order { limits, ..foreign(node.command(&["yes"])) });
    assert_eq!(flood.outcome.message(), Some("wrote more than 1 MiB of output (log limit)"), "{flood:?}");
    let bomb = node.end_of(Order { limits, ..foreign(node.script("f() { f | f & }; f; sleep 60")) });
    assert_eq!(bomb.outcome.message(), Some("had more than 20 processes (process limit)"), "{bomb:?}");
}

#[test]
fn what_can_not_be_started_is_told_apart() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let missing = node.end_of(foreign(node.command(&["no-such-program"])));
    assert_eq!(missing.outcome.word(), "permanent", "{missing:?}");
    let hidden = node.end_of(foreign(node.command(&["/root/tool"])));
    let message = hidden.outcome.message().unwrap().to_owned();
    assert!(message.contains("does not exist in its sandbox"), "{hidden:?}");
    assert_eq!((hidden.exit, hidden.isolation), (Exit::default(), Isolation::Sandboxed));
    let mut order = foreign(node.command(&["true"]));
    order.isolation = Isolation::Untrusted;
    let refused = node.end_of(Order { is_foreign: false, ..order.clone() });
    assert_eq!((refused.outcome.word(), refused.isolation), ("permanent", Isolation::None), "{refused:?}");
    order.run = crate::harness::run_id();
    let released = node.end_of(order);
    assert_eq!(released.outcome.word(), "released", "{released:?}");
}

/// Says hello to the task socket, and to the one that is there after it has heard a line.
const HELLO_TWICE: &str = "import os, socket, sys
for _ in range(2):
    socket.socket(socket.AF_UNIX).connect(os.environ['JOBMESH_SOCKET'])
    sys.stdin.readline()";

#[test]
fn the_task_socket_of_the_next_daemon_is_seen_inside() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    let (sockets, stdin) = (node.home.path().join("tasks"), node.pipe().path);
    std::fs::create_dir(&sockets).unwrap();
    let socket = sockets.join("task.sock");
    let first = UnixListener::bind(&socket).unwrap();
    // Open for both, so that nobody waits for the other end.
    let mut lines = File::options().read(true).write(true).open(&stdin).unwrap();
    let mut order = node.command(&["python3", "-c", HELLO_TWICE]);
    order.stdin = Some(stdin);
    if let Task::Process(task) = &mut order.task {
        task.stdin = Some(BlobRef::of(b""));
    }
    order.environment = [("JOBMESH_SOCKET".to_owned(), socket.to_str().unwrap().to_owned())].into();
    let run = order.run;
    node.executors.run(order);
    first.accept().unwrap();
    drop(first);
    std::fs::remove_file(&socket).unwrap();
    let second = UnixListener::bind(&socket).unwrap();
    lines.write_all(b"the next one\n").unwrap();
    second.accept().unwrap();
    lines.write_all(b"done\n").unwrap();
    assert_eq!(node.ended(run).outcome, Outcome::Ok);
}
