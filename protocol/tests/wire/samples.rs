//! One fixed value of every type that leaves a node.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_keys::{Identity, SealSecret};
use jobmesh_protocol::capability::{CapabilityRecord, Digest, RecordRequest, Relayed, Version};
use jobmesh_protocol::cbor::{self, DecodeError};
use jobmesh_protocol::chain::{Chain, Export, Link};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::id::{AwardId, BlobRef, Hash, Incarnation};
use jobmesh_protocol::job::{Concurrency, Effects, JobSpec, Rate, RateLimit, Scope};
use jobmesh_protocol::join;
use jobmesh_protocol::outcome::{Exit, ModelUse, Outcome, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::requirement::{Comparison, Requirement, Value};
use jobmesh_protocol::resource::{Amount, Name, Offered};
use jobmesh_protocol::retry::{Backoff, Failure, Retry};
use jobmesh_protocol::secret;
use jobmesh_protocol::session::{Frame, Message};
use jobmesh_protocol::summary::{Cell, Head, Heads, Histogram, Summary};
use jobmesh_protocol::task::{
    Complexity, ContainerTask, Content, EmbeddingTask, HttpTask, LlmTask, LuaTask, Message as Said, ProcessTask, Pull,
    Role, Task, WasmTask,
};
use jobmesh_protocol::ticket::{
    Accept, Accepted, Award, Bid, Cancel, Grant, Heartbeat, HeldLease, HeldPhase, LeaseKey, Offer, Payload, Reconcile,
    Refusal, RefusalReason, Release, ReleaseCause, Seek, Settle, SlotTerms, Terms, Verdict, commitment,
};
use jobmesh_protocol::tree::{Entry, Node, Tree};
use jobmesh_protocol::{DurationMillis, Epoch, Isolation, MeshId, MessageId, NodeId, TicketId, UnixMillis};
use serde::{Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

const SALT: Hash = Hash::from_bytes([0xB1; 32]);
const TICKET: TicketId = TicketId::from_bytes([0xC1; 16]);
const EPOCH: Epoch = Epoch(3);
const LEASE: LeaseKey = LeaseKey { ticket: TICKET, epoch: EPOCH };
const AT: UnixMillis = UnixMillis(1_700_000_000_000);

/// A value in its encoded form, and how to read that.
pub(crate) struct Sample {
    /// Names its golden file.
    pub(crate) name: &'static str,
    /// The encoded value.
    pub(crate) bytes: Vec<u8>,
    /// Decodes bytes as the value's type and encodes what was found.
    pub(crate) again: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
}

/// The body of a message.
pub(crate) struct Body {
    /// What message.
    pub(crate) kind: Kind,
    /// The body alone.
    pub(crate) sample: Sample,
    /// The body in its envelope, signed by [`signer`] for [`mesh`].
    pub(crate) envelope: Vec<u8>,
    /// Parses the body of any envelope as this type and encodes what was found.
    pub(crate) parse: fn(&Envelope) -> Result<Vec<u8>, DecodeError>,
}

/// Who signs every sample.
pub(crate) fn signer() -> Identity {
    Identity::from_seed([7; 32])
}

/// The mesh of every sample.
pub(crate) fn mesh() -> MeshId {
    MeshId::from_bytes([0x3E; 32])
}

fn node() -> NodeId {
    Identity::from_seed([8; 32]).node()
}

fn sample<T: Serialize + DeserializeOwned>(name: &'static str, value: &T) -> Sample {
    let again = |bytes: &[u8]| cbor::decode::<T>(bytes, usize::MAX).map(|found| cbor::encode(&found));
    Sample { name, bytes: cbor::encode(value), again }
}

fn body<T: Serialize + DeserializeOwned>(kind: Kind, name: &'static str, value: &T) -> Body {
    let envelope = Envelope::seal(&signer(), &mesh(), kind, value);
    let parse = |envelope: &Envelope| envelope.parse::<T>().map(|found| cbor::encode(&found));
    Body { kind, sample: sample(name, value), envelope, parse }
}

/// One body of every kind, in the order of [`Kind::ALL`].
pub(crate) fn bodies() -> Vec<Body> {
    Kind::ALL.iter().copied().map(body_of).collect()
}

fn body_of(kind: Kind) -> Body {
    match kind {
        Kind::Offer => body(kind, "body-offer", &offer()),
        Kind::Bid => body(kind, "body-bid", &bid()),
        Kind::Refusal => body(kind, "body-refusal", &refusal()),
        Kind::Award => body(kind, "body-award", &award()),
        Kind::Accept => body(kind, "body-accept", &accept()),
        Kind::Heartbeat => body(kind, "body-heartbeat", &heartbeat()),
        Kind::Grant => body(kind, "body-grant", &grant()),
        Kind::Receipt => body(kind, "body-receipt", &receipt()),
        Kind::Settle => body(kind, "body-settle", &settle()),
        Kind::Cancel => body(kind, "body-cancel", &cancel()),
        Kind::Release => body(kind, "body-release", &release()),
        Kind::Reconcile => body(kind, "body-reconcile", &reconcile()),
        Kind::Seek => body(kind, "body-seek", &seek()),
        Kind::Capability => body(kind, "body-capability", &capability()),
        Kind::RecordRequest => body(kind, "body-record-request", &RecordRequest { node: node(), known: version() }),
        Kind::Digest => body(kind, "body-digest", &digest()),
        Kind::Relayed => body(kind, "body-relayed", &Relayed(vec![0xDE, 0xAD])),
        Kind::Summary => body(kind, "body-summary", &summary()),
        Kind::SummaryHeads => body(kind, "body-summary-heads", &heads()),
        Kind::SummaryRequest => body(kind, "body-summary-request", &heads()),
    }
}

/// Every type that is not the body of a message.
pub(crate) fn others() -> Vec<Sample> {
    let welcome = join::Answer::Welcome(vec![0x5E; 40]);
    let refused = join::Answer::Refused(join::RefusalReason::NotAdmin);
    let note = Frame::Note { envelope: ByteBuf::from(vec![0x85]) };
    vec![
        sample("job-spec", &spec()),
        sample("task-container", &container()),
        sample("task-wasm", &wasm()),
        sample("task-lua", &lua()),
        sample("task-http", &http()),
        sample("task-llm", &llm()),
        sample("task-embedding", &Task::Embedding(EmbeddingTask::new(["a", "b"]))),
        sample("tree", &tree()),
        sample("job-spec-defaults", &JobSpec::new("true", Task::Process(ProcessTask::new(vec!["true".to_owned()])))),
        sample("payload", &payload()),
        sample("award-under-slot-lease", &award_under()),
        sample("export", &export()),
        sample("histogram", &histogram()),
        sample("frame-data", &data()),
        sample("frame-ack", &Frame::Ack { incarnation: Incarnation::from_bytes([0x1C; 16]), number: 300 }),
        sample("frame-note", &note),
        sample(
            "frame-meet",
            &Frame::Meet {
                received: Some((Incarnation::from_bytes([0x1C; 16]), 300)),
                former: Some(Incarnation::from_bytes([0x1D; 16])),
                wants_answer: true,
            },
        ),
        sample("join-request", &join::Request { secret: [0xA5; 16], name: "läptop".to_owned() }),
        sample("join-welcome", &welcome),
        sample("join-refused", &refused),
        sample("secrets-request", &secret::Request { key: LEASE }),
        sample("secrets-given", &secret::Answer::Given([("TOKEN".to_owned(), "hänter2\n".to_owned())].into())),
        sample("secrets-withheld", &secret::Answer::Withheld),
    ]
}

/// Every sample there is.
pub(crate) fn all() -> Vec<Sample> {
    bodies().into_iter().map(|body| body.sample).chain(others()).collect()
}

/// A frame of two numbered messages, one of them with an attachment.
pub(crate) fn data() -> Frame {
    let message = |kind, attachments| {
        let envelope = ByteBuf::from(Envelope::seal(&signer(), &mesh(), kind, &accept()));
        Message { envelope, attachments }
    };
    let attachments = vec![ByteBuf::from(b"hello\n".to_vec())];
    let messages = vec![message(Kind::Accept, attachments), message(Kind::Receipt, Vec::new())];
    Frame::Data { incarnation: Incarnation::from_bytes([0x1C; 16]), number: 70_000, first: 69_990, messages }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn variables() -> BTreeMap<String, String> {
    BTreeMap::from([("LANG".to_owned(), "C".to_owned())])
}

fn container() -> Task {
    Task::Container(ContainerTask {
        image: "docker.io/library/busybox:1".to_owned(),
        argv: words(&["sh", "-c", "true"]),
        environment: variables(),
        stdin: Some(BlobRef::of(b"input")),
        pull: Some(Pull::Always),
    })
}

fn wasm() -> Task {
    Task::Wasm(WasmTask {
        module: BlobRef::of(b"module"),
        argv: words(&["-v"]),
        environment: variables(),
        stdin: Some(BlobRef::of(b"input")),
        fuel: Some(1_000_000),
    })
}

fn lua() -> Task {
    Task::Lua(LuaTask {
        script: Content::Text("return job.args[1]".to_owned()),
        argv: words(&["x"]),
        environment: variables(),
        stdin: Some(BlobRef::of(b"input")),
    })
}

fn http() -> Task {
    Task::Http(HttpTask {
        method: "POST".to_owned(),
        url: "https://example.org/hook".to_owned(),
        headers: BTreeMap::from([("accept".to_owned(), "application/json".to_owned())]),
        body: Some(Content::Blob(BlobRef::of(b"body"))),
        expect: vec![200, 409],
        redirects: 0,
    })
}

fn llm() -> Task {
    let message = |role, text: &str| Said { role, content: Content::Text(text.to_owned()) };
    Task::Llm(LlmTask {
        messages: vec![message(Role::System, "be brief"), message(Role::User, "why?")],
        model: Some("local/small".to_owned()),
        complexity: Some(Complexity::Simple),
        tokens_max: Some(100),
        temperature_milli: Some(700),
    })
}

fn tree() -> Tree {
    let entry = |path: &str, node| Entry { path: path.to_owned(), node };
    let entries = vec![
        entry("bin/run", Node::File { blob: BlobRef::of(b"run"), mode: 0o755 }),
        entry("bin/go", Node::Link { target: "run".to_owned() }),
        entry("empty", Node::Directory { mode: 0o700 }),
    ];
    Tree::new(entries).unwrap()
}

fn model_use() -> ModelUse {
    ModelUse {
        provider: "local".to_owned(),
        model: "small".to_owned(),
        input_tokens: Some(28),
        output_tokens: Some(15),
        cost_micros: Some(3),
        first_token_ms: Some(DurationMillis(120)),
        latency_ms: Some(DurationMillis(900)),
        finish: Some("stop".to_owned()),
        dimension: None,
    }
}

/// A spec that sets every field.
pub(crate) fn spec() -> JobSpec {
    let task = ProcessTask {
        argv: vec!["gzip".to_owned(), "-9".to_owned()],
        directory: Some("/srv/in".to_owned()),
        environment: BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
        stdin: Some(BlobRef::of(b"input")),
    };
    JobSpec {
        name: Some("nightly".to_owned()),
        job_type: "gzip".to_owned(),
        task: Task::Process(task),
        requirements: requirements(),
        resources: "cpus=1.5,mem=8G | cpus=all".parse().unwrap(),
        scope: Scope::Network,
        effects: Effects::Once,
        queue: "bulk".to_owned(),
        priority: -5,
        timeout_ms: Some(DurationMillis::from_secs(3600)),
        kill_grace_ms: DurationMillis::from_secs(7),
        heartbeat_ms: Some(DurationMillis::from_secs(60)),
        retry: Retry {
            max_attempts: 4,
            backoff: Backoff::exponential(DurationMillis(100), DurationMillis(90_000)),
            retry_on: vec![Failure::Exit { from: 70, to: 79 }, Failure::Timeout],
            fail_on: vec![Failure::Exit { from: 77, to: 77 }, Failure::Signal(9)],
            crash_limit: 2,
            max_snoozes: Some(3),
        },
        concurrency: Some(Concurrency { key: "tenant".to_owned(), limit: 2 }),
        rates: vec![Rate {
            key: "api".to_owned(),
            limit: RateLimit { count: 60, period_ms: DurationMillis::from_secs(60) },
        }],
        log_bytes_max: Some(1 << 20),
        inputs: Some(BlobRef::of(b"tree")),
        outputs: vec!["out/*.png".to_owned()],
        secrets: BTreeMap::from([("TOKEN".to_owned(), "registry".to_owned())]),
        network: true,
        isolation: Some(Isolation::Sandboxed),
        keep_ms: Some(DurationMillis::from_secs(86_400)),
        labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
    }
}

fn offered(amounts: &[(Name, u64)]) -> Offered {
    Offered::new(amounts.iter().map(|(name, parts)| (name.clone(), Amount::from_parts(*parts))).collect()).unwrap()
}

fn requirements() -> Vec<Requirement> {
    let attribute = |name: &str, comparison, value| Requirement::Attribute { name: name.to_owned(), comparison, value };
    vec![
        Requirement::Has("tool:gzip".parse().unwrap()),
        attribute("os", Comparison::Is, Value::Text("linux".to_owned())),
        attribute("gpu", Comparison::IsNot, Value::Text("none".to_owned())),
        attribute("cpus", Comparison::AtLeast, Value::Number(8)),
        attribute("load", Comparison::AtMost, Value::Number(70)),
    ]
}

fn offer() -> Offer {
    Offer {
        ticket: TICKET,
        epoch: EPOCH,
        to: node(),
        requirements: requirements(),
        resources: "cpus=0.5".parse().unwrap(),
        effects: Effects::Pure,
        input_bytes: 1 << 20,
        commitment: commitment(&SALT, &cbor::encode(&spec())),
        bid_window_ms: DurationMillis(400),
        waiting: 70,
    }
}

fn bid() -> Bid {
    Bid {
        offer: MessageId::from_bytes([0x0F; 16]),
        to: node(),
        hold_ms: DurationMillis(5000),
        free_slots: 7,
        slots: 8,
        ahead: 64,
        key: secret().key(),
    }
}

/// What opens the sample of an award.
pub(crate) fn secret() -> SealSecret {
    SealSecret::from_entropy(&[0x5A; 32])
}

fn refusal() -> Refusal {
    let offer = MessageId::from_bytes([0x0F; 16]);
    Refusal {
        offer,
        ticket: TICKET,
        epoch: EPOCH,
        to: node(),
        reason: RefusalReason::Busy,
        retry_after_ms: DurationMillis(1500),
    }
}

/// What is sealed in the sample of an award.
pub(crate) fn payload() -> Payload {
    Payload { salt: Some(SALT), spec: cbor::encode(&spec()) }
}

/// An award of [`payload`] to the holder of [`secret`].
pub(crate) fn award() -> Award {
    let terms = Terms {
        bid: MessageId::from_bytes([0xB0; 16]),
        ticket: TICKET,
        epoch: EPOCH,
        to: node(),
        lease_ms: DurationMillis(30_000),
        beat: 0,
        slots: SlotTerms::Open,
    };
    Award::seal(terms, &payload(), &secret().key(), &[0xE7; 32]).unwrap()
}

/// An award of the same payload under a slot lease.
fn award_under() -> Award {
    let terms = Terms { beat: 300, slots: SlotTerms::Under, ..award().terms };
    Award::seal(terms, &Payload { salt: None, ..payload() }, &secret().key(), &[0xE8; 32]).unwrap()
}

fn accept() -> Accept {
    let accepted = [LEASE, LeaseKey { ticket: TICKET, epoch: Epoch(4) }]
        .map(|key| Accepted { key, award: MessageId::from_bytes([0xA0; 16]) });
    Accept { to: node(), accepted: accepted.to_vec() }
}

fn heartbeat() -> Heartbeat {
    Heartbeat { to: node(), number: 12, leases: vec![LEASE, LeaseKey { ticket: TICKET, epoch: Epoch(4) }] }
}

fn grant() -> Grant {
    let revoked = vec![LeaseKey { ticket: TICKET, epoch: Epoch(2) }];
    Grant { to: node(), number: 12, granted: vec![(LEASE, DurationMillis(30_000))], revoked }
}

fn receipt() -> Receipt {
    Receipt {
        award: MessageId::from_bytes([0xA0; 16]),
        ticket: TICKET,
        epoch: EPOCH,
        to: node(),
        number: 2,
        previous: Hash::of(b"the receipt before"),
        spec: Hash::of(b"spec"),
        outcome: Outcome::Error {
            message: "exit code 2".to_owned(),
            retry_after_ms: Some(DurationMillis::from_secs(90)),
        },
        exit: Exit { code: Some(2), signal: None },
        outputs: Outputs {
            stdout: Some(BlobRef::of(b"out")),
            stderr: None,
            result: Some(BlobRef::of(b"{}")),
            files: Some(BlobRef::of(b"tree")),
        },
        usage: Usage { cpu_ms: Some(DurationMillis(1_500)), memory_peak_bytes: Some(1 << 24), fuel: Some(7) },
        model: Some(model_use()),
        isolation: Isolation::Sandboxed,
        started_at: AT,
        finished_at: UnixMillis(AT.0 + 1234),
    }
}

fn settle() -> Settle {
    let receipt = MessageId::from_bytes([0x5E; 16]);
    Settle { receipt, number: 2, ticket: TICKET, epoch: EPOCH, to: node(), verdict: Verdict::Accepted, at: AT }
}

fn cancel() -> Cancel {
    Cancel { ticket: TICKET, epoch: EPOCH, to: node(), reason: "no longer wanted".to_owned() }
}

fn release() -> Release {
    let reason = "the input could not be had".to_owned();
    Release { ticket: TICKET, epoch: EPOCH, to: node(), cause: ReleaseCause::NoInput, reason }
}

const fn version() -> Version {
    Version { booted_at: AT, change: 9 }
}

fn capability() -> CapabilityRecord {
    CapabilityRecord {
        version: version(),
        name: "box".to_owned(),
        tags: BTreeSet::from(["executor:process".parse().unwrap(), "tool:gzip".parse().unwrap()]),
        attributes: BTreeMap::from([
            ("cpus".to_owned(), Value::Number(8)),
            ("os".to_owned(), Value::Text("linux".to_owned())),
        ]),
        resources: offered(&[(Name::CPUS, 80_000), (Name::GPUS_NVIDIA, 10_000), (Name::MEM, 160_000)]),
        slots: 8,
    }
}

fn reconcile() -> Reconcile {
    let award = AwardId::from_bytes([0xA4; 16]);
    let held = HeldLease { key: LEASE, award, phase: HeldPhase::Reported };
    Reconcile { to: node(), awarded: vec![LEASE], held: vec![held] }
}

fn seek() -> Seek {
    Seek {
        requirements: offer().requirements,
        resources: offer().resources,
        addresses: vec!["/ip4/10.0.0.7/tcp/4001".to_owned()],
        nonce: 7,
        at: AT,
        ttl_ms: DurationMillis::from_secs(60),
    }
}

const fn digest() -> Digest {
    Digest { capability: version(), summary_day: 19_675, summary_version: 41 }
}

/// An export with a chain in one direction.
pub(crate) fn export() -> Export {
    let link = Link { receipt: ByteBuf::from(vec![0x85]), settle: Some(ByteBuf::from(vec![0x86])) };
    let open = Link { receipt: ByteBuf::from(vec![0x87]), settle: None };
    let chain = Chain { executor: signer().node(), origin: node(), links: vec![link, open] };
    Export { mesh: mesh(), at: AT, chains: vec![chain] }
}

/// A histogram with its first, some middle and its last bin.
pub(crate) fn histogram() -> Histogram {
    let mut histogram = Histogram::default();
    for millis in [0, 1, 20, 20, 1500, 60_000, u64::MAX] {
        histogram.add(DurationMillis(millis));
    }
    histogram
}

fn summary() -> Summary {
    let cell = Cell {
        job_type: "gzip".to_owned(),
        executor: "process".to_owned(),
        node: node(),
        succeeded: 7,
        failed: 2,
        timed_out: 1,
        lost: 0,
        durations: histogram(),
    };
    Summary { day: 19_675, version: 41, cells: vec![cell] }
}

fn heads() -> Heads {
    Heads { heads: vec![Head { author: node(), day: 19_675, version: 41 }] }
}
