//! Containers of a real engine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jobmesh_executors::{
    Adopt, Confinement, Containers, Ended, Groups, Images, Limits, Order, StopReason, Stream, log_path,
};
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::task::{ContainerTask, Pull, Task};
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome};

use crate::conformance::{Kind, Tasks, conforms};
use crate::harness::{DEADLINE, Node};
use crate::podman::{self, IMAGE, Podman, podman};

/// A node and its engine. At the end none of the node's containers may be left.
struct Site {
    node: Node,
    name: String,
    podman: Arc<Podman>,
}

impl Site {
    fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Containers)) -> Option<Self> {
        let podman = podman()?;
        let mut containers = podman::containers(&podman);
        change(&mut containers);
        let name = containers.node.clone();
        Some(Self { node: podman::node(containers), name, podman })
    }

    fn order(&self, script: &str) -> Order {
        self.node.order(shell(IMAGE, script))
    }

    fn end_of(&self, script: &str) -> Ended {
        self.node.end_of(self.order(script))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.podman.containers_of(&self.name), Vec::<String>::new(), "containers are left");
        }
    }
}

fn shell(image: &str, script: &str) -> Task {
    Task::Container(ContainerTask::new(image, ["sh", "-c", script].map(str::to_owned).to_vec()))
}

fn task(order: &mut Order) -> &mut ContainerTask {
    let Task::Container(task) = &mut order.task else { panic!("not a container") };
    task
}

fn stdout(ended: &Ended) -> String {
    let of_stdout = |bytes: &&Vec<u8>| Some(BlobRef::of(bytes)) == ended.outputs.stdout;
    String::from_utf8(ended.inline.iter().find(of_stdout).cloned().unwrap_or_default()).unwrap()
}

fn message(ended: &Ended) -> &str {
    ended.outcome.message().unwrap_or_default()
}

/// Waits until a run has said a line.
fn hear(order: &Order, line: &str) {
    let path = log_path(&order.directory, Stream::Stdout);
    let until = Instant::now() + DEADLINE;
    while !std::fs::read_to_string(&path).unwrap_or_default().contains(line) {
        assert!(Instant::now() < until, "it did not say {line}");
        std::thread::yield_now();
    }
}

/// What the suite of every executor asks of containers.
fn tasks(_node: &Node) -> Tasks {
    let argv = |words: &[&str]| {
        Task::Container(ContainerTask::new(IMAGE, words.iter().map(|word| (*word).to_owned()).collect()))
    };
    let script = |script: &str| shell(IMAGE, script);
    Tasks {
        ok: argv(&["true"]),
        failing: argv(&["false"]),
        endless: argv(&["sleep", "600"]),
        stubborn: Some(script("trap '' TERM; while :; do sleep 600; done")),
        greeting: Some(argv(&["echo", "hello"])),
        noisy: Some(argv(&["yes"])),
        filling: Some(script("head -c 8388608 /dev/zero > big; sleep 600")),
        echoing: Some(Box::new(|blob| {
            Task::Container(ContainerTask { stdin: Some(blob), ..ContainerTask::new(IMAGE, vec!["cat".to_owned()]) })
        })),
        telling: Some(script("printf '{\"answer\":42}' > \"$JOBMESH_RESULT\"")),
        reading: Some(script("printf '%s\\n' \"$GREETING\"")),
        isolation: Isolation::Contained,
    }
}

/// A node of the engine that the test holds.
fn node(slots: u16) -> Node {
    let podman = podman().unwrap();
    let mut node = Node::start_among(slots, Groups::Use, podman::containers(&podman));
    node.network = false;
    node
}

#[test]
fn the_container_executor_conforms() {
    let Some(_engine) = podman() else { return };
    conforms(&Kind { name: "container", make: tasks, node });
}

#[test]
fn a_command_has_its_own_words_code_and_variables() {
    let Some(site) = Site::start() else { return };
    let mut order = site.order("echo out; echo err >&2; env; exit 3");
    task(&mut order).environment.insert("GREETING".to_owned(), "hello".to_owned());
    order.environment.insert("JOBMESH_ATTEMPT".to_owned(), "1".to_owned());
    order.environment.insert("JOBMESH_TOKEN".to_owned(), "word".to_owned());
    let ended = site.node.end_of(order);
    assert_eq!(ended.outcome, Outcome::error("exit code 3"));
    assert_eq!(ended.exit, Exit { code: Some(3), signal: None });
    assert_eq!(ended.outputs.stderr, Some(BlobRef::of(b"err\n")));
    assert_eq!(ended.isolation, Isolation::Contained);
    let said = stdout(&ended);
    assert!(said.starts_with("out\n"), "{said}");
    for line in ["GREETING=hello", "JOBMESH_ATTEMPT=1", "JOBMESH_OUTCOME=/jobmesh/outcome", "PWD=/work"] {
        assert!(said.lines().any(|found| found == line), "{line} is not in {said}");
    }
    assert!(!said.contains("JOBMESH_TOKEN") && !said.contains("CARGO"), "{said}");
}

