//! The JSON that the daemon and its clients exchange on the control socket: one type per body.
//!
//! | route | question | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/blobs` | raw bytes | [`jobmesh_protocol::BlobRef`] |
//! | `POST /v1/jobs` | [`SubmitRequest`] | [`Submitted`] |
//! | `GET /v1/jobs?state=&live=&limit=` | | [`JobList`] |
//! | `GET /v1/jobs/{id}` | | [`JobDetail`] |
//! | `POST /v1/jobs/{id}/cancel` | [`CancelRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/retry` | | [`Done`] |
//! | `GET /v1/jobs/{id}/explain` | | [`Explanation`] |
//! | `GET /v1/jobs/{id}/wait?timeout_ms=` | | [`JobDetail`] once final, else [`ErrorCode::Timeout`] |
//! | `GET /v1/jobs/{id}/watch` | | events `change` with a [`Change`] each, the last one final |
//! | `GET /v1/jobs/{id}/logs?stream=&attempt=&offset=&follow=` | | raw bytes; [`ATTEMPT_HEADER`] names the attempt |
//! | `GET /v1/jobs/{id}/receipt?attempt=` | | [`ReceiptView`] |
//! | `GET /v1/peers` | | [`Peers`] |
//! | `GET /v1/capabilities` | | [`Capabilities`] |
//! | `POST`, `DELETE /v1/capabilities` | [`CapabilityRequest`] | [`CapabilityAnswer`] |
//! | `POST /v1/invites` | [`InviteRequest`] | [`InviteView`] |
//! | `POST /v1/join` | [`JoinRequest`] | [`Joined`] |
//! | `GET /v1/learn` | | [`Learned`] |
//! | `GET /v1/events` | | events `change` with a [`Change`] each, for ever; `missed` with a [`Missed`] |
//! | `POST /v1/shutdown` | [`ShutdownRequest`] | [`Done`] |
//!
//! `{id}` is a job's number on this node, its whole UUID, or `last`. Every refusal is an [`ErrorBody`] with a fitting
//! HTTP status. Times are milliseconds since 1970 UTC, lengths of time milliseconds.
//!
//! **The hard case** is an older client and a newer daemon: answers may gain fields, so readers ignore what they do
//! not know; questions may not, because a restriction that is skipped over is a permission.

use std::collections::BTreeMap;

use jobmesh_engine as engine;
use jobmesh_keys::Role;
use jobmesh_protocol::outcome::{Exit, Outputs};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{
    AttemptState, AwardId, DurationMillis, Epoch, JobId, JobSpec, JobState, MeshId, NodeId, Outcome, ReceiptId,
    Resources, Tag, TicketId, UnixMillis, id::Hash,
};
use serde::{Deserialize, Serialize};

/// The header of a logs answer that says which attempt's bytes follow.
pub const ATTEMPT_HEADER: &str = "x-jobmesh-attempt";
/// The name of a server-sent event that carries a [`Change`].
pub const CHANGE_EVENT: &str = "change";
/// The name of a server-sent event that carries a [`Missed`].
pub const MISSED_EVENT: &str = "missed";

/// What a refused request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// Why a request was refused, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: a fragment without a final dot.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The question is malformed or out of bounds: HTTP 400.
    BadRequest,
    /// No such job, attempt, receipt or output: HTTP 404.
    NotFound,
    /// The state of the job, the node or the mesh does not allow it: HTTP 409.
    Conflict,
    /// The body is too large: HTTP 413.
    TooLarge,
    /// The node has more to do than it can queue: HTTP 429. Try again.
    Busy,
    /// The node shuts down: HTTP 503.
    Draining,
    /// The disk is full: HTTP 507. Nothing that was acknowledged is lost.
    DiskFull,
    /// The other node could not be reached or did not answer: HTTP 502.
    PeerUnreachable,
    /// The other node said no: HTTP 403.
    PeerRefused,
    /// The time given is over: HTTP 504.
    Timeout,
    /// A fault of the daemon or its disk: HTTP 500.
    Internal,
}

