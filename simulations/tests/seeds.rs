//! Runs of whole worlds: every promise kept under faults, the same plan always the same, and an oracle that is awake.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::process::Command;

use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{DiskFault, FaultKind, Plan, Report, Watch, run};

/// Seeds of the normal test run; CI and people run thousands with the binary.
const SEEDS: u64 = 60;

/// Two minutes of faults: long enough for leases to be lost, short enough for an unoptimised build.
fn plan(seed: u64) -> Plan {
    Plan::new(seed).with_faults_for(DurationMillis::from_secs(120))
}

/// Runs these seeds and returns what struck in them.
fn all_hold(seeds: std::ops::Range<u64>) -> BTreeSet<FaultKind> {
    let mut struck = BTreeSet::new();
    for seed in seeds {
        match run(&plan(seed)) {
            Ok(report) => struck.extend(report.faults.into_keys()),
            Err(failure) => panic!("{failure}"),
        }
    }
    struck
}

/// A fault that never strikes shows nothing.
fn every_kind() -> BTreeSet<FaultKind> {
    FaultKind::ALL.into_iter().chain(DiskFault::HONEST.map(FaultKind::Disk)).collect()
}

#[test]
fn every_invariant_holds_for_the_first_half_of_the_seeds() {
    assert_eq!(all_hold(0..SEEDS / 2), every_kind());
}

#[test]
fn every_invariant_holds_for_the_second_half_of_the_seeds() {
    assert_eq!(all_hold(SEEDS / 2..SEEDS), every_kind());
}

/// 37 and 589: after a commit of unknown fate a run had lost its timeout. 51 and 590: a job was cancelled, or its fetch
/// gave up, while the outputs of its receipt were on the way, and the executor never heard what became of it.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [37, 51, 589, 590] {
        if let Err(failure) = run(&Plan::new(seed).with_sound_disks()) {
            panic!("{failure}");
        }
    }
}

/// 12: commits went behind a hole in the log that a failed sync had left, and a power cut took them all.
#[test]
fn seeds_that_once_lost_acknowledged_jobs_hold() {
    if let Err(failure) = run(&Plan::new(12)) {
        panic!("{failure}");
    }
}

#[test]
fn the_same_plan_gives_the_same_run() {
    // Other tests of this process draw from SQLite's random numbers, too; `tests/power.rs` compares the files.
    let run = |seed| Report { databases: String::new(), ..run(&plan(seed)).unwrap() };
    for seed in [3, 5, 8] {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn different_seeds_give_different_runs() {
    assert_ne!(run(&plan(3)).unwrap().trace, run(&plan(5)).unwrap().trace);
}

/// Runs a seed in a process of its own, whose environment differs from ours, and returns its trace hash.
fn trace_of_process(seed: u64) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmesh-simulations"));
    let seed = seed.to_string();
    let millis = plan(0).faulty.0.to_string();
    command.args(["run", "--seed", seed.as_str(), "--millis", millis.as_str()]).env("TZ", "Pacific/Auckland");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("trace"));
    line.unwrap().trim().to_owned()
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    let first = trace_of_process(11);
    assert_eq!(first, trace_of_process(11));
    assert_eq!(first, run(&plan(11)).unwrap().trace);
}

#[test]
fn the_canary_fails_and_says_how_to_run_it_again() {
    let canary = Plan { watch: Watch::Canary, ..plan(3) };
    let failure = run(&canary).unwrap_err();
    assert_eq!(failure.violation.invariant, "canary_no_job_completes");
    assert!(!failure.tail.is_empty());
    let again = format!("-- run --seed 3 --nodes {} --millis 120000 --canary", canary.nodes);
    assert!(failure.to_string().ends_with(&again), "{failure}");
    assert_eq!(run(&canary).unwrap_err(), failure, "a failure replays");
}

#[test]
fn a_failed_run_exits_with_1() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmesh-simulations"));
    let output = command.args(["run", "--seed", "3", "--canary"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