#[test]
fn it_reads_its_input_and_its_files_and_leaves_files_a_result_and_word() {
    let Some(site) = Site::start() else { return };
    let input: Vec<u8> = (0..200_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let mut order = site.order(
        r#"cat > copy; cat given; echo made > made; printf 42 > "$JOBMESH_RESULT"
           echo '{"outcome":"snooze","for":"5m","message":"later"}' > "$JOBMESH_OUTCOME""#,
    );
    let blob = site.node.blob(&input);
    task(&mut order).stdin = Some(blob);
    order.stdin = Some(site.node.blobs().join(blob.hash.to_string()));
    let work = order.directory.join("work");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("given"), "from outside").unwrap();
    let ended = site.node.end_of(order);
    assert_eq!(ended.outcome.word(), "snoozed", "{ended:?}");
    assert_eq!(message(&ended), "later");
    assert_eq!(stdout(&ended), "from outside");
    assert_eq!(ended.outputs.result, Some(BlobRef::of(b"42")));
    assert_eq!(std::fs::read(work.join("copy")).unwrap(), input);
    assert_eq!(std::fs::read_to_string(work.join("made")).unwrap(), "made\n");
}

#[test]
fn an_input_that_nobody_reads_is_no_failure() {
    let Some(site) = Site::start() else { return };
    let mut order = site.order("exit 0");
    let blob = site.node.blob(&vec![b'x'; 1 << 20]);
    task(&mut order).stdin = Some(blob);
    order.stdin = Some(site.node.blobs().join(blob.hash.to_string()));
    assert_eq!(site.node.end_of(order).outcome, Outcome::Ok);
}

#[test]
fn every_byte_arrives_in_its_stream() {
    let Some(site) = Site::start() else { return };
    let ended =
        site.end_of("seq 1 60000; seq 1 30000 >&2; dd if=/dev/zero bs=1000 count=1000 2>/dev/null | tr '\\0' x");
    let numbers = |most: u32| (1..=most).flat_map(|number| format!("{number}\n").into_bytes());
    let expected: Vec<u8> = numbers(60_000).chain(vec![b'x'; 1_000_000]).collect();
    assert_eq!(ended.outputs.stdout, Some(BlobRef::of(&expected)), "{ended:?}");
    assert_eq!(ended.outputs.stderr, Some(BlobRef::of(&numbers(30_000).collect::<Vec<_>>())));
}

#[test]
fn a_cancelled_one_may_clear_up_and_one_that_will_not_end_is_killed() {
    let Some(site) = Site::start() else { return };
    let order = site.order("trap 'echo clearing; exit 0' TERM; echo ready; while true; do sleep 0.1; done");
    site.node.executors.run(order.clone());
    hear(&order, "ready");
    site.node.executors.stop(order.run, StopReason::Cancel);
    let ended = site.node.ended(order.run);
    assert_eq!((&ended.outcome, stdout(&ended).as_str()), (&Outcome::Cancelled, "ready\nclearing\n"));

    let mut order = site.order("trap '' TERM; echo ready; while true; do sleep 0.1; done");
    order.kill_grace = DurationMillis(200);
    site.node.executors.run(order.clone());
    hear(&order, "ready");
    site.node.executors.stop(order.run, StopReason::Timeout);
    assert_eq!(site.node.ended(order.run).outcome, Outcome::Timeout);
}

#[test]
fn a_kill_does_not_wait_for_the_grace() {
    let Some(site) = Site::start() else { return };
    let mut order = site.order("trap '' TERM; echo ready; while true; do sleep 0.1; done");
    order.kill_grace = DurationMillis::from_secs(60);
    site.node.executors.run(order.clone());
    hear(&order, "ready");
    site.node.executors.stop(order.run, StopReason::Cancel);
    site.node.executors.stop(order.run, StopReason::Kill);
    assert_eq!(site.node.ended(order.run).outcome, Outcome::Cancelled);
}