/// A node with the name that people know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The node.
    pub node: NodeId,
    /// Its name; the short form of its id where no name is known.
    pub name: String,
    /// Whether it is the node that answers.
    pub is_self: bool,
}

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// The build's version.
    pub version: String,
    /// The daemon's process number.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: UnixMillis,
    /// The data directory.
    pub home: String,
    /// The mesh it is a member of.
    pub mesh: MeshId,
    /// What it may do there.
    pub role: Role,
    /// When its certificate ends.
    pub certificate_not_after: UnixMillis,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Members that are connected now.
    pub connected: u32,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How many run on it now, its own and others'.
    pub running: u32,
    /// How many jobs it keeps, by state.
    pub jobs: BTreeMap<JobState, u64>,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// Refused messages and the like, by name.
    pub counters: BTreeMap<String, u64>,
}

/// Asks for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// What is to be done. Its input blob, if any, was uploaded before.
    pub spec: JobSpec,
}

/// A job that is queued and will survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
}

/// Jobs, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
}

/// A job as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
    /// Where it is in its life.
    pub state: JobState,
    /// Since when.
    pub state_since: UnixMillis,
    /// Its name for people.
    pub name: Option<String>,
    /// Its type, by which learning groups.
    pub job_type: String,
    /// Its program and arguments; empty for an executor that has none.
    pub command: Vec<String>,
    /// The epoch of its last attempt; 0 before the first.
    pub epoch: Epoch,
    /// The node of its last attempt.
    pub node: Option<NodeName>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeName>,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that vanished.
    pub crashes: u32,
    /// How the last attempt that ended did so, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal of the last attempt that ended.
    pub exit: Exit,
    /// Why the job ended.
    pub finish_reason: Option<FinishReason>,
    /// Why it is to be cancelled, once someone asked for that.
    pub cancel_reason: Option<String>,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// When it was submitted here.
    pub created_at: UnixMillis,
    /// When its last attempt started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// Everything that is known about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job.
    pub job: JobView,
    /// What was asked for.
    pub spec: JobSpec,
    /// Every execution, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Its history, oldest first.
    pub events: Vec<EventView>,
    /// The receipts that came in, oldest first.
    pub receipts: Vec<ReceiptHead>,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Which attempt.
    pub epoch: Epoch,
    /// Where it is.
    pub state: AttemptState,
    /// Which node runs it.
    pub node: NodeName,
    /// Its process number, if it runs on this node and has started.
    pub pid: Option<u32>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// The award, if it runs on a peer.
    pub award: Option<AwardId>,
    /// The receipt that ended it.
    pub receipt: Option<ReceiptId>,
    /// What became of the last receipt for it: `superseded` is kept as evidence only.
    pub verdict: Option<Verdict>,
    /// When it was decided.
    pub created_at: UnixMillis,
    /// When it started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number in the node's log.
    pub id: u64,
    /// When.
    pub at: UnixMillis,
    /// The job's state after it.
    pub state: JobState,
    /// What moved the job.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeName>,
    /// What is to be said about it.
    pub note: Option<String>,
}

/// A receipt as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHead {
    /// Its id.
    pub id: ReceiptId,
    /// The attempt it is for.
    pub epoch: Epoch,
    /// Who signed it.
    pub node: NodeName,
    /// What became of it; `null` while its outputs are on the way.
    pub verdict: Option<Verdict>,
    /// When it came.
    pub received_at: UnixMillis,
}

/// A receipt with everything it takes to check it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The mesh whose domain the signature covers.
    pub mesh: MeshId,
    /// Its id.
    pub id: ReceiptId,
    /// Who signed it.
    pub signer: NodeId,
    /// The signed bytes, as they were received, in base64.
    pub envelope: String,
    /// What they say.
    pub receipt: ReceiptBody,
    /// What they must say.
    pub expected: Expected,
    /// What became of it; `null` while its outputs are on the way.
    pub verdict: Option<Verdict>,
    /// When it came.
    pub received_at: UnixMillis,
}

/// What a receipt says, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptBody {
    /// The award under which it ran.
    pub award: AwardId,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The origin.
    pub to: NodeId,
    /// The hash of the spec that ran.
    pub spec: Hash,
    /// How it ended.
    pub outcome: Outcome,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// How it was kept apart from the rest of the machine.
    pub isolation: String,
    /// When it started, on the executor's clock.
    pub started_at: UnixMillis,
    /// When it ended, on the executor's clock.
    pub finished_at: UnixMillis,
}

