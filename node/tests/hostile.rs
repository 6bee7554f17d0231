//! A member that turned hostile against a live daemon: whatever it sends is refused and counted, and changes nothing.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is the failure of the test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event and skips all others")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jobmesh_keys::{Identity, Invite, Membership, MeshId, NodeId};
use jobmesh_mesh::{Config, Event, FetchError, LogError, LogOutput, LogRequest, Mesh, Requested};
use jobmesh_protocol::capability::{RecordRequest, Version};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::outcome::{Exit, Outcome, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::{
    Award, Bid, LeaseKey, Offer, Payload, Release, ReleaseCause, SlotTerms, Terms, commitment,
};
use jobmesh_protocol::tree::{self, Entry, Tree};
use jobmesh_protocol::{
    AwardId, BlobRef, DurationMillis, Epoch, Hash, Incarnation, JobId, JobSpec, UnixMillis, cbor, join,
};
use jobmesh_tests::{Bench, Node};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);

fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// The hostile member.
struct Attacker {
    identity: Identity,
    mesh: MeshId,
    victim: NodeId,
    network: Mesh,
    events: mpsc::Receiver<Event>,
    sent: u64,
    /// Jobs that it gave to the victim.
    given: u8,
}

/// A job that runs this, and may travel.
fn program(argv: &[&str]) -> JobSpec {
    JobSpec::new("x", Task::Process(ProcessTask::new(argv.iter().map(|word| (*word).to_owned()).collect())))
}

/// A job that prints this blob.
fn print(blob: BlobRef) -> JobSpec {
    JobSpec::new("x", Task::Process(ProcessTask { stdin: Some(blob), ..ProcessTask::new(vec!["cat".to_owned()]) }))
}

impl Attacker {
    /// Joins the victim's mesh by an invite, like anyone.
    async fn join(victim: &Node, seed: u8) -> Self {
        let text = victim.json(&["invite"])["invite"].as_str().unwrap().to_owned();
        let terms = Invite::decode(&text).unwrap().terms().clone();
        let identity = Identity::from_seed([seed; 32]);
        let request = join::Request { secret: *terms.secret.as_bytes(), name: "mallory".to_owned() }.encode();
        let answer = jobmesh_mesh::join(&identity, terms.inviter, &terms.addresses, request, DEADLINE).await.unwrap();
        let join::Answer::Welcome(membership) = join::Answer::decode(&answer).unwrap() else { panic!("not let in") };
        let config = Config {
            identity: Identity::from_seed([seed; 32]),
            mesh: terms.mesh,
            membership: Membership::decode(&membership).unwrap(),
            name: "mallory".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            mdns: false,
            known: vec![(terms.inviter, terms.addresses.clone())],
            outboards: std::env::temp_dir().join("jobmesh-no-outboards"),
            now,
        };
        let (network, events) = Mesh::start(config).await.unwrap();
        let mut attacker =
            Self { identity, mesh: terms.mesh, victim: terms.inviter, network, events, sent: 0, given: 0 };
        attacker.until(|event| matches!(event, Event::Admitted { .. }).then_some(())).await;
        // Without a word of what was received nothing that is numbered would come.
        attacker.send(Frame::Meet { received: None, former: None, wants_answer: false }.encode());
        // What the victim says of itself at the start; the next such message answers a question.
        attacker.message(Kind::Capability).await;
        attacker
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the network goes on");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("what was waited for comes in time")
    }

    /// The next message of a kind from the victim.
    async fn message(&mut self, kind: Kind) -> Envelope {
        let mesh = self.mesh;
        self.until(|event| {
            let Event::Frame { bytes, .. } = event else { return None };
            let frame = Frame::decode(&bytes).unwrap();
            let mut envelopes = frame.envelopes().filter_map(|envelope| Envelope::open(envelope, &mesh).ok());
            envelopes.find(|envelope| envelope.kind() == kind)
        })
        .await
    }

    fn send(&self, frame: Vec<u8>) {
        self.network.send(self.victim, frame).unwrap();
    }

    fn seal<T: serde::Serialize>(&self, kind: Kind, body: &T) -> ByteBuf {
        ByteBuf::from(Envelope::seal(&self.identity, &self.mesh, kind, body))
    }

    fn note(&self, envelope: ByteBuf) {
        self.send(Frame::Note { envelope }.encode());
    }

    fn data(&mut self, envelope: ByteBuf) {
        self.sent += 1;
        let (incarnation, number) = (Incarnation::from_bytes([7; 16]), self.sent);
        self.send(Frame::data((incarnation, number, 1), envelope.into_vec(), Vec::new()).encode());
    }

