//! The engine against a plain reference: random wishes, ends, clocks, kills and failed commits, and after each of them
//! everything that must hold.
//!
//! The seeds are fixed, so that the set of transitions that were taken is fixed too, and every one that a node can take
//! by itself must be among them. A failure prints its seed and the shortest list of steps that still fails.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stdout, reason = "which transitions were taken is for whoever reads the log")]

#[path = "local/executor.rs"]
mod executor;
#[path = "local/node.rs"]
mod node;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/wishes.rs"]
mod wishes;
#[path = "model/world.rs"]
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;

use jobmesh_protocol::JobState as S;
use jobmesh_protocol::state::{Cause as C, TRANSITIONS};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::reference::Edge;
use crate::world::World;

/// So many seeds, which share the cases: 256, or as many as `PROPTEST_CASES` says.
const SEEDS: u8 = 8;
const STEPS: std::ops::Range<usize> = 40..80;

/// What only happens to jobs that are offered to peers, beside what happens to offered ones and what comes late;
/// `two_nodes` and the simulations take these.
const WITH_PEERS: &[(S, C)] = &[(S::Available, C::Offered), (S::Available, C::Awarded)];
/// What no feature uses yet: jobs that wait in the middle of their work.
const UNUSED: &[(S, C)] =
    &[(S::Running, C::Suspended), (S::Suspended, C::Woken), (S::Suspended, C::Cancelled), (S::Suspended, C::Skipped)];

/// Runs the cases of one seed and adds the transitions that they took.
fn run(seed: u8, taken: &RefCell<BTreeSet<Edge>>) {
    let cases = Config::default().cases / u32::from(SEEDS);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let outcome = runner.run(&proptest::collection::vec(wishes::any_step(), STEPS), |steps| {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.wind_up();
        taken.borrow_mut().extend(world.reference.taken);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn whatever_happens_every_rule_holds_and_every_transition_is_taken() {
    let taken = RefCell::default();
    for seed in 0..SEEDS {
        run(seed, &taken);
    }
    let taken = taken.into_inner();
    for (from, cause, to) in &taken {
        println!("taken: {from} --{cause}-> {to}");
    }
    println!("{} of {} transitions were taken", taken.len(), TRANSITIONS.len());
    let is_excused = |edge: &&Edge| {
        let (from, cause, _) = **edge;
        let is_of_a_peer = from == S::Offered || cause == C::Late || WITH_PEERS.contains(&(from, cause));
        is_of_a_peer || UNUSED.contains(&(from, cause))
    };
    let missed: Vec<&Edge> = TRANSITIONS.iter().filter(|edge| !is_excused(edge) && !taken.contains(edge)).collect();
    assert!(missed.is_empty(), "never taken: {missed:?}");
    let beyond: Vec<&Edge> = taken.iter().filter(is_excused).collect();
    assert!(beyond.is_empty(), "taken by one node after all, so the list of excuses is wrong: {beyond:?}");
}