impl From<Receipt> for ReceiptBody {
    fn from(receipt: Receipt) -> Self {
        let Receipt { award, ticket, epoch, to, spec, outcome, exit, outputs, isolation, started_at, finished_at } =
            receipt;
        Self { award, ticket, epoch, to, spec, outcome, exit, outputs, isolation, started_at, finished_at }
    }
}

/// What this node wrote down when it awarded the attempt: the receipt must agree with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The node that got the award; only it may sign.
    pub awardee: NodeId,
    /// The award.
    pub award: Option<AwardId>,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The hash of the awarded spec.
    pub spec: Option<Hash>,
    /// The origin: this node.
    pub to: NodeId,
    /// What is kept as the attempt's output.
    pub outputs: Outputs,
}

/// Asks for the end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for people.
    pub reason: String,
}

/// The request was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Whether that changed anything; `false` if it was so already.
    pub changed: bool,
}

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job's number on this node.
    pub number: u64,
    /// Its state.
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Since when it is in this state.
    pub since: UnixMillis,
    /// Every reason why it does not run here now; empty if nothing holds it.
    pub reasons: Vec<String>,
    /// Every known node and how it stands to the job, nearest first.
    pub nodes: Vec<NodeFit>,
}

/// How one node stands to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFit {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it is the node that answers.
    pub is_self: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// The requirements and resources that it lacks.
    pub lacks: Vec<String>,
    /// What it last said to an offer of this job.
    pub answer: Option<String>,
}

impl From<engine::Explanation> for Explanation {
    fn from(explanation: engine::Explanation) -> Self {
        let engine::Explanation { number, state, summary, since, reasons, nodes } = explanation;
        Self { number, state, summary, since, reasons, nodes: nodes.into_iter().map(NodeFit::from).collect() }
    }
}

impl From<engine::NodeFit> for NodeFit {
    fn from(fit: engine::NodeFit) -> Self {
        let engine::NodeFit { node, name, is_self, is_connected, lacks, answer } = fit;
        Self { node, name, is_self, is_connected, lacks, answer }
    }
}

/// A job moved or its attempt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The event's number in the node's log; 0 for the present state of a job that has no event yet.
    pub event: u64,
    /// The job.
    pub job: JobId,
    /// The job's number on this node.
    pub number: u64,
    /// The job's state after it.
    pub state: JobState,
    /// What moved it.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeName>,
    /// When.
    pub at: UnixMillis,
}

/// The watcher was too slow; read the lists again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many changes were left out.
    pub changes: u64,
}

/// The nodes of the mesh, and those that were turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The mesh.
    pub mesh: MeshId,
    /// Members, connected ones first, then by name.
    pub peers: Vec<PeerView>,
    /// Nodes that were refused or that refused this one, newest first.
    pub refused: Vec<RefusedView>,
}

/// Another member of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The member.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// What it may do, known once it was connected since this daemon started.
    pub role: Option<Role>,
    /// When its certificate ends, known likewise.
    pub certificate_not_after: Option<UnixMillis>,
    /// Where it was last reached.
    pub addresses: Vec<String>,
    /// When it was last connected.
    pub seen_at: Option<UnixMillis>,
    /// What it advertises, if its record has arrived.
    pub record: Option<RecordView>,
}

/// What a node advertises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// What it has.
    pub tags: Vec<Tag>,
    /// What it measures.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What it owns in all.
    pub resources: Resources,
    /// How many jobs it runs at once.
    pub slots: u32,
}

/// What an attribute is worth: a number or a word, plain in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValue(pub Value);

impl Serialize for AttributeValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(Value::Text(text))),
            serde_json::Value::Number(number) => {
                let number =
                    number.as_u64().ok_or_else(|| D::Error::custom("an attribute is a whole number from 0"))?;
                Ok(Self(Value::Number(number)))
            }
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => Err(D::Error::custom("an attribute is a number or a text")),
        }
    }
}

