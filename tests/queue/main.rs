//! One real daemon: submit, run, wait, cancel, and what the commands say.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

mod reload;
mod secrets;

use jobmesh_tests::Bench;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

#[test]
fn run_starts_a_node_streams_the_output_and_exits_with_the_code() {
    let bench = bench();
    let node = bench.node("a");
    let run = node.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((run.code, run.text().as_str()), (3, "out\n"), "{}", run.stderr);
    assert!(run.stderr.contains("err\n"));
    node.adopt();
}

#[test]
fn every_command_prints_json_that_parses() {
    let bench = bench();
    let node = bench.up("a");
    let job = node.submit(&["--name", "first", "--", "echo", "hello"]);
    node.wait_for(std::slice::from_ref(&job));
    for arguments in [
        vec!["status"],
        vec!["ls"],
        vec!["ls", "-a"],
        vec!["show", &job],
        vec!["explain", &job],
        vec!["wait", &job],
        vec!["peers"],
        vec!["capability", "ls"],
        vec!["capability", "add", "tool:x"],
        vec!["capability", "rm", "tool:x"],
        vec!["learn"],
        vec!["invite"],
    ] {
        let value = node.json(&arguments);
        assert!(value.is_object() || value.is_array(), "{arguments:?}: {value}");
        assert_eq!(node.run(&arguments).code, 0, "{arguments:?}");
    }
}

#[test]
fn a_second_daemon_on_the_same_home_names_the_first() {
    let bench = bench();
    let node = bench.up("a");
    let pid = node.json(&["status"])["pid"].as_u64().unwrap().to_string();
    let second = node.run(&["up"]);
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&pid), "{}", second.stderr);
}

#[test]
fn errors_name_the_object_and_the_remedy() {
    let bench = bench();
    let node = bench.node("a");
    let down = node.run(&["ls"]);
    assert_eq!(down.code, 69, "{}", down.stderr);
    assert!(down.stderr.contains("hint:"), "{}", down.stderr);
    node.up();
    let missing = node.run(&["show", "77"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("77"), "{}", missing.stderr);
    let bad = node.run(&["submit", "--require", "a b", "--", "true"]);
    assert_eq!(bad.code, 2, "{}", bad.stderr);
}

#[test]
fn a_cancelled_job_takes_everything_it_started_with_it() {
    let bench = bench();
    let node = bench.up("a");
    let pidfile = bench.folder().join("pid");
    let script = format!("setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & wait", pidfile.display());
    let job = node.submit(&["--", "sh", "-c", &script]);
    let until = format!("while [ ! -e {} ]; do sleep 0.02; done", pidfile.display());
    assert!(std::process::Command::new("timeout").args(["30", "sh", "-c", &until]).status().unwrap().success());
    let child = std::fs::read_to_string(&pidfile).unwrap();
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "cancelled", "{shown}");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the child still runs: {stat}");
}

#[test]
fn a_timeout_and_retries_end_in_a_dead_letter_that_can_be_retried() {
    let bench = bench();
    let node = bench.up("a");
    let job = node.submit(&["--timeout", "100ms", "--retries", "1", "--backoff", "10ms..20ms", "--", "sleep", "100"]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(node.run(&["retry", &job]).code, 0);
    assert_eq!(node.ended(&job)["attempts"].as_array().unwrap().len(), 4);
}

#[test]
fn a_thousand_submits_from_eight_shells_complete() {
    let bench = bench();
    let node = bench.up("a");
    let shells: Vec<_> = (0..8)
        .map(|_| {
            let mut shell = std::process::Command::new("sh");
            let loops = "for i in $(seq 125); do \"$0\" submit -- true >/dev/null || exit 1; done";
            shell.args(["-c", loops, env!("CARGO_BIN_EXE_jobmesh")]).env("JOBMESH_HOME", node.home());
            shell.spawn().unwrap()
        })
        .collect();
    for mut shell in shells {
        assert!(shell.wait().unwrap().success());
    }
    let all: Vec<String> = (1..=1000).map(|number: u32| number.to_string()).collect();
    node.wait_for(&all);
    let counts = node.json(&["status"]);
    assert_eq!(counts["jobs"]["completed"], 1000, "{counts}");
}

#[test]
fn a_full_disk_refuses_submits_and_keeps_what_was_acknowledged() {
    let bench = bench();
    let script = "
        mount -t tmpfs -o size=12m tmpfs \"$1\" || exit 99
        cp \"$2\" \"$1/config.toml\" && chmod 700 \"$1\"
        export JOBMESH_HOME=\"$1\"
        \"$0\" up -d || exit 1
        acknowledged=0
        for i in $(seq 400); do
            if \"$0\" submit --env FILL=$(head -c 30000 /dev/zero | tr '\\0' x) -- true 2>\"$3\"; then
                acknowledged=$((acknowledged + 1))
            else break; fi
        done
        grep -q 'full' \"$3\" || { echo no clear error; cat \"$3\"; exit 2; }
        [ $acknowledged -gt 0 ] || exit 3
        echo acknowledged $acknowledged
        \"$0\" wait $(seq $acknowledged) --timeout 60s || exit 4
        \"$0\" status --json
        \"$0\" down --now
    ";
    let node = bench.node("full");
    let (config, errors) = (bench.folder().join("config.toml"), bench.folder().join("errors"));
    std::fs::copy(node.home().join("config.toml"), &config).unwrap();
    let run = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_jobmesh")])
        .args([node.home(), config.as_path(), errors.as_path()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    if run.status.code() == Some(99) {
        eprintln!(
            "SKIPPED: this machine allows no mount in a namespace of its own: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        return;
    }
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("acknowledged"), "{text}");
}
