//! `kill -9` of a daemon at random moments of a stream of submissions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::bench;

const SUBMISSIONS: usize = 200;
const KILLS: usize = 50;

/// Submits until enough are acknowledged; a daemon that is down refuses, and the same job is submitted again.
fn submit_all(binary: &str, home: &std::path::Path, acknowledged: &Mutex<Vec<String>>) {
    while acknowledged.lock().unwrap().len() < SUBMISSIONS {
        let mut command = std::process::Command::new(binary);
        let output = command.args(["submit", "--json", "--", "true"]).env("JOBMESH_HOME", home).output().unwrap();
        if output.status.success() {
            let value: jobmesh_tests::Value = serde_json_from(&output.stdout);
            acknowledged.lock().unwrap().push(value["number"].as_u64().unwrap().to_string());
        }
    }
}

fn serde_json_from(bytes: &[u8]) -> jobmesh_tests::Value {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// A different fraction of a second every time, the same in every run.
fn pause(round: usize) -> String {
    format!("0.{:03}", (round * 7919 + 13) % 300)
}

#[test]
fn every_acknowledged_job_ends_exactly_once_through_fifty_kills() {
    let bench = bench();
    let node = bench.up("a");
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let is_done = Arc::new(AtomicBool::new(false));
    let submitter = {
        let (acknowledged, is_done, home) = (Arc::clone(&acknowledged), Arc::clone(&is_done), node.home().to_owned());
        std::thread::spawn(move || {
            submit_all(env!("CARGO_BIN_EXE_jobmesh"), &home, &acknowledged);
            is_done.store(true, Ordering::SeqCst);
        })
    };
    for round in 0..KILLS {
        // The pause is the random moment itself, not a wait for something to happen.
        std::process::Command::new("sleep").arg(pause(round)).status().unwrap();
        node.kill();
        node.up();
    }
    submitter.join().unwrap();
    assert!(is_done.load(Ordering::SeqCst));
    let acknowledged = acknowledged.lock().unwrap().clone();
    node.wait_for(&acknowledged);
    for job in &acknowledged {
        let shown = node.json(&["show", job]);
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        let ends = shown["events"].as_array().unwrap().iter().filter(|event| event["state"] == "completed").count();
        assert_eq!(ends, 1, "{shown}");
    }
}
