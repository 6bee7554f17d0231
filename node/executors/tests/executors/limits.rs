//! Runs that want more than they may have.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stdout, reason = "a machine without control groups is told so")]

use std::time::{Duration, Instant};

use jobmesh_executors::{Enforced, Groups, Limits, Order, Stream, log_path};
use jobmesh_protocol::Outcome;
use jobmesh_protocol::job::MEMORY_BYTES_MIN;

use crate::harness::{DEADLINE, Node};

fn limited(order: Order, limits: Limits) -> Order {
    Order { limits, ..order }
}

/// How many living processes carry the marker of a run.
fn marked(order: &Order) -> usize {
    let marker = format!("JOBMESH_RUN={}", order.run);
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = entries.map(|entry| std::fs::read(entry.path().join("environ")).unwrap_or_default());
    environments.filter(|all| all.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes())).count()
}

#[test]
fn a_run_that_writes_without_end_is_stopped_and_its_log_is_cut() {
    let node = Node::start(1);
    let bytes_max = 3 << 20;
    let limits = Limits { log_bytes_max: bytes_max, ..Limits::default() };
    let order = limited(node.command(&["yes"]), limits);
    let log = log_path(&order.directory, Stream::Stdout);
    let began = Instant::now();
    let ended = node.end_of(order);
    let message = "wrote more than 3 MiB of output (log limit)".to_owned();
    assert_eq!(ended.outcome, Outcome::Permanent { message });
    assert_eq!(ended.exit.signal, Some(15));
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(std::fs::metadata(log).unwrap().len(), bytes_max);
    assert_eq!(ended.outputs.stdout.unwrap().size, bytes_max);
}

#[test]
fn a_writer_that_ignores_term_is_killed_after_a_second() {
    let node = Node::start(1);
    let limits = Limits { log_bytes_max: 1000, ..Limits::default() };
    let script = r#"trap "" TERM; while :; do echo more and more; echo too >&2; sleep 0.01; done"#;
    let ended = node.end_of(limited(node.script(script), limits));
    assert_eq!((ended.outcome.word(), ended.exit.signal), ("permanent", Some(9)));
    let outputs = ended.outputs;
    assert_eq!(outputs.stdout.unwrap().size + outputs.stderr.unwrap().size, 1000);
}

#[test]
fn too_much_written_before_the_first_look_is_too_much_as_well() {
    let node = Node::start(1);
    let limits = Limits { log_bytes_max: 10, ..Limits::default() };
    let ended = node.end_of(limited(node.script("printf 12345678901"), limits));
    assert_eq!((ended.outcome.word(), ended.exit.code), ("permanent", Some(0)));
    assert_eq!(ended.inline, [b"1234567890".to_vec()]);
    assert_eq!(node.end_of(limited(node.script("printf 1234567890"), limits)).outcome, Outcome::Ok);
}

#[test]
fn a_fork_bomb_is_put_out() {
    for groups in [Groups::Use, Groups::Avoid] {
        let node = Node::start_with(1, groups);
        let limits = Limits { processes_max: 300, ..Limits::default() };
        let order = limited(node.script("f() { f | f & }; f; sleep 600"), limits);
        let began = Instant::now();
        let ended = node.end_of(order.clone());
        let message = "had more than 300 processes (process limit)".to_owned();
        assert_eq!(ended.outcome, Outcome::Permanent { message }, "{groups:?}: {:?}", node.executors.limits());
        assert!(began.elapsed() < DEADLINE, "{groups:?}: {:?}", began.elapsed());
        assert_eq!(marked(&order), 0, "{groups:?}");
        // And the slot is as good as before.
        assert_eq!(node.end_of(node.script("true | true | true")).outcome, Outcome::Ok);
    }
}

#[test]
fn a_run_that_was_kept_from_forking_ends_so_and_the_next_does_not() {
    let node = Node::start(1);
    if node.executors.limits().processes != Enforced::Kernel {
        println!("SKIPPED: no control group for processes can be made here");
        return;
    }
    let limits = Limits { processes_max: 1, ..Limits::default() };
    // It gives up by itself before anybody looks.
    assert_eq!(node.end_of(limited(node.script("(sleep 600); :"), limits)).outcome.word(), "permanent");
    assert_eq!(node.end_of(limited(node.script("exit 0"), limits)).outcome, Outcome::Ok);
    let unlimited = Limits { processes_max: u32::MAX, ..Limits::default() };
    assert_eq!(node.end_of(limited(node.script("(exit 3)"), unlimited)).outcome, Outcome::error("exit code 3"));
}

