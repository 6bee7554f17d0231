//! How many seeds it takes to find each of the seeded bugs.
//!
//! A simulator that misses one of them would miss the real one, too. A seed finds a bug if it breaks a promise, and the
//! healthy engine keeps all of them on that seed; anything else would be luck.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use jobmesh_engine::Mutant;

use crate::plan::{MUTANTS, POWER_MUTANTS, Plan, TWICE_MUTANTS};
use crate::power::{Drive, PowerPlan, cut_power};
use crate::report::run;

/// As many power cuts are tried for every seed of a world: one is as cheap.
const CUTS_PER_SEED: u64 = 10;

/// How a seed shows a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// A world breaks this promise.
    World(&'static str),
    /// A power cut breaks it.
    PowerCut(&'static str),
    /// Two runs of one plan are not the same.
    Twice,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World(invariant) => f.write_str(invariant),
            Self::PowerCut(invariant) => write!(f, "power cut: {invariant}"),
            Self::Twice => f.write_str("two runs that differ"),
        }
    }
}

/// What the hunt for one bug came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunted {
    /// The bug.
    pub mutant: Mutant,
    /// For each first seed, the seed that found it and how; none if it was missed.
    pub finds: Vec<Option<(u64, How)>>,
    /// How many seeds each hunt took, the one that found it counted.
    pub taken: Vec<u64>,
}

impl Hunted {
    /// Whether every hunt found it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.finds.iter().all(Option::is_some)
    }

    /// How many seeds the middle one of the hunts took.
    #[must_use]
    pub fn median(&self) -> u64 {
        let mut taken = self.taken.clone();
        taken.sort_unstable();
        taken.get(taken.len() / 2).copied().unwrap_or(0)
    }
}

impl fmt::Display for Hunted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.mutant);
        let taken = |(find, taken): (&Option<(u64, How)>, &u64)| match find {
            Some(_) => taken.to_string(),
            None => format!(">{taken}"),
        };
        let each: Vec<String> = self.finds.iter().zip(&self.taken).map(taken).collect();
        let mut ways: Vec<String> = self.finds.iter().flatten().map(|(_, how)| how.to_string()).collect();
        ways.sort();
        ways.dedup();
        let ways = if self.is_dead() { ways.join(", ") } else { format!("LIVES {}", ways.join(", ")) };
        write!(f, "{name:<20} {:>6}  {:<14} {ways}", self.median(), each.join(" "))
    }
}

/// Hunts every bug from each of `starts`, for at most `seeds` seeds, on so many threads. Calls `tell` as each is done.
pub fn hunt(starts: &[u64], seeds: u64, threads: usize, tell: impl Fn(&Hunted) + Sync) -> Vec<Hunted> {
    let all: Vec<Mutant> = MUTANTS.into_iter().chain(TWICE_MUTANTS).chain(POWER_MUTANTS).collect();
    let (hunt, next) = (Hunt { seeds, healthy: Mutex::default() }, AtomicUsize::new(0));
    let done: Mutex<BTreeMap<usize, Hunted>> = Mutex::default();
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = all.get(place).copied() else { return };
            let finds: Vec<_> = starts.iter().map(|start| hunt.find(mutant, *start)).collect();
            let most = hunt.most(mutant);
            let spent = |(start, find): (&u64, &Option<(u64, How)>)| find.map_or(most, |(seed, _)| seed - start + 1);
            let taken = starts.iter().zip(&finds).map(spent).collect();
            let hunted = Hunted { mutant, finds, taken };
            tell(&hunted);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(place, hunted);
        }
    };
    thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Hunts one bug from `start` on: the first seed that finds it, and how.
#[must_use]
pub fn hunt_one(mutant: Mutant, start: u64, seeds: u64) -> Option<(u64, How)> {
    Hunt { seeds, healthy: Mutex::default() }.find(mutant, start)
}

struct Hunt {
    seeds: u64,
    /// Whether the engine without a bug keeps its promises on a seed.
    healthy: Mutex<BTreeMap<u64, bool>>,
}

impl Hunt {
    fn find(&self, mutant: Mutant, start: u64) -> Option<(u64, How)> {
        (start..start.saturating_add(self.most(mutant))).find_map(|seed| Some((seed, self.shows(mutant, seed)?)))
    }

    /// How many seeds are tried.
    fn most(&self, mutant: Mutant) -> u64 {
        if POWER_MUTANTS.contains(&mutant) { self.seeds.saturating_mul(CUTS_PER_SEED) } else { self.seeds }
    }

