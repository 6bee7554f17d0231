//! What one run is: everything else follows from it.

use jobmesh_protocol::DurationMillis;

use crate::random::Stream;

/// Fewest nodes of a world: with two there is no third to be the better choice.
pub const NODES_MIN: usize = 3;
/// Most nodes of a world: every pair may have a session, so cost grows with the square.
pub const NODES_MAX: usize = 7;

/// How long faults go on, if nobody says otherwise.
const FAULTY_DEFAULT: DurationMillis = DurationMillis::from_secs(10 * 60);

/// Lines of the trace that a failure shows, if nobody says otherwise.
const TAIL_LINES_DEFAULT: usize = 40;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number that everything random grows from.
    pub seed: u64,
    /// How many nodes, [`NODES_MIN`] to [`NODES_MAX`].
    pub nodes: usize,
    /// How long faults and work go on before the world heals.
    pub faulty: DurationMillis,
    /// What the disks do.
    pub disks: Disks,
    /// What the oracle looks at.
    pub watch: Watch,
    /// How many lines of the trace a failure shows.
    pub tail_lines: usize,
    /// The seeded bug that every engine runs with.
    #[cfg(feature = "mutants")]
    pub mutant: Option<jobmesh_engine::Mutant>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// The invariants.
    #[default]
    Invariants,
    /// Also one that must fail, to show that the oracle is awake.
    Canary,
}

impl Plan {
    /// Ten minutes of faults with as many nodes as the seed draws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let nodes = NODES_MIN + Stream::new(seed, "plan").index(NODES_MAX - NODES_MIN + 1);
        Self {
            seed,
            nodes,
            faulty: FAULTY_DEFAULT,
            disks: Disks::default(),
            watch: Watch::default(),
            tail_lines: TAIL_LINES_DEFAULT,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// The same with so many nodes, at least [`NODES_MIN`] and at most [`NODES_MAX`].
    #[must_use]
    pub fn with_nodes(self, nodes: usize) -> Self {
        Self { nodes: nodes.clamp(NODES_MIN, NODES_MAX), ..self }
    }

    /// The same with faults for so long.
    #[must_use]
    pub fn with_faults_for(self, faulty: DurationMillis) -> Self {
        Self { faulty, ..self }
    }

    /// The same with disks that never fail.
    #[must_use]
    pub fn with_sound_disks(self) -> Self {
        Self { disks: Disks::Sound, ..self }
    }

    /// The same with a seeded bug in every engine.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(self, mutant: jobmesh_engine::Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    /// The command line that runs this plan again.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { seed, nodes, faulty, .. } = self;
        let run = format!("run --seed {seed} --nodes {nodes} --millis {}", faulty.0);
        let canary = match self.watch {
            Watch::Invariants => "",
            Watch::Canary => " --canary",
        };
        let disks = match self.disks {
            Disks::Honest => "",
            Disks::Sound => " --sound-disks",
        };
        let (feature, mutant) = self.mutant_flags();
        format!("cargo run --release -p jobmesh-simulations{feature} -- {run}{disks}{canary}{mutant}")
    }

    #[cfg(feature = "mutants")]
    fn mutant_flags(&self) -> (&'static str, String) {
        self.mutant.map_or(("", String::new()), |mutant| (" --features mutants", format!(" --mutant {mutant:?}")))
    }

    #[cfg(not(feature = "mutants"))]
    const fn mutant_flags(&self) -> (&'static str, &'static str) {
        ("", "")
    }
}
