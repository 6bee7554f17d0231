//! What a command gets, and what its end means.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jobmesh_executors::{Ended, INLINE_BYTES_MAX, Order, Stream, log_path};
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{BlobRef, Outcome};

use crate::harness::Node;

fn text(ended: &Ended) -> String {
    String::from_utf8(ended.inline.first().unwrap().clone()).unwrap()
}

fn message(ended: &Ended) -> &str {
    ended.outcome.message().unwrap_or_default()
}

fn process(order: &mut Order) -> &mut ProcessTask {
    let Task::Process(task) = &mut order.task else { panic!("not a command") };
    task
}

fn set_directory(order: &mut Order, directory: &Path) {
    process(order).directory = Some(directory.to_str().unwrap().to_owned());
}

#[test]
fn both_outputs_are_named_and_short_ones_come_along() {
    let node = Node::start(1);
    let order = node.script("printf out; printf err >&2");
    let directory = order.directory.clone();
    let ended = node.end_of(order);
    assert_eq!(ended.outcome, Outcome::Ok);
    assert_eq!(ended.exit, Exit { code: Some(0), signal: None });
    assert_eq!(ended.outputs.stdout, Some(BlobRef::of(b"out")));
    assert_eq!(ended.outputs.stderr, Some(BlobRef::of(b"err")));
    assert_eq!(ended.inline, [b"out".to_vec(), b"err".to_vec()]);
    let log = log_path(&directory, Stream::Stdout);
    assert_eq!(std::fs::read(&log).unwrap(), b"out");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&log)), (0o700, 0o600), "others may read a job's output");
}

#[test]
fn exit_codes_and_signals_are_told() {
    let node = Node::start(1);
    let ended = node.end_of(node.script("exit 3"));
    assert_eq!((message(&ended), ended.exit.code), ("exit code 3", Some(3)));
    assert_eq!(message(&node.end_of(node.script("exit 75"))), "temporary failure (exit 75)");
    let ended = node.end_of(node.script("kill -KILL $$"));
    assert_eq!((message(&ended), ended.exit.signal), ("killed by signal 9 (KILL)", Some(9)));
}

#[test]
fn a_program_that_cannot_start_fails_for_good_and_says_why() {
    let node = Node::start(1);
    let plain = node.home.path().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    let cases = [
        ("no-such-program-anywhere", "program \"no-such-program-anywhere\" was not found in PATH ("),
        ("/no/such/program", "program \"/no/such/program\" does not exist"),
        (plain.to_str().unwrap(), "is not executable; try `chmod +x`"),
    ];
    for (program, expected) in cases {
        let ended = node.end_of(node.command(&[program]));
        assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
        assert!(message(&ended).contains(expected), "{ended:?}");
        assert_eq!(ended.exit, Exit::default());
    }
}

#[test]
fn the_environment_is_cleared_but_for_a_few() {
    let node = Node::start(1);
    let mut order = node.command(&["env"]);
    let run = order.run;
    let task = process(&mut order);
    task.environment = [("COLOR", "red"), ("JOBMESH_ATTEMPT", "7")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    order.environment = [("JOBMESH_ATTEMPT".to_owned(), "1".to_owned())].into();
    let ended = node.end_of(order);
    let text = text(&ended);
    let lines: BTreeSet<&str> = text.lines().collect();
    for expected in ["COLOR=red", "JOBMESH_ATTEMPT=1", &format!("JOBMESH_RUN={run}")] {
        assert!(lines.contains(expected), "{expected} is missing in {text}");
    }
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL", "COLOR"];
    for name in lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name) {
        let known = allowed.contains(&name) || name.starts_with("LC_") || name.starts_with("JOBMESH_");
        assert!(known, "{name} came through");
    }
}