    fn shows(&self, mutant: Mutant, seed: u64) -> Option<How> {
        let expected = |broke: &&'static str| may_break(mutant).contains(broke);
        if POWER_MUTANTS.contains(&mutant) {
            let plan = PowerPlan { from: seed, count: 1, drive: Drive::Honest, mutant: Some(mutant) };
            let broke = cut_power(&plan).err().map(|failure| failure.violation.invariant);
            return broke.filter(expected).map(How::PowerCut);
        }
        let plan = Plan::new(seed).with_mutant(mutant);
        let first = run(&plan);
        let how = match first {
            Err(failure) => How::World(Some(failure.violation.invariant).filter(expected)?),
            Ok(report) if TWICE_MUTANTS.contains(&mutant) => {
                let again = run(&plan).map(|report| report.trace);
                if again == Ok(report.trace) {
                    return None;
                }
                How::Twice
            }
            Ok(_) => return None,
        };
        self.is_healthy(seed).then_some(how)
    }

    fn is_healthy(&self, seed: u64) -> bool {
        let known = self.healthy.lock().unwrap_or_else(PoisonError::into_inner).get(&seed).copied();
        known.unwrap_or_else(|| {
            let is_healthy = run(&Plan::new(seed)).is_ok();
            self.healthy.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, is_healthy);
            is_healthy
        })
    }
}

/// The promises that a bug may break. Anything else would be luck, or a bug of its own.
const fn may_break(mutant: Mutant) -> &'static [&'static str] {
    match mutant {
        Mutant::SendBeforeCommit => &[
            "g1_no_acknowledged_job_is_lost",
            "an_epoch_runs_once",
            "g4_accepted_results_are_real",
            "g3_successes_are_backed",
            "runs_are_durable",
            "runs_have_a_lease",
        ],
        Mutant::SkipSignatureCheck | Mutant::VerifyWithoutDomain | Mutant::AcceptFromAnyone => {
            &["g4_accepted_results_are_real"]
        }
        Mutant::AcceptStaleEpoch => &[
            "g4_accepted_results_are_real",
            "g3_successes_are_backed",
            "g2_at_most_one_accepted_result",
            "an_end_teaches_once",
            // A stale receipt that waits for its outputs waits for ever: nobody looks at a stale attempt again.
            "every_receipt_is_settled_once_the_network_heals",
        ],
        // What counts twice also puts the count back, so that the next in order comes too early for ever.
        Mutant::NoDedup => &[
            "what_was_given_back_did_not_run",
            "g3_once_jobs_never_overlap",
            "every_job_ends_once_the_network_heals",
            "every_receipt_is_settled_once_the_network_heals",
            "receipts_are_a_chain",
        ],
        Mutant::LeaseOnWallClock | Mutant::JumpEndsLeases => {
            &["nobody_is_given_up_early", "g6_a_defector_costs_a_bounded_time"]
        }
        Mutant::LeaseOffByOne => &["once_jobs_end_with_their_lease"],
        // Peers that never get what was forgotten take the gap for their own loss of memory, and hold work for a person.
        Mutant::ForgetOutbox => &[
            "every_receipt_is_settled_once_the_network_heals",
            "every_job_ends_once_the_network_heals",
            "receipts_are_a_chain",
        ],
        Mutant::NoBackoff => &["quiescence"],
        Mutant::Unbounded => &["what_a_member_leaves_is_bounded"],
        Mutant::TrustClaimedHash => &["accepted_outputs_are_held"],
        Mutant::CountTwice => &["an_end_teaches_once"],
        Mutant::StartBeforeDurable => &["runs_are_durable", "runs_have_a_lease", "an_epoch_runs_once"],
        Mutant::OrphanAsNew => &["an_epoch_runs_once"],
        Mutant::CancelInMemory => &["a_cancelled_job_runs_no_more"],
        Mutant::JoinCountsTwice => &["a_job_waits_for_its_upstream"],
        Mutant::LocalLeaves => &["what_is_local_stays_here"],
        Mutant::DropRequirement => &["runs_are_where_they_may_be"],
        Mutant::UnweightedSummaries => &["others_sway_a_score_a_little"],
        Mutant::UnarmedTimer => &["g6_a_defector_costs_a_bounded_time", "every_job_ends_once_the_network_heals"],
        Mutant::SyncNormal | Mutant::IgnoreSyncError | Mutant::BelieveLog => {
            &["g1_no_acknowledged_job_is_lost", "an_end_is_kept", "an_epoch_runs_once", "what_ended_runs_no_more"]
        }
        Mutant::HashOrder => &[],
    }
}
