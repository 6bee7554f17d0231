//! Each of the engine's seeded bugs is found. A simulator that misses one of these would miss the real one too.
//!
//! Here are those that a few seeds find; CI hunts all of them with `jobmesh-simulations mutants`.

use std::collections::BTreeSet;

use jobmesh_simulations::{MUTANTS, Mutant, POWER_MUTANTS, TWICE_MUTANTS, hunt_one};

/// Within so many.
const SEEDS: u64 = 60;

/// Hunts for each, and for all of them at most a minute of an unoptimised build.
fn find(mutants: &[Mutant]) {
    for mutant in mutants.iter().copied() {
        let Some((seed, how)) = hunt_one(mutant, 1, SEEDS) else {
            panic!("{SEEDS} seeds did not find {mutant:?}");
        };
        eprintln!("{mutant:?}: seed {seed}, {how}");
    }
}

#[test]
fn what_is_forged_or_claimed_is_found() {
    find(&[Mutant::SkipSignatureCheck, Mutant::VerifyWithoutDomain, Mutant::TrustClaimedHash]);
}

#[test]
fn what_is_counted_or_weighed_wrongly_is_found() {
    find(&[Mutant::CountTwice, Mutant::UnweightedSummaries, Mutant::Unbounded]);
}

#[test]
fn what_goes_by_the_wrong_clock_or_by_none_is_found() {
    find(&[Mutant::LeaseOnWallClock, Mutant::JumpEndsLeases, Mutant::UnarmedTimer]);
}

#[test]
fn what_runs_where_or_when_it_must_not_is_found() {
    find(&[Mutant::OrphanAsNew, Mutant::DropRequirement, Mutant::LocalLeaves]);
}

#[test]
fn what_is_not_durable_or_not_the_same_twice_is_found() {
    find(&[Mutant::SyncNormal, Mutant::IgnoreSyncError, Mutant::BelieveLog, Mutant::HashOrder]);
}

#[test]
fn no_seeded_bug_is_in_two_lists_or_in_none() {
    let all: Vec<Mutant> = MUTANTS.into_iter().chain(TWICE_MUTANTS).chain(POWER_MUTANTS).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert_eq!(all.len(), 26, "25 of the list that was made before the code, and one that came later");
}
