//! Power cuts of one node: every promise kept on an honest drive, and the same files twice.

use std::process::Command;

use jobmesh_simulations::{Drive, PowerPlan, PowerReport, cut_power};

/// Seeds of the normal test run; people run thousands with the binary.
const SEEDS: u64 = 150;

fn plan(count: u64) -> PowerPlan {
    PowerPlan { from: 1, count, drive: Drive::Honest, mutant: None }
}

fn report(plan: &PowerPlan) -> PowerReport {
    cut_power(plan).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_promise_survives_a_power_cut() {
    let report = report(&plan(SEEDS));
    assert!(report.missing > SEEDS && report.ended > SEEDS, "the cuts strike where something is to lose: {report}");
    assert!(report.struck.len() >= 5, "of every kind: {report}");
}

#[test]
fn the_same_cuts_give_the_same_figures() {
    assert_eq!(report(&plan(20)), report(&plan(20)));
}

/// No promise can hold here, but nothing may panic, and the losses must be seen: a checker that finds none is asleep.
#[test]
fn drives_that_break_their_word_are_caught_at_it() {
    for drive in [Drive::Lying, Drive::Rotten, Drive::OldBackup] {
        let report = report(&PowerPlan { drive, ..plan(60) });
        let lost = report.outcomes.get("g1_no_acknowledged_job_is_lost").copied().unwrap_or(0);
        assert!(lost > 0, "{drive:?}: {report}");
    }
}

#[test]
fn equal_seeds_give_equal_files_in_two_processes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmesh-simulations"));
    let output = command.args(["seeds", "--twice", "--from", "1", "--count", "5", "--minutes", "1"]).output();
    let output = output.unwrap_or_else(|error| panic!("no process: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