#[test]
fn the_input_arrives_whole_and_a_long_output_is_named_but_not_carried() {
    let node = Node::start(1);
    let bytes: Vec<u8> = (0..5_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let file = node.home.path().join("input");
    std::fs::write(&file, &bytes).unwrap();
    let mut order = node.command(&["cat"]);
    order.stdin = Some(file);
    let ended = node.end_of(order);
    assert_eq!(ended.outputs.stdout, Some(BlobRef::of(&bytes)));
    assert!(ended.inline.is_empty());
}

#[test]
fn without_input_there_is_nothing_to_read_and_no_output_is_none() {
    let node = Node::start(1);
    let ended = node.end_of(node.command(&["cat"]));
    assert_eq!((ended.outcome, ended.outputs.stdout), (Outcome::Ok, None));
}

#[test]
fn an_input_that_was_not_fetched_fails_the_attempt_only() {
    let node = Node::start(1);
    let mut order = node.command(&["cat"]);
    let task = process(&mut order);
    task.stdin = Some(BlobRef::of(b"elsewhere"));
    assert_eq!(node.end_of(order).outcome.word(), "error");
}

#[test]
fn the_limit_of_what_is_carried_is_exact() {
    let node = Node::start(1);
    for (length, carried) in [(INLINE_BYTES_MAX, 1), (INLINE_BYTES_MAX + 1, 0)] {
        let ended = node.end_of(node.command(&["head", "-c", &length.to_string(), "/dev/zero"]));
        assert_eq!(ended.inline.len(), carried);
        assert_eq!(ended.outputs.stdout, Some(BlobRef::of(&vec![0; length])));
    }
}

#[test]
fn a_command_runs_in_its_own_directory_or_the_one_asked_for() {
    let node = Node::start(1);
    let order = node.command(&["pwd"]);
    let own = order.directory.join("work").canonicalize().unwrap_or_else(|_| order.directory.join("work"));
    assert_eq!(Path::new(text(&node.end_of(order)).trim()), own);

    let asked = node.home.path().canonicalize().unwrap();
    let mut order = node.command(&["pwd"]);
    set_directory(&mut order, &asked);
    assert_eq!(Path::new(text(&node.end_of(order)).trim()), asked);

    let mut order = node.command(&["pwd"]);
    set_directory(&mut order, Path::new("/no/such/directory"));
    let ended = node.end_of(order);
    assert_eq!(ended.outcome.word(), "permanent");
    assert!(message(&ended).contains("/no/such/directory"), "{ended:?}");
}

#[test]
fn a_run_whose_directory_cannot_be_made_fails_with_its_path() {
    let node = Node::start(1);
    // A file in the way stops even root.
    let file = node.home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut order = node.command(&["true"]);
    order.directory = file.join("run");
    let ended = node.end_of(order);
    assert_eq!(ended.outcome.word(), "error");
    assert!(message(&ended).contains(file.to_str().unwrap()), "{ended:?}");
}

/// The slot's thread tried such a command again and again for ever, and nothing could stop it.
#[test]
fn a_command_that_cannot_be_told_to_the_system_ends_its_attempt_and_no_slot() {
    let node = Node::start(1);
    let ended = node.end_of(node.command(&["echo", "x\0y"]));
    assert_eq!(ended.outcome.word(), "permanent");
    assert!(message(&ended).contains("zero byte"), "{ended:?}");
    let mut order = node.command(&["echo"]);
    order.environment.insert("JOBMESH_ITEM".to_owned(), "x\0y".to_owned());
    assert_eq!(node.end_of(order).outcome.word(), "permanent");
    assert_eq!(node.end_of(node.command(&["echo"])).outcome, Outcome::Ok);
}

#[test]
fn a_job_cannot_pass_off_another_file_as_its_output() {
    let node = Node::start(1);
    let order = node.script("printf mine; rm ../stdout; ln -s /etc/hostname ../stdout");
    assert_eq!(node.end_of(order).outputs.stdout, Some(BlobRef::of(b"mine")));
}

#[test]
fn two_hundred_runs_pass_through_four_slots() {
    let node = Node::start(4);
    let mut open = BTreeSet::new();
    for _ in 0..200 {
        let order = node.command(&["true"]);
        open.insert(order.run);
        node.executors.run(order);
    }
    while !open.is_empty() {
        match node.event() {
            jobmesh_executors::Event::Started { run, .. } | jobmesh_executors::Event::Progress { run, .. } => {
                assert!(open.contains(&run));
            }
            jobmesh_executors::Event::Ended { run, ended } => {
                assert_eq!(ended.outcome, Outcome::Ok);
                assert!(open.remove(&run), "{run} ended twice");
            }
        }
    }
    assert_eq!(node.executors.running(), 0);
}

#[test]
fn a_run_that_wrote_nothing_leaves_no_directory_and_any_other_leaves_all_of_it() {
    let node = Node::start(1);
    let empty = node.command(&["true"]);
    let kept = node.script("touch kept");
    let directories = [empty.directory.clone(), kept.directory.clone()];
    node.end_of(empty);
    node.end_of(kept);
    assert_eq!(directories.each_ref().map(|directory| directory.exists()), [false, true]);
    assert!(directories[1].join("work/kept").exists());
    assert!(log_path(&directories[1], Stream::Stdout).exists());
}

#[test]
fn the_processor_time_is_told() {
    let node = Node::start(1);
    let ended = node.end_of(node.script("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"));
    let cpu = ended.usage.cpu_ms.unwrap();
    assert!((10..60_000).contains(&cpu.0), "{cpu:?}");
}
