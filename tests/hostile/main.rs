//! Jobs of a member that mean harm, with real programs on a real node: each is stopped by the level that claims to, and
//! the node answers all the while.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

mod files;
mod network;
mod terminal;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Node, Run, with_argument};

/// How long a node may take to answer while it is under attack.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long something may take to be known everywhere.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the victim lets one run take.
const TABLES: &str = "[limits]\nlog_bytes = \"1MiB\"\nprocesses = 40\ndisk_bytes = \"8MiB\"\n\
                      [isolation]\nmembers = \"sandboxed\"\n";

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// An attacker `a` and its victim `b`; none, after saying so, where no sandbox can be made.
fn pair(bench: &Bench, tables: &str) -> Option<(Node, Node)> {
    let b = bench.node_with("b", 2, tables);
    b.up();
    let tags = b.run(&["capability", "ls"]).text();
    if !tags.contains("isolation:process:sandboxed") {
        let doctor = b.run(&["doctor"]).text();
        assert!(std::env::var_os("JOBMESH_REQUIRE_TOOLS").is_none(), "no sandbox: {doctor}");
        eprintln!("SKIPPED: no sandbox can be made on this machine: {doctor}");
        return None;
    }
    Some((attacker(bench, &b), b))
}

fn attacker(bench: &Bench, b: &Node) -> Node {
    let a = bench.up("a");
    a.admit(b);
    assert_eq!(b.run(&["capability", "add", "tool:victim"]).code, 0);
    a
}

/// Runs something of `a` on the victim.
fn attack(a: &Node, command: &[&str]) -> Run {
    a.run(&[&["run", "--require", "tool:victim", "--"], command].concat())
}

/// Asks a node what it does, and how long that took.
fn is_responsive(node: &Node) {
    let began = Instant::now();
    assert_eq!(node.run(&["ls"]).code, 0);
    assert!(began.elapsed() < ANSWER_MAX, "{:?}", began.elapsed());
}

/// The victim answers, and runs the next job.
fn goes_on(a: &Node, b: &Node) {
    is_responsive(b);
    let run = attack(a, &["echo", "next"]);
    assert_eq!((run.code, run.text().as_str()), (0, "next\n"), "{}\n{}", run.stderr, b.log());
    assert!(!b.log().contains("panicked"), "{}", b.log());
}

#[test]
fn the_node_and_the_machine_are_not_seen() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let home = b.home().to_str().unwrap();
    let script = format!(
        "for f in {home} {home}/* /etc/shadow /root/.ssh /root/.bashrc /home/* /run/jobmesh/../docker.sock; do \
         if cat $f >/dev/null 2>&1 || ls $f/ >/dev/null 2>&1; then echo seen $f; fi; done; \
         ls -d /proc/[0-9]* | wc -l; env | grep -c {home}; cat /proc/1/environ 2>/dev/null | tr '\\0' '\\n' | grep HOME; id -u"
    );
    let run = attack(&a, &["sh", "-c", &script]);
    let text = run.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(!text.contains("seen") && lines.len() == 3, "{text}{}\n{}", run.stderr, a.log());
    assert!(lines[0].trim().parse::<u32>().unwrap() < 8, "{text}");
    assert_eq!(lines[1], "0", "the victim's home is named: {text}");
    assert_ne!(lines[2], "0", "{text}");
    let shown = a.json(&["show", "last"]);
    assert_eq!(shown["attempts"][0]["isolation"], "sandboxed", "{shown}");
    goes_on(&a, &b);
}

