//! Submit and wait, thousands of times: none may hang.
//!
//! The hard case is an end that comes between the submit's answer and the wait's first look.

use std::sync::Barrier;

use jobmesh_tests::{Api, Value, json, scaled};

use crate::bench;

fn noop() -> Value {
    json!({"spec": {"job_type": "noop", "task": {"noop": {}}}})
}

fn process() -> Value {
    json!({"spec": {"job_type": "true", "task": {"process": {"argv": ["true"]}}}})
}

/// Submits and waits in one request.
fn follow(api: &mut Api, submission: &Value) {
    let ended = api.ask("POST", "/v1/jobs?follow=true", Some(submission)).last_line();
    assert_eq!((&ended["type"], &ended["detail"]["job"]["state"]), (&json!("ended"), &json!("completed")), "{ended}");
}

/// Submits in one request and waits in another.
fn submit_and_wait(api: &mut Api, submission: &Value) {
    let submitted = api.ask("POST", "/v1/jobs", Some(submission)).json();
    let path = format!("/v1/jobs/{}/wait?timeout_ms=60000", submitted["number"]);
    let ended = api.ask("GET", &path, None).json();
    assert_eq!(ended["job"]["state"], "completed", "{ended}");
}

/// One of the four ways by which a program can submit and wait.
fn one(api: &mut Api, number: usize) {
    match number % 4 {
        0 => follow(api, &noop()),
        1 => submit_and_wait(api, &process()),
        2 => follow(api, &process()),
        _ => submit_and_wait(api, &noop()),
    }
}

#[test]
fn every_wait_in_a_row_returns() {
    let bench = bench();
    let node = bench.up("a");
    let mut api = node.api();
    let count = scaled(500, 10_000);
    for number in 0..count {
        one(&mut api, number);
    }
    assert_eq!(node.json(&["status"])["jobs"], json!({"completed": count}));
}

#[test]
fn every_wait_of_a_crowd_returns() {
    let bench = bench();
    let node = bench.up("a");
    let count = scaled(200, 1000);
    let (start, home) = (Barrier::new(count), node.home());
    std::thread::scope(|scope| {
        for number in 0..count {
            let start = &start;
            let client = move || {
                start.wait();
                one(&mut Api::open(home), number);
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, client).unwrap();
        }
    });
    assert_eq!(node.json(&["status"])["jobs"], json!({"completed": count}));
}

#[test]
fn every_wait_of_the_command_line_returns() {
    let bench = bench();
    let node = bench.up("a");
    for number in 0..25 {
        let run = node.run(&["run", "--", "sh", "-c", &format!("exit {number}")]);
        assert_eq!(run.code, number, "{}", run.stderr);
    }
    let waits: Vec<_> = (0..25).map(|_| node.spawn(&["submit", "--wait", "--", "true"])).collect();
    for wait in waits {
        let output = wait.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
