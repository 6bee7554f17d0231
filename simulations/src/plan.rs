//! What one run is, as data: the nodes, what is asked of them and what goes wrong, each with its time.
//!
//! A seed is drawn into a plan by [`crate::Draw`], and a plan runs without the draw: so it can be saved, read, edited,
//! made smaller and run again. Every fault, operation and node is an entry of its own that can be taken out. What the
//! plan does not say (keys, how long a frame takes, which bytes of a write are torn) grows from the seed and the name
//! of the thing itself, never from what came before it; so an entry that is taken out changes nothing but what follows
//! from it.

use std::collections::BTreeMap;
use std::fmt;

use jobmesh_protocol::DurationMillis;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::fault::Fault;
use crate::scope::Strike;
use crate::workload::{Operation, Work};

/// Fewest nodes that a seed draws: with two there is no third to be the better choice.
pub const NODES_MIN: usize = 3;
/// Most nodes that a seed draws: every pair may have a session, so cost grows with the square.
pub const NODES_MAX: usize = 9;
/// Most nodes of any plan.
pub(crate) const SEATS_MAX: usize = 2_000;
/// Most entries of any kind in a plan that is read from a file.
const ENTRIES_MAX: usize = 1_000_000;

/// Lines of the trace that a failure shows, if nobody says otherwise.
pub(crate) const TAIL_LINES_DEFAULT: usize = 40;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The number that everything grows from that the plan does not say.
    pub seed: u64,
    /// How long faults and work go on before the world heals.
    #[serde(rename = "faulty_ms")]
    pub faulty: DurationMillis,
    /// How long the world is watched once every job has ended and nobody should be busy.
    #[serde(rename = "idle_ms")]
    pub idle: DurationMillis,
    /// The nodes, each at its seat.
    pub nodes: Vec<NodePlan>,
    /// The pairs of seats that find each other without being told.
    pub homes: Vec<(usize, usize)>,
    /// The jobs by number.
    pub works: BTreeMap<usize, Work>,
    /// What people do.
    pub operations: Vec<Operation>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The seat of the node that gets a capability which nobody had, once the world has healed.
    pub late: usize,
    /// The seats that heal; what is left stays broken for good. Without it, all heal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<Vec<usize>>,
    /// How far gossip gets; everywhere if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gossip_hops: Option<u32>,
    /// Whether the nodes have their databases in memory, which nothing strikes, rather than on disks.
    #[serde(default)]
    pub is_in_memory: bool,
    /// What strikes at which event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Vec<Strike>>,
    /// What the oracle looks at.
    #[serde(default)]
    pub watch: Watch,
    /// The seeded bug that every engine runs with, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<MutantName>,
    /// How many lines of the trace a failure shows.
    #[serde(skip, default = "tail_lines_default")]
    pub tail_lines: usize,
    /// What the plan was drawn from, if nothing has changed it since.
    #[serde(skip)]
    pub drawn: Option<Draw>,
}

const fn tail_lines_default() -> usize {
    TAIL_LINES_DEFAULT
}

/// One node of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Its place, by which everything else names it.
    pub seat: usize,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// Whether it has the tool that several have.
    pub is_shared: bool,
    /// How far its wall clock is off when the world begins, in milliseconds.
    #[serde(default)]
    pub skew_ms: i64,
    /// How much faster than the world its clocks run, in millionths.
    #[serde(default)]
    pub drift_ppm: i32,
}

/// What the disks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disks {
    /// They fail as good drives do, and lose their power: [`crate::DiskFault::HONEST`].
    #[default]
    Honest,
    /// They never fail.
    Sound,
}

/// What the oracle looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// The invariants.
    #[default]
    Invariants,
    /// Also one that must fail, to show that the oracle is awake.
    Canary,
}

/// One of the engine's seeded bugs, in a file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MutantName(pub jobmesh_engine::Mutant);

/// Those that a world shows.
pub const MUTANTS: [jobmesh_engine::Mutant; 4] = {
    use jobmesh_engine::Mutant;
    [Mutant::SendBeforeCommit, Mutant::AcceptStaleEpoch, Mutant::ForgetOutbox, Mutant::SkipSignatureCheck]
};

/// Those that a power cut shows.
pub const POWER_MUTANTS: [jobmesh_engine::Mutant; 3] = {
    use jobmesh_engine::Mutant;
    [Mutant::SyncNormal, Mutant::IgnoreSyncError, Mutant::BelieveLog]
};