#[test]
fn no_door_leads_to_the_network_or_to_another_job() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, home) = (listener.local_addr().unwrap().port(), b.home().display());
    let name = format!("jobmesh-door-{}", std::process::id());
    let _open = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    // Each of the two calls would succeed if it were allowed.
    let script = format!(
        "import os, socket, ctypes\n\
         def door(name, family, address):\n    \
           s = socket.socket(family); s.settimeout(3)\n    \
           try:\n        s.connect(address); print('open', name)\n    \
           except OSError: pass\n\
         door('loopback', socket.AF_INET, ('127.0.0.1', {port}))\n\
         door('metadata', socket.AF_INET, ('169.254.169.254', 80))\n\
         door('control', socket.AF_UNIX, '{home}/control.sock')\n\
         door('abstract', socket.AF_UNIX, '\\0{name}')\n\
         libc = ctypes.CDLL(None)\n\
         print('ring', libc.syscall(425, 8, ctypes.create_string_buffer(120)), 'trace', libc.ptrace(0, 0, 0, 0))\n\
         try: os.kill(-1, 9); print('killed')\n\
         except OSError: print('nobody')\n"
    );
    let run = attack(&a, &["/usr/bin/python3", "-c", &script]);
    let said = run.text();
    assert!(said.starts_with("ring -1 trace -1\n") && !said.contains("open"), "{said}{}\n{}", run.stderr, a.log());
    goes_on(&a, &b);
}

#[test]
fn bombs_are_ended_and_the_node_answers() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    // Known by an argument of its own, and up before its parent ends.
    let escaped = format!("escaped-{}", std::process::id());
    let escape = format!(
        "mkfifo up; setsid sh -c 'trap \"\" TERM HUP INT; echo up > up; while :; do sleep 1; done' {escaped} & \
         cat up; exit 9"
    );
    let bombs: [(&str, &str); 7] = [
        ("process limit", "f() { f | f & }; f; sleep 100"),
        ("log limit", "yes"),
        ("disk limit", "head -c 200M /dev/zero > big; sleep 100"),
        ("disk limit", "i=0; while :; do i=$((i+1)); head -c 500k /dev/zero > f$i; done"),
        // No directory tells of a file that was removed and is written on.
        ("disk limit", "exec 3>f 4>g; rm f g; head -c 7M /dev/zero >&3; head -c 7M /dev/zero >&4; sleep 100"),
        // What is small until somebody unpacks it: the node does not, and the job only within its limit.
        ("disk limit", "head -c 200M /dev/zero | gzip -1 > bomb.gz; gzip -dc bomb.gz > big; sleep 100"),
        ("exit code 9", &escape),
    ];
    for (expected, script) in bombs {
        let job = a.submit(&["--require", "tool:victim", "--", "sh", "-c", script]);
        is_responsive(&b);
        let shown = a.ended(&job);
        let outcome = shown["attempts"][0].to_string();
        assert!(outcome.contains(expected), "{script}: {shown}\n{}", a.log());
        is_responsive(&b);
    }
    assert!(with_argument(&escaped).is_empty(), "who left its session goes on");
    let status = b.json(&["status"]);
    assert_eq!(status["running"].as_u64().unwrap_or(0), 0, "{status}");
    goes_on(&a, &b);
}

#[test]
fn a_memory_bomb_hits_its_own_limit() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let bomb = "import sys\nx = []\nwhile True: x.append(bytearray(1 << 20))";
    let job = a.submit(&["--require", "tool:victim", "--mem", "64MiB", "--", "/usr/bin/python3", "-c", bomb]);
    let attempt = a.ended(&job)["attempts"][0].to_string();
    assert!(attempt.contains("out of memory (limit 64 MiB"), "{attempt}\n{}", b.log());
    goes_on(&a, &b);
}

