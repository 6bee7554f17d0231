//! Runs that an earlier daemon began and that go on.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use jobmesh_executors::{
    Adopt, Confinement, Ended, Limits, ProcessId, RUN_VARIABLE, StopReason, Stream, find_run, log_path,
};
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome, RunId};

use crate::harness::{DEADLINE, Node, Pipe, exists, is_alive, run_id, started};

/// A run as a daemon leaves it that was killed: its process goes on and writes to its files.
struct Left {
    run: RunId,
    directory: PathBuf,
    process: ProcessId,
    go: Pipe,
    /// Who started it, and reaps it like init would.
    parent: Child,
}

impl Left {
    /// Starts `script` as a group leader under a parent that isn't us. It begins once it is told.
    fn start(node: &Node, script: &str) -> Self {
        let run = run_id();
        let directory = node.home.path().join("runs").join(run.to_string());
        std::fs::create_dir_all(directory.join("work")).unwrap();
        let (mut pipe, go) = (node.pipe(), node.pipe());
        let log =
            |stream| std::fs::File::options().append(true).create(true).open(log_path(&directory, stream)).unwrap();
        let mut parent = Command::new("sh");
        // setsid makes it the leader of a process group, like a run's process.
        parent.args(["-c", r#"env "$MARKER" setsid sh -c "$SCRIPT" & echo $! > "$PIPE"; wait"#]);
        parent.env("MARKER", format!("{RUN_VARIABLE}={run}")).env("PIPE", &pipe.path).env("GO", &go.path);
        parent.env("SCRIPT", format!("echo ready > \"$PIPE\"; read line < \"$GO\"; {script}"));
        parent.env("JOBMESH_OUTCOME", directory.join("outcome")).env("JOBMESH_RESULT", directory.join("result"));
        parent.stdin(Stdio::null()).stdout(log(Stream::Stdout)).stderr(log(Stream::Stderr)).process_group(0);
        let parent = parent.spawn().unwrap();
        // One is its number, the other that it runs, in whatever order.
        let lines = [pipe.line(), pipe.line()];
        let pid = lines.iter().find_map(|line| line.parse().ok()).unwrap();
        Self { run, directory, process: ProcessId { pid, started: started(pid) }, go, parent }
    }

    fn adopt(&self) -> Adopt {
        Adopt {
            had_inputs: false,
            run: self.run,
            process: Some(self.process),
            directory: self.directory.clone(),
            outputs: Vec::new(),
            kill_grace: DurationMillis::from_secs(5),
            limits: Limits::default(),
            confinement: Confinement::Open,
            container: None,
        }
    }

    fn go(&self) {
        std::fs::write(&self.go.path, "\n").unwrap();
    }

    /// Adopts it, lets it go on, and waits for its end.
    fn end_on(mut self, node: &Node) -> Ended {
        node.executors.adopt(self.adopt()).unwrap();
        assert_eq!(node.started(self.run), self.process);
        self.go();
        let ended = node.ended(self.run);
        self.parent.wait().unwrap();
        ended
    }
}

/// Whether this kernel tells how a process ended that isn't our child.
fn tells_exits() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
}

#[test]
fn a_run_that_goes_on_is_seen_to_its_end_with_all_that_it_wrote() {
    let node = Node::start(1);
    let ended = Left::start(&node, r#"printf out; printf err >&2; printf 1 > "$JOBMESH_RESULT"; exit 0"#).end_on(&node);
    let outputs = [ended.outputs.stdout, ended.outputs.stderr, ended.outputs.result];
    assert_eq!(outputs, [b"out".as_slice(), b"err", b"1"].map(|bytes| Some(BlobRef::of(bytes))));
    assert_eq!(ended.inline, [b"out".to_vec(), b"err".to_vec(), b"1".to_vec()]);
    let expected = if tells_exits() { "ok" } else { "lost" };
    assert_eq!(ended.outcome.word(), expected, "{ended:?}");
    assert_eq!(node.executors.running(), 0);
}

#[test]
fn its_exit_code_or_signal_is_told_or_it_is_lost() {
    let node = Node::start(1);
    let cases =
        [("exit 7", Outcome::error("exit code 7")), ("kill -KILL $$", Outcome::error("killed by signal 9 (KILL)"))];
    for (script, expected) in cases {
        let ended = Left::start(&node, script).end_on(&node);
        if tells_exits() {
            assert_eq!(ended.outcome, expected);
        } else {
            assert_eq!(ended.outcome.word(), "lost");
        }
    }
}

#[test]
fn what_it_said_itself_counts_on_every_kernel() {
    let node = Node::start(1);
    let left = Left::start(&node, r#"echo '{"outcome":"permanent","message":"no"}' > "$JOBMESH_OUTCOME""#);
    assert_eq!(left.end_on(&node).outcome, Outcome::Permanent { message: "no".to_owned() });
}

#[test]
fn one_that_was_never_written_down_is_found_by_its_marker() {
    let node = Node::start(1);
    let left = Left::start(&node, "printf found");
    assert_eq!(find_run(left.run), Some(left.process));
    node.executors.adopt(Adopt { process: None, ..left.adopt() }).unwrap();
    assert_eq!(node.started(left.run), left.process);
    left.go();
    assert_eq!(node.ended(left.run).outputs.stdout, Some(BlobRef::of(b"found")));
    assert_eq!(find_run(run_id()), None);
}

#[test]
fn a_timeout_works_on_it_and_takes_its_children() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let script = format!("setsid sh -c 'echo $$ > {path}; exec sleep 600' & sleep 600", path = pipe.path.display());
    let mut left = Left::start(&node, &script);
    node.executors.adopt(left.adopt()).unwrap();
    node.started(left.run);
    left.go();
    let hidden = pipe.pid();
    node.executors.stop(left.run, StopReason::Timeout);
    assert_eq!(node.ended(left.run).outcome, Outcome::Timeout);
    assert!(!is_alive(hidden) && !is_alive(left.process.pid));
    left.parent.wait().unwrap();
}

#[test]
fn one_that_ended_unseen_is_lost_unless_it_left_word() {
    let node = Node::start(1);
    for (script, expected) in [("printf late", "lost"), (r#"echo '{"outcome":"ok"}' > "$JOBMESH_OUTCOME""#, "ok")] {
        let mut left = Left::start(&node, script);
        left.go();
        left.parent.wait().unwrap();
        node.executors.adopt(left.adopt()).unwrap();
        let ended = node.ended(left.run);
        assert_eq!(ended.outcome.word(), expected);
        assert_eq!(ended.outputs.stdout.is_some(), expected == "lost");
    }
}

#[test]
fn an_orphan_that_came_to_us_tells_us_its_exit_code() {
    let node = Node::start(1);
    let mut left = Left::start(&node, "exit 5");
    node.executors.adopt(left.adopt()).unwrap();
    node.started(left.run);
    // We are a subreaper, so its parent is this process from now on.
    left.parent.kill().unwrap();
    left.parent.wait().unwrap();
    left.go();
    let ended = node.ended(left.run);
    assert_eq!((ended.outcome, ended.exit.code), (Outcome::error("exit code 5"), Some(5)));
    assert!(!exists(left.process.pid), "it was not reaped");
}

#[test]
fn a_limit_holds_for_it_too() {
    let node = Node::start(1);
    let mut left = Left::start(&node, "yes");
    let limits = Limits { log_bytes_max: 1 << 20, ..Limits::default() };
    node.executors.adopt(Adopt { limits, ..left.adopt() }).unwrap();
    node.started(left.run);
    left.go();
    let ended = node.ended(left.run);
    assert_eq!((ended.outcome.word(), ended.outputs.stdout.unwrap().size), ("permanent", 1 << 20));
    left.parent.wait().unwrap();
}

#[test]
fn adoption_takes_no_slot_and_is_answered_once() {
    let node = Node::start(1);
    let mut left = Left::start(&node, "exit 0");
    node.executors.adopt(left.adopt()).unwrap();
    node.executors.adopt(left.adopt()).unwrap();
    node.started(left.run);
    assert_eq!(node.end_of(node.command(&["true"])).outcome, Outcome::Ok);
    assert_eq!(node.executors.running(), 1);
    left.go();
    node.ended(left.run);
    left.parent.wait().unwrap();
    node.executors.shutdown();
    assert!(!node.has_event());
    node.executors.adopt(left.adopt()).unwrap();
    assert_eq!(node.executors.running(), 0);
}

#[test]
fn a_number_that_was_given_to_another_is_left_alone() {
    let node = Node::start(1);
    let mut left = Left::start(&node, "exit 0");
    let process = ProcessId { started: left.process.started + 1, ..left.process };
    let adopt = Adopt { process: Some(process), run: run_id(), ..left.adopt() };
    let run = adopt.run;
    node.executors.adopt(adopt).unwrap();
    assert_eq!(node.ended(run).outcome.word(), "lost");
    assert!(is_alive(left.process.pid));
    left.go();
    left.parent.wait().unwrap();
}

/// The variable that makes [`a_daemon_that_is_killed`] one; its value is the daemon's home.
const DAEMON: &str = "TEST_DAEMON_HOME";

/// What the killed daemon's job does: it tells that it runs, waits for a word, writes more, and ends.
const JOB: &str = r#"echo before; echo $$ > "$PIPE"; read line < "$GO"; echo after; exit 6"#;

/// Not a test but the daemon of the next one, which starts this program anew and kills it.
#[test]
fn a_daemon_that_is_killed() {
    let Some(home) = std::env::var_os(DAEMON).map(PathBuf::from) else { return };
    let node = Node::start(1);
    let mut order = node.script(JOB);
    order.directory = home.join("run");
    order.environment = ["PIPE", "GO"].map(|name| (name.to_owned(), std::env::var(name).unwrap())).into();
    let run = order.run;
    node.executors.run(order);
    let process = node.started(run);
    std::fs::write(home.join("started"), format!("{} {}", process.pid, process.started)).unwrap();
    node.ended(run);
}

#[test]
fn a_run_survives_the_kill_of_its_daemon_and_loses_nothing() {
    let node = Node::start(1);
    let home = node.home.path();
    let (mut pipe, go) = (node.pipe(), node.pipe());
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", "adoption::a_daemon_that_is_killed"]).env(DAEMON, home);
    daemon.env("PIPE", &pipe.path).env("GO", &go.path).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let pid = pipe.pid();
    let until = Instant::now() + DEADLINE;
    let mut told = String::new();
    while !told.contains(' ') {
        assert!(Instant::now() < until, "the daemon told nothing");
        told = std::fs::read_to_string(home.join("started")).unwrap_or_default();
        std::thread::yield_now();
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(is_alive(pid), "the run ended with its daemon");
    let (number, start) = told.split_once(' ').unwrap();
    let process = ProcessId { pid: number.parse().unwrap(), started: start.parse().unwrap() };
    assert_eq!((process.pid, process.started), (pid, started(pid)), "the start time was told wrong");

    let run = run_id();
    let limits = Limits::default();
    let kill_grace = DurationMillis::from_secs(5);
    node.executors
        .adopt(Adopt {
            had_inputs: false,
            run,
            process: Some(process),
            directory: home.join("run"),
            outputs: Vec::new(),
            kill_grace,
            limits,
            confinement: Confinement::Open,
            container: None,
        })
        .unwrap();
    assert_eq!(node.started(run), process);
    std::fs::write(&go.path, "\n").unwrap();
    let ended = node.ended(run);
    assert_eq!(ended.outcome, Outcome::error("exit code 6"));
    assert_eq!(ended.inline, [b"before\nafter\n".to_vec()]);
    assert!(!exists(pid));
}

#[test]
fn what_an_adopted_run_leaves_is_kept_like_any_other() {
    let node = Node::start(1);
    let mut left = Left::start(
        &node,
        "(cd \"${JOBMESH_OUTCOME%/*}/work\" && echo kept > a); echo '{\"outcome\":\"ok\"}' > $JOBMESH_OUTCOME",
    );
    node.executors.adopt(Adopt { outputs: vec!["*".to_owned()], ..left.adopt() }).unwrap();
    node.started(left.run);
    left.go();
    let ended = node.ended(left.run);
    left.parent.wait().unwrap();
    assert_eq!(ended.outcome, jobmesh_protocol::Outcome::Ok);
    assert!(ended.outputs.files.is_some() && node.shelf.has(BlobRef::of(b"kept\n")));
}

/// A sandboxed run with nearly as many processes as it may have was killed for those of its sandbox after a restart.
#[test]
fn the_processes_of_its_sandbox_are_not_its_own() {
    let node = Node::start(1);
    // Six are alive at most, of which two stand for those of a sandbox.
    let script = "sleep 600 & sleep 600 & sleep 600 & sleep 600 & sleep 1; echo '{\"outcome\":\"ok\"}' > words/outcome";
    let script = format!("cd \"${{JOBMESH_OUTCOME%/*}}\"; {script}");
    for (processes_max, expected) in [(4, "ok"), (3, "permanent")] {
        let mut left = Left::start(&node, &script);
        std::fs::create_dir(left.directory.join("words")).unwrap();
        let limits = Limits { processes_max, ..Limits::default() };
        node.executors.adopt(Adopt { confinement: Confinement::Sandbox, limits, ..left.adopt() }).unwrap();
        node.started(left.run);
        left.go();
        let ended = node.ended(left.run);
        left.parent.wait().unwrap();
        assert_eq!(ended.outcome.word(), expected, "{ended:?}");
    }
}

/// A command that outlived its daemon was believed whatever it wrote into the files of a worker or of a sandbox, and so
/// could have the receipt say that it had been kept apart, and what fuel it took.
#[test]
fn a_command_can_not_pass_for_something_that_is_kept_apart() {
    let node = Node::start(1);
    let forge = "cd \"${JOBMESH_OUTCOME%/*}\"; echo '{\"isolation\":\"untrusted\",\"fuel\":7}' > account; mkdir words";
    for confinement in [Confinement::Open, Confinement::Worker] {
        let mut left = Left::start(&node, forge);
        node.executors.adopt(Adopt { confinement, ..left.adopt() }).unwrap();
        node.started(left.run);
        left.go();
        let ended = node.ended(left.run);
        left.parent.wait().unwrap();
        let expected = match confinement {
            Confinement::Worker => (Isolation::Untrusted, Some(7)),
            Confinement::Open | Confinement::Sandbox => (Isolation::Contained, None),
        };
        assert_eq!((ended.isolation, ended.usage.fuel), expected, "{confinement:?}");
    }
}