    /// Asks a harmless question and waits for its answer: everything sent before has been judged by then.
    async fn settle(&mut self) {
        let node = self.victim;
        self.note(self.seal(Kind::RecordRequest, &RecordRequest { node, known: Version::default() }));
        self.message(Kind::Capability).await;
    }

    /// Wins over the victim to run a job, and says what the award was.
    async fn award(&mut self) -> ByteBuf {
        let award = self.give(program(&["true"])).await;
        self.message(Kind::Receipt).await;
        award
    }

    /// Wins over the victim to run this, and returns when it is awarded.
    async fn give(&mut self, spec: JobSpec) -> ByteBuf {
        let (spec, salt) = (cbor::encode(&spec), Hash::of(b"salt"));
        self.given += 1;
        let (ticket, epoch, to) = (JobId::new(now(), &[self.given; 10]).into(), Epoch(1), self.victim);
        let offer = Offer {
            ticket,
            epoch,
            to,
            requirements: Vec::new(),
            resources: jobmesh_protocol::resource::Requests::default(),
            effects: Effects::Idempotent,
            input_bytes: 0,
            commitment: commitment(&salt, &spec),
            bid_window_ms: DurationMillis(500),
            waiting: 0,
        };
        self.note(self.seal(Kind::Offer, &offer));
        let envelope = self.message(Kind::Bid).await;
        let bid: Bid = envelope.parse().unwrap();
        let (lease_ms, slots) = (DurationMillis(2000), SlotTerms::None);
        let terms = Terms { bid: envelope.id(), ticket, epoch, to, lease_ms, beat: 0, slots };
        let award = Award::seal(terms, &Payload { salt: Some(salt), spec }, &bid.key, &[5; 32]).unwrap();
        let award = self.seal(Kind::Award, &award);
        self.data(award.clone());
        award
    }

    /// Answers each question for a blob with what `file` says of it, until the victim says something of a kind. Returns
    /// that and how many questions there were.
    async fn serve_until(&mut self, kind: Kind, file: impl Fn(Hash) -> Option<PathBuf>) -> (Envelope, u32) {
        let mesh = self.mesh;
        let mut questions = 0;
        let said = self.until(|event| match event {
            Event::BlobRequested { hash, reply, .. } => {
                questions += 1;
                // Whoever asked may have gone.
                let _ = reply.send(file(hash));
                None
            }
            Event::Frame { bytes, .. } => {
                let frame = Frame::decode(&bytes).unwrap();
                let mut envelopes = frame.envelopes().filter_map(|envelope| Envelope::open(envelope, &mesh).ok());
                envelopes.find(|envelope| envelope.kind() == kind)
            }
            _ => None,
        });
        (said.await, questions)
    }
}

fn counter(node: &Node, name: &str) -> u64 {
    node.json(&["status"])["counters"][name].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn garbage_in_a_session_is_counted_and_changes_nothing() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let mut attacker = Attacker::join(&node, 7).await;
    let before = node.json(&["ls", "-a"]);
    attacker.send(vec![0xff; 1000]);
    attacker.send(vec![0x81; 10_000]);
    let good = Frame::Note { envelope: ByteBuf::from(vec![0; 64]) }.encode();
    attacker.send(good[..good.len() / 2].to_vec());
    attacker.note(ByteBuf::from(vec![0x81; 10_000]));
    let mut forged = attacker.seal(Kind::Digest, &0_u8).into_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    attacker.note(ByteBuf::from(forged));
    attacker.settle().await;
    assert_eq!(counter(&node, "refused_malformed_frame"), 3);
    assert_eq!(counter(&node, "refused_malformed_envelope"), 1);
    assert_eq!(counter(&node, "refused_bad_signature"), 1);
    assert_eq!(node.json(&["ls", "-a"]), before);
}

