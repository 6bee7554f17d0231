//! Everything that can happen to a node, as the engine is told of it.

use jobmesh_keys::{Membership, MeshId, Role};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::outcome::{Exit, Outputs};
use jobmesh_protocol::{DurationMillis, JobId, JobSpec, NodeId, Outcome, RunId, Tag};

/// Ties a [`crate::Response`] to the command that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing that happened.
#[derive(Clone, Debug)]
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
    /// A run ended.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        ended: Ended,
    },
    /// A blob that was asked for by [`crate::Output::Fetch`] is on disk, whole and verified.
    Fetched(Hash),
    /// A blob that was asked for could not be had.
    FetchFailed {
        /// Which blob.
        hash: Hash,
        /// Why, for people.
        reason: String,
    },
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
    /// The contents of those outputs that are small enough to travel in a message.
    pub inline: Vec<Vec<u8>>,
}

/// What a person or a program can ask of the engine.
#[derive(Clone, Debug)]
pub enum Command {
    /// Queue a job. Its input blob, if any, is on disk already.
    Submit(Box<JobSpec>),
    /// Stop a job.
    Cancel {
        /// The job.
        job: JobId,
        /// Why, for people.
        reason: String,
    },
    /// Give a final job another try.
    Retry(JobId),
    /// Say why a job is where it is.
    Explain(JobId),
    /// Advertise a tag.
    AddCapability(Tag),
    /// Advertise a tag no longer, even if it is detected.
    RemoveCapability(Tag),
    /// Make an invite.
    Invite {
        /// How long it is good for.
        ttl: DurationMillis,
        /// What the new member may do.
        role: Role,
        /// Where this node listens.
        addresses: Vec<String>,
    },
    /// Judge a request to join that came in on the join protocol.
    Admit {
        /// The stranger, proved by the transport.
        from: NodeId,
        /// Its [`jobmesh_protocol::join::Request`], if it decodes.
        request: Vec<u8>,
    },
    /// Become a member of another mesh. The runtime restarts the mesh afterwards.
    Enroll {
        /// The mesh, from the invite.
        mesh: MeshId,
        /// The membership that its admin issued.
        membership: Box<Membership>,
    },
    /// Take no new work; give back what runs.
    Drain,
    /// Say what the engine counts: refused messages and the like.
    Counters,
}
