//! Runs of whole worlds: every promise kept under faults, the same plan always the same, and an oracle that is awake.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::process::Command;

use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{Draw, End, FaultKind, Plan, Report, Tier, Watch, run};

/// Seeds of the normal test run; CI and people run thousands with the binary.
const SEEDS: u64 = 60;

/// Two minutes of faults: long enough for leases to be lost, short enough for an unoptimised build.
fn plan(seed: u64) -> Plan {
    let end = if seed % 4 == 3 { End::CoreHeals } else { End::Heals };
    Draw { faulty: DurationMillis::from_secs(120), end, ..Draw::new(seed) }.plan()
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

#[test]
fn every_invariant_holds_for_the_first_half_of_the_seeds() {
    assert!(all_hold(0..SEEDS / 2).len() > 25);
}

#[test]
fn every_invariant_holds_for_the_second_half_of_the_seeds() {
    assert!(all_hold(SEEDS / 2..SEEDS).len() > 25);
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
fn trace_of_process(plan: &Plan) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmesh-simulations"));
    let again = plan.command();
    let flags = again.split(" -- ").nth(1).unwrap().split(' ');
    let output = command.args(flags).env("TZ", "Pacific/Auckland").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("trace"));
    line.unwrap().trim().to_owned()
}

/// Also shows that the command line that a plan gives for itself is that plan.
#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    for seed in [11, 12] {
        let first = trace_of_process(&plan(seed));
        assert_eq!(first, trace_of_process(&plan(seed)));
        assert_eq!(first, run(&plan(seed)).unwrap().trace);
    }
}

#[test]
fn the_canary_fails_and_says_how_to_run_it_again() {
    let canary = Plan { watch: Watch::Canary, ..plan(4) };
    let failure = run(&canary).unwrap_err();
    assert_eq!(failure.violation.invariant, "canary_no_job_completes");
    assert!(!failure.tail.is_empty());
    let again = "-- run --seed 4 --millis 120000 --canary";
    assert!(failure.to_string().ends_with(again), "{failure}");
    assert_eq!(run(&canary).unwrap_err(), failure, "a failure replays");
}

#[test]
fn a_failed_run_exits_with_1() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmesh-simulations"));
    let output = command.args(["run", "--seed", "3", "--canary"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// Fifty nodes on disks that fail, and as many of a mass on none.
#[test]
fn every_invariant_holds_among_many() {
    for tier in [Tier::Wide, Tier::Mass] {
        let draw = Draw { tier, nodes: Some(50), jobs: Some(40), idle: DurationMillis(5_000), ..Draw::new(3) };
        let report = run(&Draw { faulty: DurationMillis::from_secs(30), ..draw }.plan());
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.jobs > 30 && report.runs > 20, "{report}");
        assert!(report.faults.contains_key(&FaultKind::Partition), "{report}");
        assert!(!report.pace.is_empty());
    }
}
