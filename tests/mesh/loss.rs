//! Nodes that die, freeze and come back in the middle of a job.

use crate::{bench, open_pair};

/// A job on `b` that runs until the file `go` of this folder exists; says so by making `started`.
fn gated(folder: &std::path::Path) -> String {
    let folder = folder.display();
    format!("echo x >> {folder}/started; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo done")
}

/// Waits until the job has started so many times, by reading a pipe that the shell ends.
fn until_started(folder: &std::path::Path, times: usize) {
    let script = format!(
        "for i in $(seq 1200); do [ \"$(cat {0}/started 2>/dev/null | wc -l)\" -ge {times} ] && exit 0; sleep 0.05; done; exit 1",
        folder.display()
    );
    let status = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(status.success(), "the job has not started {times} times");
}

#[test]
fn the_origin_dies_while_the_peer_runs_and_gets_the_result_once() {
    let bench = bench();
    let (a, _b) = open_pair(&bench);
    let job = a.submit(&["--require", "tool:gzip", "--", "sh", "-c", &gated(bench.folder())]);
    until_started(bench.folder(), 1);
    a.kill();
    std::fs::write(bench.folder().join("go"), "").unwrap();
    a.up();
    let shown = a.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    let accepted = shown["receipts"].as_array().unwrap().iter().filter(|r| r["verdict"] == "accepted").count();
    assert_eq!((accepted, shown["attempts"].as_array().unwrap().len()), (1, 1), "{shown}");
}

#[test]
fn the_peer_dies_while_it_runs_and_the_job_runs_again() {
    let bench = bench();
    let (a, b) = open_pair(&bench);
    let job = a.submit(&["--require", "tool:gzip", "--", "sh", "-c", &gated(bench.folder())]);
    until_started(bench.folder(), 1);
    b.kill();
    b.up();
    std::fs::write(bench.folder().join("go"), "").unwrap();
    let shown = a.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["attempts"][0]["state"], "lost");
}

#[test]
fn a_frozen_peer_loses_its_lease_and_its_late_receipt_is_superseded() {
    let bench = bench();
    let (a, b) = open_pair(&bench);
    let c = bench.up("c");
    assert_eq!(c.run(&["capability", "rm", "tool:gzip"]).code, 0);
    a.admit(&c);
    let job = a.submit(&["--require", "tool:gzip", "--", "sh", "-c", &gated(bench.folder())]);
    until_started(bench.folder(), 1);
    b.pid().freeze();
    std::fs::write(bench.folder().join("go"), "").unwrap();
    assert_eq!(c.run(&["capability", "add", "tool:gzip"]).code, 0);
    let shown = a.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    assert_eq!(shown["attempts"][1]["node"]["name"], "c", "{shown}");
    b.pid().thaw();
    // The next job on `b` queues behind the receipt in the session, so its end shows that the receipt has come.
    assert_eq!(c.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(b.run(&["capability", "add", "tool:after"]).code, 0);
    assert_eq!(a.run(&["run", "--require", "tool:after", "--", "true"]).code, 0);
    let shown = a.json(&["show", &job]);
    let verdicts: Vec<&str> =
        shown["receipts"].as_array().unwrap().iter().map(|r| r["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["superseded", "accepted"], "{shown}");
}
