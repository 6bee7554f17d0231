//! Each of the engine's seeded bugs is found. A simulator that misses one of these would miss the real one too.

use jobmesh_simulations::{Failure, Mutant, Plan, run};

/// Within so many seeds.
const SEEDS: u64 = 500;

/// The invariants that one of the bugs may break. Anything else would be luck, or a bug of its own.
fn find(mutant: Mutant, may_break: &[&str]) -> Box<Failure> {
    for seed in 0..SEEDS {
        let plan = Plan::new(seed).with_mutant(mutant);
        let Err(failure) = run(&plan) else { continue };
        // The engine without the bug keeps its promises on this seed, so it is the bug that broke one.
        if run(&Plan::new(seed)).is_ok() {
            eprintln!("{mutant:?}: seed {seed}, {}", failure.violation);
            assert!(may_break.contains(&failure.violation.invariant), "{failure}");
            return failure;
        }
    }
    panic!("{SEEDS} seeds did not find {mutant:?}");
}

#[test]
fn sending_before_the_commit_is_found() {
    find(
        Mutant::SendBeforeCommit,
        &[
            "g1_no_acknowledged_job_is_lost",
            "an_epoch_runs_once",
            "g4_accepted_results_are_real",
            "g3_successes_are_backed",
        ],
    );
}

#[test]
fn accepting_a_stale_epoch_is_found() {
    find(
        Mutant::AcceptStaleEpoch,
        &[
            "g4_accepted_results_are_real",
            "g3_successes_are_backed",
            "g2_at_most_one_accepted_result",
            // A stale receipt that waits for its outputs waits for ever: nobody looks at a stale attempt again.
            "every_receipt_is_settled_once_the_network_heals",
        ],
    );
}

#[test]
fn forgetting_the_outbox_is_found() {
    // Peers that never get what was forgotten take the gap for their own loss of memory, and hold work for a person.
    let found_by = [
        "every_receipt_is_settled_once_the_network_heals",
        "every_job_ends_once_the_network_heals",
        "receipts_are_a_chain",
    ];
    find(Mutant::ForgetOutbox, &found_by);
}

#[test]
fn skipping_the_signature_check_is_found() {
    find(Mutant::SkipSignatureCheck, &["g4_accepted_results_are_real"]);
}
