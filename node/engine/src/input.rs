//! Everything that can happen to a node, as the engine is told of it.

use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs, Usage};
use jobmesh_protocol::{Isolation, NodeId, Outcome, RunId};

use crate::command::{Command, Report};
use crate::output::Wanted;

/// Ties a [`crate::Response`] to the command that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing that happened.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an end is the most frequent input, and a box for each costs more than the room"
)]
pub enum Input {
    /// The time of [`crate::Engine::next_wakeup`] has come.
    Tick,
    /// Someone asks for something.
    Command(RequestId, Command),
    /// The session with a member came up.
    Connected {
        /// The member.
        node: NodeId,
        /// Its name for people.
        name: String,
        /// Where it was reached, for the address book.
        addresses: Vec<String>,
    },
    /// The session with a member went down.
    Disconnected(NodeId),
    /// Bytes came in on a session. `from` is proved by the transport; the bytes prove nothing yet.
    Frame {
        /// The session's far end.
        from: NodeId,
        /// A frame, if it decodes.
        bytes: Vec<u8>,
    },
    /// The addresses that this node can be reached at changed; this is all of them.
    Addresses(Vec<String>),
    /// Bytes came in by gossip.
    Gossip {
        /// The neighbour that passed them on.
        via: NodeId,
        /// An envelope, if it verifies.
        bytes: Vec<u8>,
    },
    /// A process started.
    Started {
        /// Which run.
        run: RunId,
        /// Its process.
        process: Process,
    },
    /// A process of an earlier daemon, asked for by [`crate::Output::Adopt`], lives and is watched again.
    Adopted {
        /// Which run.
        run: RunId,
        /// Its process.
        process: Process,
    },
    /// An executor told how a run comes along.
    Reported {
        /// Which run.
        run: RunId,
        /// What.
        report: Report,
    },
    /// A run ended.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        ended: Ended,
    },
    /// A blob that was asked for by [`crate::Output::Fetch`] is on disk, whole and verified.
    Fetched(Wanted),
    /// Some more of a blob that was asked for has come, or it waits in line behind others.
    FetchProgress(Wanted),
    /// A blob that was asked for could not be had.
    FetchFailed {
        /// Which.
        wanted: Wanted,
        /// Why, for people.
        reason: String,
        /// Whether it may be had another time.
        remedy: Remedy,
    },
}

impl Input {
    /// Whether drivers tell of it only once. While it can't be committed it has to be kept for later; all else comes again
    /// by itself, or is answered with the failure.
    #[must_use]
    pub const fn is_said_once(&self) -> bool {
        match self {
            Self::Connected { .. }
            | Self::Disconnected(_)
            | Self::Addresses(_)
            | Self::Started { .. }
            | Self::Adopted { .. }
            | Self::Ended { .. }
            | Self::Fetched(_)
            | Self::FetchFailed { .. } => true,
            Self::Tick
            | Self::Command(..)
            | Self::Frame { .. }
            | Self::Gossip { .. }
            | Self::Reported { .. }
            | Self::FetchProgress(_) => false,
        }
    }
}

/// What can be done about a blob that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Asking again.
    Again,
    /// Mending the copy of the one who has it, which is damaged; nothing here.
    Mending,
    /// None: it is too large for this node, or not what it should be.
    None,
}

/// A process of the operating system, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the system's own units; 0 where that is unknown.
    pub started: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The executor's verdict.
    pub outcome: Outcome,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// What it took of this machine.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of the machine.
    pub isolation: Isolation,
    /// How long it ran, in microseconds.
    pub ran_micros: u64,
    /// The contents of those outputs that are small enough to travel in a message.
    pub inline: Vec<Vec<u8>>,
    /// What it took to end its processes, if they did not end by themselves. For the job's history here.
    pub notice: Option<String>,
}