#[tokio::test]
async fn a_replayed_award_runs_nothing() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let mut attacker = Attacker::join(&node, 7).await;
    let award = attacker.award().await;
    attacker.data(award);
    attacker.settle().await;
    assert_eq!(counter(&node, "replayed_award"), 1);
    assert_eq!(node.json(&["ls", "-a"])["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_receipt_by_someone_who_got_no_award_is_refused() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let mut attacker = Attacker::join(&node, 7).await;
    let number = node.submit(&["--", "false"]);
    let shown = node.ended(&number);
    let job: JobId = shown["job"]["id"].as_str().unwrap().parse().unwrap();
    let receipt = Receipt {
        award: AwardId::from_bytes([1; 16]),
        ticket: job.into(),
        epoch: Epoch(1),
        to: attacker.victim,
        number: 1,
        previous: Hash::from_bytes([0; 32]),
        spec: Hash::of(b""),
        outcome: Outcome::Ok,
        exit: Exit { code: Some(0), signal: None },
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: jobmesh_protocol::Isolation::Contained,
        started_at: now(),
        finished_at: now(),
    };
    attacker.data(attacker.seal(Kind::Receipt, &receipt));
    attacker.settle().await;
    assert_eq!(counter(&node, "refused_receipt_not_by_awardee"), 1);
    assert_eq!(node.json(&["show", &number])["job"], shown["job"]);
}

/// To know the name of something is no right to it: of bytes, of a file of a tree, or of what a run writes.
#[tokio::test]
async fn what_is_none_of_a_members_business_is_not_told() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let secret = b"a secret".to_vec();
    let file = Entry { path: "file".to_owned(), node: tree::Node::File { blob: BlobRef::of(&secret), mode: 0o600 } };
    let list = Tree::new(vec![file]).unwrap().encode();
    // The second reads like a tree that the first is a file of, and is the input of a job.
    for bytes in [&secret, &list] {
        let path = node.file("input", bytes);
        assert_eq!(node.run(&["run", "--stdin", &path, "--", "cat"]).stdout, *bytes);
    }
    let attacker = Attacker::join(&node, 7).await;
    let (secret, tree) = (BlobRef::of(&secret), BlobRef::of(&list));
    let into = bench.folder().join("stolen");
    for (blob, within) in [(secret, None), (tree, None), (secret, Some(tree.hash))] {
        let asked = attacker.network.fetch(attacker.victim, Requested { blob, within }, &into, |_| ());
        let fetched = tokio::time::timeout(DEADLINE, Box::pin(asked)).await.unwrap();
        assert!(matches!(fetched, Err(FetchError::NotProvided { .. })), "{fetched:?}");
    }
    let job: JobId = node.json(&["show", "last"])["job"]["id"].as_str().unwrap().parse().unwrap();
    let key = LeaseKey { ticket: job.into(), epoch: Epoch(1) };
    let request = LogRequest { key, output: LogOutput::Stdout, offset: 0, follow: false };
    let asked = tokio::time::timeout(DEADLINE, attacker.network.read_log(attacker.victim, request)).await.unwrap();
    assert!(matches!(asked, Err(LogError::Unknown { .. })), "{asked:?}");
    assert!(!into.exists());
}

/// Hashes stand in receipts and logs. A member that has one of them gives the victim a job that prints what it stands
/// for: the victim has the bytes, the member has not, and gets nothing.
#[tokio::test]
async fn who_knows_the_name_of_a_blob_gets_nothing_of_it_by_a_job() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let secret = b"a secret of the victim\n".repeat(10_000);
    let path = node.file("input", &secret);
    assert_eq!(node.run(&["run", "--stdin", &path, "--", "cat"]).stdout, secret);
    let other = bench.folder().join("other");
    std::fs::write(&other, b"not such a secret word\n".repeat(10_000)).unwrap();
    let blob = BlobRef::of(&secret);
    for file in [None, Some(other.as_path())] {
        let mut attacker = Attacker::join(&node, if file.is_none() { 7 } else { 8 }).await;
        attacker.give(print(blob)).await;
        let (said, questions) = attacker.serve_until(Kind::Release, |_| file.map(Path::to_owned)).await;
        let release: Release = said.parse().unwrap();
        assert_eq!(release.cause, ReleaseCause::NoInput, "{release:?}");
        assert!(questions >= 2, "it was asked to show it, and for the bytes: {questions}");
    }
    assert!(node.log().contains("has not shown that it has it"), "{}", node.log());
    // One that has the bytes shows that, sends nothing, and its job runs.
    let mut honest = Attacker::join(&node, 9).await;
    honest.give(print(blob)).await;
    let (said, questions) = honest.serve_until(Kind::Receipt, |_| Some(PathBuf::from(&path))).await;
    let receipt: Receipt = said.parse().unwrap();
    assert_eq!((receipt.outcome, receipt.outputs.stdout), (Outcome::Ok, Some(blob)));
    assert_eq!(questions, 1);
    assert_eq!((counter(&node, "blob_bytes_received"), counter(&node, "blob_shown")), (0, 1));
    assert_eq!(node.run(&["run", "--", "echo", "next"]).text(), "next\n");
}

