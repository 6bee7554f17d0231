//! A seed becomes a plan.
//!
//! Every kind of fault is on with one half. A mix that lacks a kind reaches states that the full mix never does:
//! without crashes a partition lasts long enough to matter, without loss a duplicate arrives (swarm testing, Groce et
//! al., ISSTA 2012).

mod faults;
mod jobs;

use std::collections::BTreeSet;
use std::fmt;

use jobmesh_protocol::DurationMillis;

use crate::plan::{Disks, NODES_MAX, NODES_MIN, NodePlan, Plan, SEATS_MAX, TAIL_LINES_DEFAULT, Watch};
use crate::random::Stream;

/// How long faults go on, if nobody says otherwise.
const FAULTY_DEFAULT: DurationMillis = DurationMillis::from_secs(10 * 60);
/// How long a world is watched that has nothing to do, if nobody says otherwise.
const IDLE_DEFAULT: DurationMillis = DurationMillis::from_secs(120);
/// How many earlier nodes each knows at home in a large world.
const LINKS: usize = 4;
/// How many nodes of a world of very many know everyone.
const HUBS: usize = 4;
/// Furthest that a wall clock is off: two of them are apart by half of what certificates forgive.
const SKEW_MAX_MS: i64 = 150_000;
/// Furthest that a clock runs wrong: 1 %, a hundred times a bad quartz.
const DRIFT_MAX_PPM: i32 = 10_000;

/// What is said of a plan beside its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The number that everything random grows from.
    pub seed: u64,
    /// How many nodes; drawn if left out.
    pub nodes: Option<usize>,
    /// How many jobs; drawn if left out.
    pub jobs: Option<usize>,
    /// How long faults and work go on before the world heals.
    pub faulty: DurationMillis,
    /// How long the world is watched at the end, when nobody should be busy.
    pub idle: DurationMillis,
    /// What the disks do.
    pub disks: Disks,
    /// What happens when the faults end.
    pub end: End,
    /// How large the world is.
    pub tier: Tier,
}

/// How large a world is, and what of it is real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Few nodes and everything that can go wrong.
    #[default]
    Full,
    /// 50 to 300 nodes, each with a few neighbours.
    Wide,
    /// A thousand nodes, with databases in memory. A few of them know everyone.
    Mass,
}

impl Tier {
    /// How many nodes, from and to.
    const fn nodes(self) -> (usize, usize) {
        match self {
            Self::Full => (NODES_MIN, NODES_MAX),
            Self::Wide => (50, 300),
            Self::Mass => (1_000, 1_000),
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Wide => "wide",
            Self::Mass => "mass",
        }
    }
}

/// What happens when the faults end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Everything heals.
    #[default]
    Heals,
    /// Some nodes heal, and what is left stays broken for good.
    CoreHeals,
}

impl Draw {
    /// Ten minutes of faults with as many nodes as the seed draws.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: None,
            jobs: None,
            faulty: FAULTY_DEFAULT,
            idle: IDLE_DEFAULT,
            disks: Disks::Honest,
            end: End::Heals,
            tier: Tier::Full,
        }
    }

    /// Draws the plan.
    #[must_use]
    pub fn plan(self) -> Plan {
        let mut stream = Stream::new(self.seed, "plan");
        let (fewest, most) = self.tier.nodes();
        // Most worlds are small: they are the fastest, and few bugs need many nodes.
        let drawn = fewest + stream.index(most - fewest + 1).min(stream.index(most - fewest + 1));
        let count = self.nodes.unwrap_or(drawn).clamp(2, SEATS_MAX);
        let nodes = draw_nodes(self.seed, count);
        let (works, operations) = jobs::draw(&self, count);
        let core = match self.end {
            End::Heals => None,
            End::CoreHeals => Some(draw_core(self.seed, count)),
        };
        Plan {
            seed: self.seed,
            faulty: self.faulty,
            idle: self.idle,
            nodes,
            homes: draw_homes(self.seed, count, self.tier, core.as_deref()),
            works,
            operations,
            faults: faults::draw(&self, count),
            late: Stream::new(self.seed, "late").index(count),
            core,
            gossip_hops: None,
            is_in_memory: self.tier == Tier::Mass,
            script: None,
            watch: Watch::Invariants,
            mutant: None,
            tail_lines: TAIL_LINES_DEFAULT,
            drawn: Some(self),
        }
    }
}

