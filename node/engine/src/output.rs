//! Everything the engine asks its drivers to do, held back until the state behind it is durable.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_keys::Invite;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{
    BlobRef, DurationMillis, Epoch, Isolation, JobId, JobNumber, JobState, NodeId, RunId, UnixMillis,
};
use jobmesh_store::Committed;
use serde::Serialize;

use crate::explain::Explanation;
use crate::input::{Process, RequestId};
use crate::pool::Allocation;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Answer a command.
    Reply(RequestId, Result<Response, Refusal>),
    /// Send a frame to a connected member. May be dropped if it is gone.
    Send {
        /// To whom.
        to: NodeId,
        /// The encoded frame.
        frame: Vec<u8>,
    },
    /// Gossip this digest from now on, in place of the last one.
    Publish(Vec<u8>),
    /// Gossip this once, beside the digest.
    Shout(Vec<u8>),
    /// Be found in Kademlia under these keys, and no others.
    Provide(BTreeSet<Hash>),
    /// Look in Kademlia for nodes under this key and connect to them.
    Find(Hash),
    /// Try to connect to a member.
    Dial {
        /// Whom.
        node: NodeId,
        /// Where it was last reached.
        addresses: Vec<String>,
    },
    /// Start a run.
    Run(Box<RunOrder>),
    /// Stop a run; its end is still reported.
    Stop {
        /// Which run.
        run: RunId,
        /// Why: decides the outcome that the executor reports.
        reason: StopReason,
    },
    /// Kill what an earlier daemon of this node left running.
    EndOrphan {
        /// The run.
        run: RunId,
        /// Its process.
        process: Process,
    },
    /// Look for the process of a run that an earlier daemon started. If it lives, it is to be watched and
    /// [`crate::Input::Adopted`] said; if not, [`crate::Input::Ended`].
    Adopt {
        /// What had been ordered.
        order: Box<RunOrder>,
        /// Its process, if that was written down.
        process: Option<Process>,
    },
    /// Delete what lies on disk of a job that is not kept any more.
    Forget(JobId),
    /// Get a blob from a member, unless it is on disk or on its way.
    Fetch(Wanted),
    /// Nobody waits for it any more. What has come of it may be kept for another time.
    StopFetch(Wanted),
    /// A job changed; for whoever watches.
    Changed(Change),
}

/// A blob, and the member that it is wanted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which.
    pub blob: BlobRef,
    /// What it is.
    pub kind: BlobKind,
    /// From whom.
    pub from: NodeId,
}

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobKind {
    /// Bytes.
    File,
    /// A [`Tree`](jobmesh_protocol::tree::Tree), which is there when all its files are.
    Tree,
}

/// What an executor needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOrder {
    /// The run.
    pub run: RunId,
    /// The job's number on this node.
    pub number: JobNumber,
    /// The type of the job.
    pub job_type: String,
    /// What to run.
    pub task: Task,
    /// The tree of files that its working directory begins with.
    pub inputs: Option<BlobRef>,
    /// Patterns of the files that are kept.
    pub outputs: Vec<String>,
    /// Names of secrets by the variables that they go to.
    pub secrets: BTreeMap<String, String>,
    /// Whether it asked for the network.
    pub network: bool,
    /// How well it must be kept apart at least.
    pub isolation: Isolation,
    /// Time between TERM and KILL.
    pub kill_grace: DurationMillis,
    /// Most bytes that it may write; none is the node's own limit.
    pub log_bytes_max: Option<u64>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeId>,
    /// The run whose end it waits for.
    pub follows: Option<RunId>,
    /// What it may take.
    pub allocation: Option<Allocation>,
    /// Whether it gets the results of the jobs that it waited for.
    pub reduce: bool,
}

/// Why a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The job was cancelled.
    Cancelled,
    /// The job was cancelled, and gets no time to end by itself.
    Killed,
    /// It was claimed in advance and has waited too long. Means nothing for a run that has started.
    Withdrawn,
    /// It ran too long.
    Timeout,
    /// Its lease ended without renewal.
    LeaseEnded,
    /// The node shuts down.
    Draining,
}

/// A job moved or its attempt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The event's number in the log.
    pub event: u64,
    /// The job.
    pub job: JobId,
    /// The job's number on this node.
    pub number: JobNumber,
    /// The job's state after it.
    pub state: JobState,
    /// What moved it.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeId>,
    /// When.
    pub at: UnixMillis,
}