#[test]
fn memory_processes_and_output_have_limits() {
    let Some(site) = Site::start() else { return };
    let mut order = site.order("x=$(yes | head -c 200000000); echo survived");
    order.limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    let ended = site.node.end_of(order);
    assert!(message(&ended).contains("out of memory (limit 32 MiB)"), "{ended:?}");

    let mut order = site.order("for n in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; wait; echo all");
    order.limits = Limits { processes_max: 5, ..Limits::default() };
    let ended = site.node.end_of(order);
    assert_eq!(ended.outcome.word(), "error", "{ended:?}");
    assert!(!stdout(&ended).contains("all"));

    let mut order = site.order("yes");
    order.limits = Limits { log_bytes_max: 1 << 20, ..Limits::default() };
    let ended = site.node.end_of(order);
    assert_eq!((ended.outcome.word(), ended.outputs.stdout.unwrap().size), ("permanent", 1 << 20));
}

#[test]
fn a_job_of_a_peer_is_kept_apart() {
    let Some(site) = Site::start() else { return };
    let digest = site.podman.digest();
    let script = "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; ls /sys/class/net; \
                  touch /file || echo sealed; echo mine > mine && cat mine";
    let mut order = site.node.order(shell(&format!("localhost/jm-busybox@{digest}"), script));
    order.is_foreign = true;
    let ended = site.node.end_of(order);
    assert_eq!((&ended.outcome, ended.isolation), (&Outcome::Ok, Isolation::Sandboxed), "{ended:?}");
    assert_eq!(stdout(&ended), "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nlo\nsealed\nmine\n");

    let mut order = site.order("true");
    order.isolation = Isolation::Untrusted;
    assert_eq!(site.node.end_of(order).outcome.word(), "permanent");
}

#[test]
fn an_image_is_run_if_the_node_permits_it() {
    let Some(site) = Site::start_with(|containers| containers.allow = vec!["localhost/jm-*".to_owned()]) else {
        return;
    };
    let mut order = site.order("echo allowed");
    order.is_foreign = true;
    assert_eq!(site.node.end_of(order).outcome, Outcome::Ok);
    let mut order = site.node.order(shell("localhost/other:1", "true"));
    order.is_foreign = true;
    let ended = site.node.end_of(order);
    let Outcome::Released { reason } = &ended.outcome else { panic!("{ended:?}") };
    assert!(reason.contains("localhost/other"), "{reason}");

    let Some(strict) = Site::start_with(|containers| containers.images = Images::Digest) else { return };
    let ended = strict.end_of("true");
    assert!(message(&ended).contains("container.images"), "{ended:?}");
    let image = format!("localhost/jm-busybox@{}", strict.podman.digest());
    assert_eq!(strict.node.end_of(strict.node.order(shell(&image, "true"))).outcome, Outcome::Ok);
}

#[test]
fn what_can_not_start_says_why() {
    let Some(site) = Site::start() else { return };
    let mut order = site.node.order(shell("localhost/nothing:1", "true"));
    task(&mut order).pull = Some(Pull::Never);
    let ended = site.node.end_of(order);
    assert_eq!(ended.outcome.word(), "permanent");
    assert!(message(&ended).contains("pull localhost/nothing:1"), "{ended:?}");

    // Nobody listens there.
    let ended = site.node.end_of(site.node.order(shell("127.0.0.1:1/nothing:1", "true")));
    assert_eq!(ended.outcome.word(), "error", "{ended:?}");
    assert!(message(&ended).contains("failed to fetch image"), "{ended:?}");

    let task = Task::Container(ContainerTask::new(IMAGE, vec!["no-such-program".to_owned()]));
    let ended = site.node.end_of(site.node.order(task));
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
}

#[test]
fn without_an_engine_a_job_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let containers = Containers { socket: Some(home.path().join("none.sock")), ..Containers::default() };
    let node = Node::start_among(1, Groups::Use, containers);
    let ended = node.end_of(node.order(shell(IMAGE, "true")));
    assert_eq!(ended.outcome.word(), "error");
    assert!(message(&ended).contains("no such socket"), "{ended:?}");
    let probe = node.executors.probe().into_iter().find(|probe| probe.executor == "container").unwrap();
    assert_eq!(probe.isolation, None);
    assert!(probe.lacks.iter().any(|lack| lack.contains("container.socket")), "{probe:?}");
}

#[test]
fn an_engine_tells_what_it_is() {
    let Some(site) = Site::start() else { return };
    let probe = site.node.executors.probe().into_iter().find(|probe| probe.executor == "container").unwrap();
    assert_eq!(probe.isolation, Some(Isolation::Sandboxed));
    assert_eq!(probe.facts.get("engine").map(String::as_str), Some("podman"), "{probe:?}");
}

