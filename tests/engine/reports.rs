//! What a job says of itself while it runs, through the socket that it is given.

use jobmesh_tests::Gate;

use crate::{bench, node, now};

#[test]
fn how_far_a_job_is_can_be_seen_while_it_runs() {
    let bench = bench();
    let node = node(&bench, "");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let tool = node.binary().display().to_string();
    let script = format!("{tool} task progress 40 'half way'; cat $0 $1; {tool} task notify 'nearly there'; cat $2 $2");
    let [first, second, third] = gates.each_ref().map(Gate::path);
    let job = node.submit(&["--", "sh", "-c", &script, first, second, third]);
    let progress = || node.job(&job)["progress"].take();
    gates[0].open();
    assert_eq!((&progress()["done"], &progress()["message"]), (&4000.into(), &"half way".into()));
    gates[1].open();
    gates[2].open();
    // What comes soon after something else is written down within a second.
    let deadline = now() + 30_000;
    while progress()["message"] != "nearly there" {
        assert!(now() < deadline, "{}", progress());
    }
    gates[2].open();
    node.wait_for(&[job]);
}

/// The next attempt was shown as far as the one before it had come.
#[test]
fn how_far_an_earlier_attempt_was_is_not_shown_of_the_next() {
    let bench = bench();
    let node = node(&bench, "");
    let tool = node.binary().display().to_string();
    let gate = Gate::new(bench.folder(), "gate");
    let script = format!("[ $JOBMESH_ATTEMPT = 1 ] && {tool} task progress 40 && exit 1; cat $0 $0");
    let job = node.submit(&["--retries", "1", "--backoff", "fixed:1ms", "--", "sh", "-c", &script, gate.path()]);
    gate.open();
    let shown = node.job(&job);
    assert!(shown["epoch"] == 2 && shown["progress"].is_null(), "{shown}");
    gate.open();
    node.wait_for(&[job]);
}

#[test]
fn what_is_remembered_is_there_for_the_next_attempt_and_after_a_crash() {
    let bench = bench();
    let node = node(&bench, "");
    let tool = node.binary().display().to_string();
    let gate = Gate::new(bench.folder(), "gate");
    let script = format!(
        "case $JOBMESH_ATTEMPT in
            1) {tool} task checkpoint get page && exit 9; {tool} task checkpoint set page 7; cat $0; exit 1 ;;
            *) {tool} task checkpoint get page ;;
        esac"
    );
    let job = node.submit(&["--retries", "1", "--backoff", "fixed:1ms", "--", "sh", "-c", &script, gate.path()]);
    gate.open();
    node.wait_for(std::slice::from_ref(&job));
    assert_eq!(node.wrote(&job), "7\n");
}

#[test]
fn a_job_that_shows_that_it_lives_is_not_ended_for_its_silence() {
    let bench = bench();
    let node = node(&bench, "");
    let tool = node.binary().display().to_string();
    let script = format!("for i in 1 2 3 4 5 6; do {tool} task heartbeat || exit 9; sleep 0.3; done");
    let job = node.submit(&["--heartbeat", "1s", "--", "sh", "-c", &script]);
    node.wait_for(&[job]);
}

#[test]
fn the_socket_speaks_lines_and_believes_only_the_job_itself() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "
        import json, os, socket, sys
        def say(line):
            s = socket.socket(socket.AF_UNIX); s.connect(os.environ['JOBMESH_SOCKET'])
            s.sendall((line + '\\n').encode()); return json.loads(s.makefile().readline())
        own = dict(run=os.environ['JOBMESH_RUN'], token=os.environ['JOBMESH_TOKEN'])
        print(say(json.dumps(dict(own, progress=0.5))).get('ok'))
        print('error' in say(json.dumps(dict(own, token='0' * 64, progress=0.9))))
        print('error' in say('nonsense'))
        print('error' in say(json.dumps(dict(own, colour='red'))))
    ";
    let script: String = script.lines().map(|line| line.get(8..).unwrap_or_default().to_owned() + "\n").collect();
    let job = node.submit(&["--", "python3", "-c", &script]);
    let shown = node.ended(&job);
    if shown["job"]["finish_reason"] == "permanent" {
        eprintln!("SKIPPED: this machine has no python3 to speak with");
        return;
    }
    assert_eq!(node.wrote(&job), "True\nTrue\nTrue\nTrue\n", "{shown}");
}

#[test]
fn outside_of_a_job_the_command_says_where_it_belongs() {
    let bench = bench();
    let node = node(&bench, "");
    let run = node.run(&["task", "progress", "40"]);
    assert!(run.code == 2 && run.stderr.contains("inside a job"), "{} {}", run.code, run.stderr);
}