/// A list of files that would fill any disk or lead anywhere is a few bytes: none of it is believed, and nothing of it is
/// written but what was verified.
#[tokio::test]
async fn a_tree_that_claims_too_much_or_leads_elsewhere_is_not_laid_out() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.node_with("a", 2, "[blobs]\nquota = \"1GiB\"\n[isolation]\nmembers = \"contained\"\n");
    node.up();
    let mut attacker = Attacker::join(&node, 7).await;
    let served = bench.folder().join("served");
    std::fs::create_dir(&served).unwrap();
    let serve = |bytes: &[u8]| {
        let blob = BlobRef::of(bytes);
        std::fs::write(served.join(blob.hash.to_string()), bytes).unwrap();
        blob
    };
    let five = serve(b"five\n");
    let file = |path: &str, blob: BlobRef| (path.to_owned(), tree::Node::File { blob, mode: 0o644 });
    let link = |path: &str, target: &str| (path.to_owned(), tree::Node::Link { target: target.to_owned() });
    // As no honest node encodes it: the list is checked by whoever reads it.
    let list = |entries: &[(String, tree::Node)]| serve(&cbor::encode(&entries));
    let deep = vec!["d"; 400].join("/");
    let many: Vec<_> = (0..tree::ENTRIES_MAX + 1).map(|number| file(&format!("{number:06}"), five)).collect();
    let huge = |size| BlobRef { size, ..five };
    let trees = [
        (list(&[file("x", huge(1 << 50))]), "this node keeps 1073741824 at most"),
        (list(&[file("x", huge(10 << 20))]), "has 5 bytes at the peer, but should have"),
        (list(&[file("x", five), file("y", huge(6))]), "has 5 bytes at the peer, but should have 6"),
        (BlobRef { size: u64::MAX, ..five }, "the limit is"),
        (list(&many), "the limit is 100000"),
        (list(&[file(&deep, five)]), "d/d/d"),
        (list(&[file("../x", five)]), "../x"),
        (list(&[file("/x", five)]), "/x"),
        (list(&[link("l", "../../../node.key")]), "\"l\" leads out of the tree"),
        (list(&[link("l", "."), file("l/x", five)]), "l"),
        (list(&[file("x", five), file("x", five)]), "x"),
        (serve(b"no tree at all"), "these bytes are no tree of files"),
    ];
    for (inputs, why) in trees {
        attacker.give(JobSpec { inputs: Some(inputs), ..program(&["ls"]) }).await;
        let file = |hash: Hash| Some(served.join(hash.to_string()));
        let (said, _) = attacker.serve_until(Kind::Release, file).await;
        let release: Release = said.parse().unwrap();
        assert_eq!(release.cause, ReleaseCause::NoInput, "{why}: {release:?}");
        assert!(release.reason.contains(why), "{why}: {}", release.reason);
        assert_eq!(node.run(&["run", "--", "echo", "next"]).text(), "next\n");
    }
    assert!(!node.home().join("x").exists() && !node.log().contains("panicked"), "{}", node.log());
    let kept = std::fs::read_dir(node.home().join("blobs")).unwrap().flatten();
    let bytes: u64 = kept.map(|entry| entry.metadata().map_or(0, |found| found.len())).sum();
    assert!(bytes < 32 << 20, "{bytes} bytes are kept");
}

/// What an honest member sent counted for everybody as long as a job of that member waited for something else.
#[tokio::test]
async fn what_one_member_brought_is_not_had_by_another() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let secret = b"a secret of an honest member\n".repeat(10_000);
    let path = bench.folder().join("secret");
    std::fs::write(&path, &secret).unwrap();
    let (blob, later) = (BlobRef::of(&secret), BlobRef::of(b"what comes later"));
    let mut honest = Attacker::join(&node, 7).await;
    honest.give(JobSpec { inputs: Some(later), ..print(blob) }).await;
    // The answer for the list of files is held back; its question is open as long as this is.
    let mut held = None;
    let mut sent = false;
    while !sent || held.is_none() {
        let (hash, reply) = honest
            .until(|event| match event {
                Event::BlobRequested { hash, reply, .. } => Some((hash, reply)),
                _ => None,
            })
            .await;
        if hash == blob.hash {
            reply.send(Some(path.clone())).unwrap();
            sent = true;
        } else {
            held = Some(reply);
        }
    }
    let here = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        // Each look holds up this thread, by which the honest member sends.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while counter(&node, "blob_bytes_received") < blob.size {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, here).await.expect("the secret arrives");
    let mut attacker = Attacker::join(&node, 8).await;
    attacker.give(print(blob)).await;
    let (said, questions) = attacker.serve_until(Kind::Release, |_| None).await;
    let release: Release = said.parse().unwrap();
    assert!(release.cause == ReleaseCause::NoInput && questions >= 2, "{release:?} after {questions}");
}