impl TryFrom<String> for MutantName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = MUTANTS.into_iter().chain(POWER_MUTANTS).find(|mutant| format!("{mutant:?}") == name);
        found
            .map(Self)
            .ok_or_else(|| format!("no seeded bug is called {name}; there are {MUTANTS:?} and {POWER_MUTANTS:?}"))
    }
}

impl From<MutantName> for String {
    fn from(name: MutantName) -> Self {
        format!("{:?}", name.0)
    }
}

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is not the JSON of a plan.
    #[error("the plan does not read: {0}")]
    Json(#[from] serde_json::Error),
    /// Two nodes sit at one place, or far out.
    #[error("the plan needs one node or more, each at a seat of its own below {SEATS_MAX}")]
    Seats,
    /// It has more than anybody can run.
    #[error("the plan has more than {ENTRIES_MAX} entries of a kind")]
    TooLong,
    /// It asks for a bug that this build does not have.
    #[error("the plan runs with a seeded bug; build with --features mutants")]
    NoMutants,
}

impl Plan {
    /// What a seed draws with nothing else said: ten minutes of faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Draw::new(seed).plan()
    }

    /// A plan of no nodes, in which nothing is asked for and nothing goes wrong: what is written by hand begins with it.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            seed: 0,
            faulty: DurationMillis(0),
            idle: DurationMillis(0),
            nodes: Vec::new(),
            homes: Vec::new(),
            works: BTreeMap::new(),
            operations: Vec::new(),
            faults: Vec::new(),
            late: 0,
            core: None,
            gossip_hops: None,
            is_in_memory: false,
            script: None,
            watch: Watch::Invariants,
            mutant: None,
            tail_lines: TAIL_LINES_DEFAULT,
            drawn: None,
        }
    }

    /// The same with a seeded bug in every engine.
    #[must_use]
    pub fn with_mutant(self, mutant: jobmesh_engine::Mutant) -> Self {
        Self { mutant: Some(MutantName(mutant)), ..self }
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// [`PlanError`] if it is none, or none that this build can run.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_str(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as JSON.
    ///
    /// # Errors
    /// [`PlanError::Json`], which only a bug in the plan's types could cause.
    pub fn write(&self) -> Result<String, PlanError> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Holds a plan of unknown origin against what the world takes for granted.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing that is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        let mut seats: Vec<usize> = self.nodes.iter().map(|node| node.seat).collect();
        seats.sort_unstable();
        seats.dedup();
        let are_good = seats.len() == self.nodes.len() && seats.last().is_some_and(|last| *last < SEATS_MAX);
        if !are_good {
            return Err(PlanError::Seats);
        }
        let longest = [self.homes.len(), self.works.len(), self.operations.len(), self.faults.len()].into_iter().max();
        if longest.is_some_and(|longest| longest > ENTRIES_MAX) {
            return Err(PlanError::TooLong);
        }
        if self.mutant.is_some() && cfg!(not(feature = "mutants")) {
            return Err(PlanError::NoMutants);
        }
        Ok(())
    }

    /// How many seats there are, taken or not.
    pub(crate) fn seats(&self) -> usize {
        self.nodes.iter().map(|node| node.seat + 1).max().unwrap_or(0)
    }

    /// Whether a node sits there.
    pub(crate) fn has_seat(&self, seat: usize) -> bool {
        self.nodes.iter().any(|node| node.seat == seat)
    }

    /// Whether a node takes part after the world has healed.
    pub(crate) fn heals(&self, seat: usize) -> bool {
        self.has_seat(seat) && self.core.as_ref().is_none_or(|core| core.contains(&seat))
    }

    /// The command line that runs this plan again, or how to keep it if none does.
    #[must_use]
    pub fn command(&self) -> String {
        let Some(drawn) = &self.drawn else {
            return "this plan was not drawn from a seed alone; replay its file".to_owned();
        };
        let feature = if self.mutant.is_some() { " --features mutants" } else { "" };
        let canary = match self.watch {
            Watch::Invariants => "",
            Watch::Canary => " --canary",
        };
        let mutant = self.mutant.map_or(String::new(), |MutantName(mutant)| format!(" --mutant {mutant:?}"));
        format!("cargo run --release -p jobmesh-simulations{feature} -- run {drawn}{canary}{mutant}")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, operations, faults, faulty, .. } = self;
        let (nodes, operations, faults) = (nodes.len(), operations.len(), faults.len());
        write!(f, "seed {seed}: {nodes} nodes, {operations} operations, {faults} faults in {} s", faulty.0 / 1000)
    }
}
