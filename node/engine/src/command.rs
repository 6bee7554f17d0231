//! What a person or a program can ask of the engine.

use jobmesh_keys::{Membership, MeshId, Role};
use jobmesh_protocol::job::RateLimit;
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing};
use jobmesh_protocol::{DurationMillis, JobId, JobNumber, NodeId, RunId, Submission, Tag, UnixMillis};
use serde::{Deserialize, Serialize};

/// One wish.
#[derive(Clone, Debug)]
pub enum Command {
    /// Queue jobs, all of them or none. Their input blobs, if any, are on disk already.
    Submit(Vec<Submission>),
    /// Queue what a running job of this node submits, as far as that job may. The same holds for its input blobs.
    SubmitChild(RunId, Box<Submission>),
    /// Say whether a running job may submit this, without queueing it: before anything is looked up for it.
    JudgeChild(RunId, Box<Submission>),
    /// Say what a request to a web server may reach that a running script wants to be made for it.
    GrantRequest(RunId),
    /// Do something to a job.
    Job(JobId, JobAction),
    /// Make those tasks of arrays that have these numbers and are still to be made, at most [`crate::NAMED_MAX`] of them:
    /// somebody has named them. If one of them can't be, none is made.
    NameTasks(Vec<JobNumber>),
    /// The same of all tasks of one group from one number to another, both included.
    NameRange(JobNumber, JobNumber),
    /// Say why a job is where it is.
    Explain(JobId),
    /// Say what would become of a submission, without queueing it.
    Plan(Box<Submission>),
    /// Do something to a queue, which comes into being by it.
    Queue(String, QueueAction),
    /// Do something to a schedule.
    Schedule(String, ScheduleAction),
    /// Take over what the configuration file says now.
    Configure(Box<Declared>),
    /// Delete what has been kept long enough, at most so many jobs: large deletions would hold up everyone.
    Prune {
        /// How many at most.
        limit: u32,
        /// Only jobs that ended before this, whatever their retention; none goes by the retention alone.
        ended_before: Option<UnixMillis>,
    },
    /// Forget how many jobs ended how in the hours of very long ago.
    ForgetHours,
    /// A running job says something of itself.
    Report(RunId, Report),
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

/// What can be done to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobAction {
    /// Stop it.
    Cancel {
        /// Why, for people.
        reason: String,
        /// Whether to leave it no time to end by itself.
        is_forced: bool,
    },
    /// Give it another try. Of a group, the tasks that did not complete.
    Retry,
    /// Let it wait until it is released.
    Hold {
        /// Why, for people.
        reason: String,
    },
    /// Let a held one go on.
    Release,
    /// Let it start at this time, if it has not started.
    Reschedule(UnixMillis),
    /// Change its place among those that wait.
    Prioritize(i32),
    /// Put it into another queue.
    Move(String),
    /// Take no more tasks into an open group.
    Close,
    /// Delete it and all that is kept of it, if it has ended.
    Remove,
}

/// What can be done to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAction {
    /// Change its limits; none leaves one as it is.
    Set(QueueLimits),
    /// Start nothing from it.
    Pause,
    /// Start jobs from it again.
    Resume,
    /// Take nothing new into it, and run what is in it.
    Drain,
    /// Forget what was set by hand: go by the configuration file again.
    Reset,
}

/// The limits of a queue. The outer none means "not said", the inner one "no limit".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueLimits {
    /// How many of its jobs run at once.
    #[serde(default)]
    pub concurrency: Option<Option<u32>>,
    /// How many of its jobs start in a time.
    #[serde(default)]
    pub rate: Option<Option<RateLimit>>,
}

/// What the configuration file declares for the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The limits of queues, by name.
    pub queues: std::collections::BTreeMap<String, QueueLimits>,
    /// Schedules, by name: those of job types. One that is not declared any more is dropped.
    pub schedules: std::collections::BTreeMap<String, Schedule>,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// What one peer may take at most.
    pub quotas: crate::quota::Quotas,
    /// How well jobs are kept apart.
    pub isolation: crate::isolation::Policy,
    /// The members that may have a secret for the jobs that they do for this node, by its name.
    pub entrusted: std::collections::BTreeMap<String, std::collections::BTreeSet<NodeId>>,
}

/// How long ended jobs are kept, by state; none is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Completed ones.
    pub completed: Option<DurationMillis>,
    /// Cancelled ones and skipped ones.
    pub cancelled: Option<DurationMillis>,
    /// Discarded ones, the dead letters.
    pub discarded: Option<DurationMillis>,
    /// Receipts, beyond their jobs.
    pub receipts: Option<DurationMillis>,
}

impl Default for Retention {
    /// A day for what went well or is not wanted, a month for what failed, a quarter for proofs.
    fn default() -> Self {
        let days = |days: u64| Some(DurationMillis::from_secs(days * 86_400));
        Self { completed: days(1), cancelled: days(1), discarded: days(30), receipts: days(90) }
    }
}

/// A schedule: when, what, and what to do if the last one still runs or an instant was missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When it fires.
    pub timing: Timing,
    /// What becomes of an instant while the job of an earlier one has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// Which of the instants that were missed are made up for.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// What is submitted.
    pub submission: Submission,
}

/// What can be done to a schedule.
#[derive(Clone, Debug)]
pub enum ScheduleAction {
    /// Make it, or put it in the place of the one of that name.
    Set(Box<Schedule>),
    /// Fire no more until resumed.
    Pause,
    /// Fire again from now on.
    Resume,
    /// Submit its job now, beside its instants.
    Trigger,
    /// Submit its job for each instant in this time that has not fired.
    Backfill {
        /// After this.
        from: UnixMillis,
        /// Up to this.
        to: UnixMillis,
    },
    /// Forget it. Its jobs stay.
    Remove,
}

/// What a running job says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It lives: starts its silence anew.
    Heartbeat,
    /// How far it is, from 0 to 10 000, and what it does.
    Progress {
        /// In ten-thousandths; none if it can't tell.
        done: Option<u16>,
        /// For people.
        message: Option<String>,
    },
    /// Something that the next attempt wants to know. An empty value forgets it.
    Checkpoint {
        /// Under which key.
        key: String,
        /// What.
        value: String,
    },
}