#[test]
fn a_run_outlives_a_restart_of_its_engine() {
    // An engine that no other test talks to.
    let Some(podman) = podman() else { return };
    let podman = podman.alone();
    let node = podman::node(podman::containers(&podman));
    let order = node.order(shell(IMAGE, "echo before; while ! test -e go; do sleep 0.1; done; echo after; exit 4"));
    node.executors.run(order.clone());
    hear(&order, "before");
    podman.stop_service();
    podman.serve();
    std::fs::write(order.directory.join("work/go"), "").unwrap();
    let ended = node.ended(order.run);
    assert_eq!((ended.outcome, ended.inline), (Outcome::error("exit code 4"), vec![b"before\nafter\n".to_vec()]));
}

/// The variable that makes [`a_daemon_with_a_container`] one; its value is the daemon's home.
const DAEMON: &str = "TEST_CONTAINER_DAEMON_HOME";

/// Not a test but the daemon of the next ones, which start this program anew and kill it.
#[test]
fn a_daemon_with_a_container() {
    let Some(home) = std::env::var_os(DAEMON).map(PathBuf::from) else { return };
    let socket = std::env::var_os("SOCKET").map(PathBuf::from);
    let name = std::env::var("NODE").unwrap();
    let mut node = Node::start_among(1, Groups::Use, Containers { socket, node: name, ..Containers::default() });
    node.network = false;
    let mut order = node.order(shell(IMAGE, "echo before; while ! test -e go; do sleep 0.1; done; echo after; exit 6"));
    order.directory = home.join("run");
    std::fs::write(home.join("name"), order.run.to_string()).unwrap();
    let run = order.run;
    node.executors.run(order);
    node.ended(run);
}

/// Starts a daemon with a container, kills it when the container has begun, and returns the order that is left.
fn left_behind(site: &Site, home: &std::path::Path) -> Order {
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", "containers::a_daemon_with_a_container"]).env(DAEMON, home);
    daemon.env("SOCKET", site.podman.socket()).env("NODE", &site.name).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let mut order = site.order("");
    order.directory = home.join("run");
    hear(&order, "before");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let name = std::fs::read_to_string(home.join("name")).unwrap();
    order.run = jobmesh_protocol::RunId::parse(&name).unwrap();
    order
}

fn adopt(order: &Order) -> Adopt {
    Adopt {
        had_inputs: false,
        run: order.run,
        process: None,
        directory: order.directory.clone(),
        outputs: Vec::new(),
        kill_grace: order.kill_grace,
        limits: order.limits,
        confinement: Confinement::Open,
        container: Some(Box::new(order.clone())),
    }
}

#[test]
fn a_container_survives_the_kill_of_its_daemon_and_loses_nothing() {
    let Some(site) = Site::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let order = left_behind(&site, home.path());
    site.node.executors.adopt(adopt(&order)).unwrap();
    site.node.started(order.run);
    std::fs::write(order.directory.join("work/go"), "").unwrap();
    let ended = site.node.ended(order.run);
    assert_eq!((ended.outcome, ended.inline), (Outcome::error("exit code 6"), vec![b"before\nafter\n".to_vec()]));
}

#[test]
fn one_that_ended_without_a_daemon_is_told_of_and_one_that_is_gone_is_lost() {
    let Some(site) = Site::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let order = left_behind(&site, home.path());
    std::fs::write(order.directory.join("work/go"), "").unwrap();
    site.node.executors.adopt(adopt(&order)).unwrap();
    assert_eq!(site.node.ended(order.run).outcome, Outcome::error("exit code 6"));
    site.node.executors.adopt(adopt(&order)).unwrap();
    assert_eq!(site.node.ended(order.run).outcome.word(), "lost", "it was removed");
}

#[test]
fn containers_of_runs_that_are_over_are_swept() {
    let Some(site) = Site::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let order = left_behind(&site, home.path());
    let live = order.run;
    site.node.executors.sweep(move |run| run == live);
    assert_eq!(site.podman.containers_of(&site.name).len(), 1, "it is under way");
    site.node.executors.sweep(|_| false);
    assert_eq!(site.podman.containers_of(&site.name), Vec::<String>::new());
}