#[test]
fn a_process_that_hides_from_everybody_but_its_group_is_ended() {
    let node = Node::start(1);
    if node.executors.limits().processes != Enforced::Kernel {
        println!("SKIPPED: no control group for processes can be made here");
        return;
    }
    let mut pipe = node.pipe();
    let script = r#"env -i PIPE="$PIPE" setsid sh -c '(setsid sh -c "echo \$\$ > $PIPE; exec sleep 600" &) &' ; read line < "$GO""#;
    let go = node.pipe();
    let mut order = node.script(script);
    order.environment =
        [("PIPE", &pipe), ("GO", &go)].map(|(k, v)| (k.to_owned(), v.path.display().to_string())).into();
    let run = order.run;
    node.executors.run(order);
    // Without the marker, without a terminal, without its parents: only the group still knows it.
    let hidden = pipe.pid();
    std::fs::write(&go.path, "\n").unwrap();
    assert_eq!(node.ended(run).outcome, Outcome::Ok);
    assert!(!crate::harness::is_alive(hidden));
}

#[test]
fn a_run_within_its_limits_is_left_alone() {
    for groups in [Groups::Use, Groups::Avoid] {
        let node = Node::start_with(1, groups);
        let limits =
            Limits { processes_max: 4, log_bytes_max: 100, memory_bytes: Some(256 << 20), ..Limits::default() };
        let ended = node.end_of(limited(node.script("sleep 0.3 | sleep 0.3; echo done"), limits));
        assert_eq!(ended.outcome, Outcome::Ok, "{groups:?}: {ended:?}");
        assert!(ended.usage.memory_peak_bytes.unwrap() > 100_000, "{groups:?}: {ended:?}");
    }
}

#[test]
fn memory_beyond_the_limit_is_an_end_by_name() {
    let node = Node::start(1);
    if node.executors.limits().memory != Enforced::Kernel {
        println!("SKIPPED: no control group for memory can be made here");
        return;
    }
    let limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    // A shell that keeps what it reads.
    let ended = node.end_of(limited(node.script("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"), limits));
    assert_eq!(ended.outcome.word(), "error");
    let message = ended.outcome.message().unwrap();
    assert!(message.starts_with("out of memory (limit 32 MiB, peak "), "{message}");
    let peak = ended.usage.memory_peak_bytes.unwrap();
    assert!((16 << 20..=33 << 20).contains(&peak), "{peak}");
    assert_eq!(node.end_of(limited(node.script("echo small"), limits)).outcome, Outcome::Ok);
}

#[test]
fn the_least_memory_of_a_job_is_enough_to_start_it_with() {
    let nodes = [Some(Node::start(1)), Node::start_sandboxed(1)];
    let limits = Limits { memory_bytes: Some(MEMORY_BYTES_MIN), ..Limits::default() };
    for node in nodes.into_iter().flatten() {
        let ended = node.end_of(limited(node.command(&["true"]), limits));
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    }
}

/// The slot of a run with next to no memory stayed within its limit, and all that came after it there failed.
#[test]
fn a_run_without_memory_to_start_leaves_the_slot_to_others() {
    let node = Node::start(1);
    let limits = Limits { memory_bytes: Some(1), ..Limits::default() };
    for _ in 0..4 {
        let starved = node.end_of(limited(node.command(&["true"]), limits));
        assert!(matches!(starved.outcome, Outcome::Ok | Outcome::Error { .. }), "{starved:?}");
        let next = node.end_of(node.script("echo fine"));
        assert_eq!(next.outcome, Outcome::Ok, "{next:?}");
    }
}

/// Whoever removed a file and wrote on into it took what it liked: no directory told of it.
#[test]
fn files_without_a_name_are_part_of_what_a_run_may_use() {
    let nodes = [Some(Node::start(1)), Some(Node::start_with(1, Groups::Avoid)), Node::start_sandboxed(1)];
    for node in nodes.into_iter().flatten() {
        let limits = Limits { disk_bytes: Some(8 << 20), ..Limits::default() };
        let script = "exec 3>f 4>g; rm f g; head -c 7M /dev/zero >&3; head -c 7M /dev/zero >&4; sleep 600";
        let ended = node.end_of(limited(node.script(script), limits));
        let message = "used more than 8 MiB of disk (disk limit)".to_owned();
        assert_eq!(ended.outcome, Outcome::Permanent { message }, "{:?}", node.isolation);
        let small = "exec 3>f; rm f; head -c 7M /dev/zero >&3; sleep 1.5";
        assert_eq!(node.end_of(limited(node.script(small), limits)).outcome, Outcome::Ok, "{:?}", node.isolation);
    }
}

#[test]
fn the_groups_of_a_node_go_with_it() {
    let groups = || {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let line = text.lines().find(|line| line.contains(":pids:")).unwrap_or_default();
        let path = format!("/sys/fs/cgroup/pids{}", line.rsplit(':').next().unwrap_or_default());
        let own = format!("jobmesh-{}-run", std::process::id());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).count()
    };
    let node = Node::start(1);
    let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    node.end_of(limited(node.script("true"), limits));
    node.executors.shutdown();
    assert_eq!(groups(), 0);
}

#[test]
fn a_look_does_not_hold_up_the_end() {
    let node = Node::start(1);
    let began = Instant::now();
    node.end_of(node.command(&["sleep", "0.25"]));
    assert!(began.elapsed() < Duration::from_millis(250) + DEADLINE / 10);
}