/// A node that was turned away, or that turned this one away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The node at the far end.
    pub node: NodeId,
    /// Who refused.
    pub by: RefusedBy,
    /// Why, for people.
    pub reason: String,
    /// When it last happened.
    pub at: UnixMillis,
    /// How often it happened since the daemon started.
    pub count: u32,
}

/// Which side said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    /// This node.
    Us,
    /// The other one.
    Them,
}

/// What this node advertises, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The tags, in their order.
    pub tags: Vec<TagView>,
    /// What it measures.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What it owns in all.
    pub resources: Resources,
    /// How many jobs it runs at once.
    pub slots: u32,
}

/// One tag of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagView {
    /// The tag.
    pub tag: Tag,
    /// Where it comes from.
    pub source: TagSource,
    /// Whether it is advertised.
    pub is_advertised: bool,
}

/// Where a tag comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagSource {
    /// It was found on this machine.
    Detected,
    /// A person added it.
    Added,
    /// A person removed it.
    Removed,
}

/// Adds or removes tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRequest {
    /// The tags; at least one.
    pub tags: Vec<Tag>,
}

/// What that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityAnswer {
    /// Tags that are advertised now and were not, or the other way round.
    pub changed: Vec<Tag>,
    /// Tags for which it was so already.
    pub unchanged: Vec<Tag>,
}

/// Asks for an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How long it is good for.
    pub ttl_ms: DurationMillis,
    /// What the new member may do.
    pub role: Role,
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// The string to hand over.
    pub invite: String,
    /// The mesh it lets into.
    pub mesh: MeshId,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// What the new member may do.
    pub role: Role,
    /// Where the new member will look for this node.
    pub addresses: Vec<String>,
}

/// Asks to join a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The invite string.
    pub invite: String,
}

/// The node is a member of a mesh now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The mesh.
    pub mesh: MeshId,
    /// The node that let it in.
    pub inviter: NodeId,
    /// What it may do.
    pub role: Role,
    /// When its certificate ends.
    pub certificate_not_after: UnixMillis,
    /// The four words that both ends show.
    pub words: [String; 4],
}

/// What was learned of who does which work how well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// What this node has seen itself.
    pub own: Vec<CellView>,
    /// What other members have told, by author and day.
    pub heard: Vec<HeardView>,
}

/// The summary of another member for one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardView {
    /// Who saw it.
    pub author: NodeName,
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// Which version of that day's summary.
    pub version: u64,
    /// What it saw.
    pub cells: Vec<CellView>,
}

/// What was seen of one kind of work on one node in one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellView {
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// The job type.
    pub job_type: String,
    /// The executor.
    pub executor: String,
    /// The node that ran it.
    pub node: NodeName,
    /// Attempts that succeeded.
    pub succeeded: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// Attempts that ran too long.
    pub timed_out: u32,
    /// Attempts that vanished.
    pub lost: u32,
    /// Half of the successful ones took at most this long.
    pub p50_ms: Option<DurationMillis>,
    /// Nine of ten successful ones took at most this long.
    pub p90_ms: Option<DurationMillis>,
}

/// Asks the daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// How.
    pub mode: ShutdownMode,
}

/// How the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// Running jobs get some time to end; what then still runs is stopped and queued again.
    Drain,
    /// Running jobs are stopped and queued again.
    Now,
}

/// Which of its two outputs an attempt wrote to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// The query of a job list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only jobs that have not ended.
    #[serde(default)]
    pub live: bool,
    /// At most so many; the default is 50, the most 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The query of a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// How long to wait; none is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<DurationMillis>,
}

/// The query of a receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptQuery {
    /// Which attempt; none is the accepted receipt, else the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Epoch>,
}

/// The query of an attempt's output.
///
/// Without `follow` the answer is what is here now. With it the answer ends after the attempt does; a job that has
/// no attempt yet is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Which output.
    #[serde(default)]
    pub stream: LogStream,
    /// Which attempt; none is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Epoch>,
    /// How many bytes to leave out at the start.
    #[serde(default)]
    pub offset: u64,
    /// Whether to go on until the attempt ends.
    #[serde(default)]
    pub follow: bool,
}