/// The nodes: some with one slot only, perhaps with clocks that are off.
fn draw_nodes(seed: u64, count: usize) -> Vec<NodePlan> {
    let mut stream = Stream::new(seed, "nodes");
    let (is_skewed, drifts) = (stream.chance(500), stream.chance(300));
    let draw = |seat| {
        let mut stream = Stream::new(seed, &format!("node {seat} of the plan"));
        let slots = if stream.chance(400) { 1 } else { 3 };
        let is_shared = seat == 0 || stream.chance(400);
        let skew_ms = i64::try_from(stream.below(2 * SKEW_MAX_MS.unsigned_abs())).unwrap_or(0) - SKEW_MAX_MS;
        let drift_ppm =
            i32::try_from(stream.below(2 * u64::from(DRIFT_MAX_PPM.unsigned_abs()))).unwrap_or(0) - DRIFT_MAX_PPM;
        NodePlan {
            seat,
            slots,
            is_shared,
            skew_ms: if is_skewed { skew_ms } else { 0 },
            drift_ppm: if drifts { drift_ppm } else { 0 },
        }
    };
    (0..count).map(draw).collect()
}

/// Half of all small worlds know every pair at home, the other half only a random tree. In a large one each node knows
/// a few others. The nodes of a core know each other without those that it will lose: two that had only these between
/// them would never meet, and no rule could help their jobs.
fn draw_homes(seed: u64, count: usize, tier: Tier, core: Option<&[usize]>) -> Vec<(usize, usize)> {
    let mut stream = Stream::new(seed, "homes");
    let is_whole = stream.chance(500) && tier == Tier::Full;
    let mut homes = BTreeSet::new();
    for seat in 1..count {
        let links = if tier == Tier::Full { 1 } else { LINKS };
        homes.extend((0..links).map(|_| (stream.index(seat), seat)));
        homes.extend((0..seat).filter(|_| is_whole).map(|other| (other, seat)));
        let hubs = if tier == Tier::Mass { HUBS.min(seat) } else { 0 };
        homes.extend((0..hubs).map(|hub| (hub, seat)));
    }
    let core = core.unwrap_or_default();
    homes.extend(core.iter().copied().zip(core.iter().copied().skip(1)));
    homes.into_iter().collect()
}

/// A random core: half of the nodes or more, and at least two.
fn draw_core(seed: u64, count: usize) -> Vec<usize> {
    let mut stream = Stream::new(seed, "core");
    let size = (count / 2 + 1 + stream.index(count / 2)).max(2);
    let mut seats: Vec<usize> = (0..count).collect();
    while seats.len() > size {
        let out = stream.index(seats.len());
        seats.remove(out);
    }
    seats
}

impl fmt::Display for Draw {
    /// The flags that say the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if let Some(nodes) = self.nodes {
            write!(f, " --nodes {nodes}")?;
        }
        if let Some(jobs) = self.jobs {
            write!(f, " --jobs {jobs}")?;
        }
        write!(f, " --millis {}", self.faulty.0)?;
        if self.idle != IDLE_DEFAULT {
            write!(f, " --idle {}", self.idle.0)?;
        }
        if self.tier != Tier::Full {
            write!(f, " --tier {}", self.tier.word())?;
        }
        if self.disks == Disks::Sound {
            f.write_str(" --sound-disks")?;
        }
        if self.end == End::CoreHeals {
            f.write_str(" --core")?;
        }
        Ok(())
    }
}