/// The answer to a command that was carried out.
#[derive(Clone, Debug)]
pub enum Response {
    /// The jobs are queued and will survive a power cut: one for each submission, in their order.
    Submitted(Vec<Taken>),
    /// So many jobs were deleted.
    Pruned(u32),
    /// It is done, or durably on its way.
    Done,
    /// It was so already.
    Unchanged,
    /// Why a job is where it is.
    Explained(Box<Explanation>),
    /// The invite.
    Invited(Box<Invite>),
    /// The encoded [`jobmesh_protocol::join::Answer`].
    Judged(Vec<u8>),
    /// What was counted, by name.
    Counted(std::collections::BTreeMap<&'static str, u64>),
    /// What a request may reach.
    Granted(Reach),
}

/// What a request to a web server may reach that is made for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whatever this node reaches.
    Open,
    /// No more than the requests of peers: nothing that only this machine or its network can reach.
    Guarded,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The job.
    pub job: JobId,
    /// Its number on this node.
    pub number: JobNumber,
    /// Whether it came into being by this submission, and not by an earlier one of the same key.
    pub is_new: bool,
    /// Whether its arguments were added to those of that job.
    pub is_merged: bool,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such job.
    #[error("there is no job {0} on this node")]
    NoSuchJob(JobId),
    /// No such task.
    #[error("there is no task {number}: {why}")]
    NoSuchTask {
        /// The number that was named.
        number: JobNumber,
        /// Why there is none, and what to do.
        why: String,
    },
    /// The job's state does not allow it.
    #[error("job {number} is {state}; {rule}")]
    WrongState {
        /// The job's number.
        number: JobNumber,
        /// Its state.
        state: JobState,
        /// What would be allowed.
        rule: &'static str,
    },
    /// Another job may still want its results.
    #[error(
        "job {number} is kept as long as job {waiting} waits for it or may want its results; cancel that one first"
    )]
    Awaited {
        /// The job's number.
        number: JobNumber,
        /// The job that waits.
        waiting: JobNumber,
    },
    /// The spec is out of bounds.
    #[error("the job is refused: {0}")]
    BadSpec(String),
    /// What the job remembers is out of bounds.
    #[error("the checkpoint is refused: {0}")]
    BadCheckpoint(String),
    /// The queue can't be, or not have these limits.
    #[error("the queue is refused: {0}")]
    BadQueue(String),
    /// The deadline of the job has passed.
    #[error("the deadline of job {number} was {}; submit it anew", deadline.to_rfc3339())]
    PastDeadline {
        /// The job's number.
        number: JobNumber,
        /// Its deadline.
        deadline: UnixMillis,
    },
    /// One of several submissions is refused, and so all of them are.
    #[error("submission {place} of the request is refused, and so are the others: {refusal}")]
    Submission {
        /// Which one, from 1.
        place: usize,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// Another job has the unique key.
    #[error("job {0} has the same unique key")]
    Duplicate(JobNumber),
    /// A job that has ended can't have its unique key again.
    #[error(
        "job {number} can't be tried again while job {holder} holds its unique key; wait for that one's end, or cancel it"
    )]
    KeyTaken {
        /// The job that has ended.
        number: JobNumber,
        /// The job that has the key.
        holder: JobNumber,
    },
    /// The queue takes nothing new.
    #[error("queue {0} is draining and takes nothing new; `jobmesh queue resume {0}` opens it again")]
    QueueDraining(String),
    /// The job is no open group.
    #[error("job {0} is no open group, so it takes no further tasks")]
    NotOpen(JobNumber),
    /// The run is not one of this node's.
    #[error("that run has ended, or is none of this node's")]
    NotRunning,
    /// A job that a peer sent submits something.
    #[error("only a job of this node may submit to its queue")]
    ForeignParent,
    /// A job that is kept apart submits what it must not do itself.
    #[error("job {parent} is kept apart ({level}): {rule}")]
    Confined {
        /// The job that submits.
        parent: JobNumber,
        /// How well it was asked to be kept apart.
        level: Isolation,
        /// What holds for whatever it submits.
        rule: &'static str,
    },
    /// Somebody wants a request to be made and can make it without the node's help.
    #[error("requests are made for scripts only; a command uses the network by itself, or submits an http job")]
    NoScript,
    /// A request without the right to the network.
    #[error("the job was not granted the network; submit it with --network")]
    NoNetwork,
    /// No such schedule.
    #[error("there is no schedule {0:?}; `jobmesh cron ls` lists them")]
    NoSuchSchedule(String),
    /// The configuration has the schedule.
    #[error("the schedule {0:?} is declared by the configuration, which alone can change it or take it away")]
    DeclaredSchedule(String),
    /// The schedule can't be.
    #[error("the schedule is refused: {0}")]
    BadSchedule(String),
    /// Nobody knows any more what fired.
    #[error(
        "it isn't known any more which instants of schedule {schedule} before {} have fired; fill in from then on, or \
         submit the jobs of earlier ones by hand",
        since.to_rfc3339()
    )]
    ForgottenInstants {
        /// The schedule.
        schedule: String,
        /// The oldest instant of which it is known.
        since: UnixMillis,
    },
    /// Instants that have not come.
    #[error("a backfill goes up to now, {}, at most; the instants after it will fire by themselves", now.to_rfc3339())]
    InstantsToCome {
        /// When that was.
        now: UnixMillis,
    },
    /// A bound.
    #[error("this node takes at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// The node is shutting down.
    #[error("this node is shutting down and takes no new work")]
    Draining,
    /// Only an admin of the mesh may.
    #[error("this node is no admin of its mesh, so it can't invite")]
    NotAdmin,
    /// The invite can't be made.
    #[error("the invite can't be made: {0}")]
    BadInvite(String),
    /// The membership is not for this node.
    #[error("the membership is not good: {0}")]
    BadMembership(String),
    /// A bound of the capability record.
    #[error("a node advertises at most {0} tags")]
    TooManyTags(usize),
}

impl Refusal {
    /// The refusal of a request of several submissions for one of them.
    pub(crate) fn of_submission(self, place: Option<usize>) -> Self {
        match place {
            Some(place) => Self::Submission { place, refusal: Box::new(self) },
            None => self,
        }
    }
}

/// What one step decided. Can be opened only with the proof that the step is on disk.
#[derive(Debug, Default)]
#[must_use = "outputs that are not released are lost until the next restart"]
pub struct Outputs(Vec<Output>);

impl Outputs {
    pub(crate) fn push(&mut self, output: Output) {
        self.0.push(output);
    }

    /// Hands the outputs over, in order.
    #[must_use]
    pub fn release(self, _proof: Committed) -> Vec<Output> {
        self.0
    }

    /// Hands the outputs over before the commit: the first of the seeded bugs.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn release_early(&self) -> Vec<Output> {
        self.0.clone()
    }

    /// Hands out before the commit what starts runs.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn start_early(&self) -> Vec<Output> {
        self.0.iter().filter(|output| matches!(output, Output::Run(_))).cloned().collect()
    }
}