/// An image's volume is room on the engine's own disk, which nobody measures: a job of a peer could fill it.
#[test]
fn a_volume_of_an_image_is_small_for_who_is_kept_apart() {
    let Some(site) = Site::start() else { return };
    let image = site.podman.import_with("localhost/jm-volume:1", "VOLUME /data");
    let script = "echo kept > /data/small && cat /data/small; grep -c ' /data tmpfs ' /proc/mounts; \
                  head -c 96M /dev/zero > /data/big; echo $?";
    let order = site.node.order(shell(&image, script));
    let limits = Limits { disk_bytes: Some(4 << 20), ..Limits::default() };
    let ended = site.node.end_of(Order { isolation: Isolation::Sandboxed, limits, ..order });
    assert_eq!(ended.isolation, Isolation::Sandboxed, "{ended:?}");
    assert_eq!(stdout(&ended), "kept\n1\n1\n", "{ended:?}");
}

/// At the start of the machine the engine came up later than the node, and what was left was never removed.
#[test]
fn what_earlier_lives_left_is_swept_once_an_engine_is_met() {
    let Some(mut site) = Site::start() else { return };
    let place = tempfile::tempdir().unwrap();
    let order = left_behind(&site, place.path());
    let late =
        Containers { socket: Some(place.path().join("later.sock")), node: site.name.clone(), ..Containers::default() };
    site.node = podman::node(late);
    site.node.executors.sweep(|_| false);
    assert_eq!(site.podman.containers_of(&site.name).len(), 1, "{} is still there", order.run);
    std::os::unix::fs::symlink(site.podman.socket(), place.path().join("later.sock")).unwrap();
    assert_eq!(site.end_of("true").outcome, Outcome::Ok);
    assert_eq!(site.podman.containers_of(&site.name), Vec::<String>::new());
}

/// A way to the engine on which a request with this word is told of, and then waits to be let through.
fn slow_way(engine: PathBuf, word: &'static str, at: &std::path::Path, (is_asked, go): (SyncSender<()>, Receiver<()>)) {
    let listener = UnixListener::bind(at).unwrap();
    let go = Arc::new(Mutex::new(go));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut up) = (client.unwrap(), UnixStream::connect(&engine).unwrap());
            let (mut back, mut down) = (client.try_clone().unwrap(), up.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut down, &mut back));
            let (is_asked, go) = (is_asked.clone(), Arc::clone(&go));
            std::thread::spawn(move || {
                let mut bytes = [0_u8; 64 * 1024];
                while let Ok(count) = client.read(&mut bytes)
                    && count > 0
                {
                    if String::from_utf8_lossy(&bytes[..count]).contains(word) {
                        is_asked.send(()).unwrap();
                        // A test that has failed lets everything through.
                        let _ = go.lock().unwrap().recv();
                    }
                    if up.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
                let _ = up.shutdown(std::net::Shutdown::Write);
            });
        }
    });
}

/// The engine went on making what nobody waited for any more, and it was left until the next start of the node.
#[test]
fn a_container_that_is_being_made_when_its_run_is_stopped_is_removed() {
    let Some(engine) = podman() else { return };
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("engine.sock");
    let ((asked, is_asked), (go, gate)) = (sync_channel(8), sync_channel(8));
    slow_way(engine.socket(), "containers/create", &at, (asked, gate));
    let Some(site) = Site::start_with(|containers| containers.socket = Some(at.clone())) else { return };
    let order = site.order("sleep 600");
    let run = order.run;
    site.node.executors.run(order);
    is_asked.recv_timeout(DEADLINE).unwrap();
    site.node.executors.stop(run, StopReason::Cancel);
    go.send(()).unwrap();
    assert_eq!(site.node.ended(run).outcome, Outcome::Cancelled);
}

/// A run that met what others had left heard nothing until the engine had answered for each of it.
#[test]
fn a_run_that_has_leftovers_removed_hears_that_it_must_end() {
    let Some(site) = Site::start() else { return };
    let place = tempfile::tempdir().unwrap();
    left_behind(&site, place.path());
    let at = place.path().join("engine.sock");
    let late = podman::node(Containers { socket: Some(at.clone()), node: site.name.clone(), ..Containers::default() });
    late.executors.sweep(|_| false);
    let ((asked, is_asked), (go, gate)) = (sync_channel(8), sync_channel::<()>(8));
    slow_way(site.podman.socket(), "DELETE ", &at, (asked, gate));
    let order = late.order(shell(IMAGE, "true"));
    let run = order.run;
    late.executors.run(order);
    is_asked.recv_timeout(DEADLINE).unwrap();
    let began = Instant::now();
    late.executors.stop(run, StopReason::Cancel);
    assert_eq!(late.ended(run).outcome, Outcome::Cancelled);
    assert!(began.elapsed() < DEADLINE / 6, "{:?}", began.elapsed());
    drop(go);
    site.node.executors.sweep(|_| false);
}