#[test]
fn a_node_without_the_level_refuses_and_explain_says_so() {
    let bench = bench();
    let b = bench.node_with("b", 2, "[isolation]\nmembers = \"sandboxed\"\nsandbox = false\n");
    b.up();
    let a = attacker(&bench, &b);
    let job = a.submit(&["--require", "tool:victim", "--", "true"]);
    let began = Instant::now();
    loop {
        let why = a.json(&["explain", &job]).to_string();
        if why.contains("can't keep it apart well enough (sandboxed)") {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{why}\n{}", a.log());
    }
    assert_eq!(a.json(&["show", &job])["job"]["state"], "available");
    let doctor = b.run(&["doctor"]).text();
    assert!(doctor.contains("at most contained") && doctor.contains("isolation.sandbox"), "{doctor}");
}

/// Nothing ties a sandbox to the daemon that made it, and what it ends with is what its program ended with.
#[test]
fn a_sandboxed_job_outlives_its_daemon_and_is_adopted() {
    let bench = bench();
    let own = TABLES.replace("members =", "own = \"sandboxed\"\nmembers =");
    let Some((_, b)) = pair(&bench, &own) else { return };
    let script = "echo up; until [ -e go ]; do sleep 0.05; done; echo '{\"outcome\":\"permanent\",\"message\":\"told\"}' \
                  > $JOBMESH_OUTCOME; echo 41 > $JOBMESH_RESULT; exit 5";
    let job = b.submit(&["--", "sh", "-c", script]);
    let began = Instant::now();
    while b.wrote(&job) != "up\n" || b.json(&["show", &job])["attempts"][0]["pid"].is_null() {
        assert!(began.elapsed() < DEADLINE, "{}", b.json(&["show", &job]));
    }
    b.kill();
    b.up();
    let runs = std::fs::read_dir(b.home().join("runs")).unwrap().flatten();
    let run = runs.map(|entry| entry.path()).find(|path| path.join("words").exists()).unwrap();
    std::fs::write(run.join("work/go"), "").unwrap();
    let shown = b.ended(&job);
    let attempt = &shown["attempts"][0];
    assert!(attempt.to_string().contains("told"), "{shown}\n{}", b.log());
    assert_eq!(attempt["isolation"], "sandboxed", "{shown}");
    assert_eq!(b.run(&["result", &job]).text().trim(), "41", "{shown}");
    assert!(!run.join("words").exists());
}

/// A sandboxed job has the socket of tasks, by which it could have another job do what it can't do itself.
#[test]
fn a_sandboxed_job_finds_no_way_out_through_its_children() {
    let bench = bench();
    let tables = format!("{TABLES}[secrets.hidden]\nfrom = \"env:PATH\"\n");
    let Some((_, b)) = pair(&bench, &tables) else { return };
    let home = b.home().display().to_string();
    let script = "import json, os, socket\n\
         s = socket.socket(socket.AF_UNIX); s.connect(os.environ['JOBMESH_SOCKET']); f = s.makefile('rw')\n\
         def say(line):\n    \
           f.write(json.dumps(line) + '\\n'); f.flush(); return json.loads(f.readline())\n\
         say({'run': os.environ['JOBMESH_RUN'], 'token': os.environ['JOBMESH_TOKEN']})\n\
         def submit(task, **more):\n    \
           answer = say({'submit': {'spec': dict({'job_type': 'x', 'scope': 'local', 'task': task}, **more)}})\n    \
           print(answer['error']['message'] if 'error' in answer else 'took %d' % answer['submitted']['number'])\n\
         look = {'process': {'argv': ['sh', '-c', 'ls HOME; cat HOME/node.key; echo looked']}}\n\
         submit(look, network=True)\n\
         submit(look, secrets={'X': 'hidden'})\n\
         submit({'http': {'url': 'http://127.0.0.1:1/'}})\n\
         submit(look)\n"
        .replace("HOME", &home);
    let run = b.run(&["run", "--isolation", "sandboxed", "--", "/usr/bin/python3", "-c", &script]);
    let text = run.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}{}\n{}", run.stderr, b.log());
    for (line, part) in lines.iter().zip(["has no network", "no secrets but its own", "has no network", "took "]) {
        assert!(line.contains(part), "{text}");
    }
    let child = lines[3].trim_start_matches("took ");
    let shown = b.ended(child);
    assert_eq!(shown["attempts"][0]["isolation"], "sandboxed", "{shown}");
    assert_eq!(b.wrote(child), "looked\n", "{shown}");
}
