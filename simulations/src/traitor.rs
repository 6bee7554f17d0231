//! A member with a key of its own that says what is not so: everything that it sends is well signed.
//!
//! It is several members, since whoever can get one certificate can get more. It takes no part in what the honest nodes
//! promise each other; they must keep that beside it. What it is told it hears as any member does: offers, awards and the
//! payload that is sealed to the key of its bid. It is given more than a real one could have: every award that is sent to
//! somebody else is shown to it.

use std::collections::BTreeMap;

use jobmesh_keys::{Identity, MeshId, NodeId, SealKey, SealSecret};
use jobmesh_protocol::capability::{CapabilityRecord, Digest, Relayed, TAGS_MAX, Version};
use jobmesh_protocol::envelope::{Envelope, Kind, message_id};
use jobmesh_protocol::id::{Hash, Incarnation, TicketId};
use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::session::{FRAME_BYTES_MAX, Frame};
use jobmesh_protocol::summary::{Cell, Summary};
use jobmesh_protocol::ticket::{Award, Bid, Cancel, Heartbeat, LEASES_MAX, LeaseKey, Offer, Reconcile};
use jobmesh_protocol::{BidId, BlobRef, DurationMillis, Epoch, JobId, Outcome, Tag, UnixMillis, cbor};
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::fault::Treason;
use crate::forger::{Overheard, Wire};
use crate::plan::{NodePlan, Plan};
use crate::random::Stream;
use crate::workload::{every_tool, machine};

/// As many members as it is: more than anybody's word should need to be outweighed.
const MEMBERS: usize = 5;
/// Receipts of one flood: more than anybody keeps.
const FLOOD: u64 = 300;
/// How often a slanderer claims to have seen a node fail.
const CLAIMED: u32 = 1_000_000;
/// Bids whose secrets it remembers.
const BIDS_MAX: usize = 64;

/// What reaches a node from one of its members.
#[derive(Clone, Debug)]
pub(crate) enum Betrayal {
    /// On a session.
    Frame(Vec<u8>),
    /// By gossip.
    Gossip(Vec<u8>),
}

/// The members, and what they know.
#[derive(Debug)]
pub(crate) struct Traitor {
    seed: u64,
    mesh: MeshId,
    members: Vec<Identity>,
    /// Every honest node.
    others: Vec<NodeId>,
    streams: BTreeMap<Treason, Stream>,
    secrets: BTreeMap<BidId, SealSecret>,
    summaries: u64,
    slots: NodePlan,
}

impl Traitor {
    pub(crate) fn new(plan: &Plan, mesh: MeshId) -> Self {
        let member = |number: usize| Identity::from_seed(Stream::new(plan.seed, &format!("traitor {number}")).array());
        Self {
            seed: plan.seed,
            mesh,
            members: (0..MEMBERS).map(member).collect(),
            others: Vec::new(),
            streams: BTreeMap::new(),
            secrets: BTreeMap::new(),
            summaries: 0,
            slots: NodePlan { seat: 0, slots: 8, is_shared: true, skew_ms: 0, drift_ppm: 0 },
        }
    }

    /// Who its members are. The first is the one that does most.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        self.members.iter().map(Identity::node).collect()
    }

    /// Tells it who the honest nodes are.
    pub(crate) fn meet(&mut self, others: Vec<NodeId>) {
        self.others = others;
    }

    /// What one kind of treason draws from.
    pub(crate) fn stream(&mut self, treason: Treason) -> &mut Stream {
        let seed = self.seed;
        self.streams.entry(treason).or_insert_with(|| Stream::new(seed, &format!("treason {treason:?}")))
    }

    fn first(&self) -> Option<&Identity> {
        self.members.first()
    }

    /// Signs something as its first member.
    fn note<T: Serialize>(&self, kind: Kind, body: &T) -> Vec<u8> {
        let Some(first) = self.first() else { return Vec::new() };
        frame(Envelope::seal(first, &self.mesh, kind, body))
    }

    /// The receipt of another's award, in its own name.
    pub(crate) fn usurp(&self, origin: NodeId, award: &Overheard, spec: Hash) -> Vec<u8> {
        self.note(Kind::Receipt, &award.receipt(origin, spec))
    }

    /// The same, signed by the awardee, but as something else: a question that it once passed on, say.
    pub(crate) fn transplant(&self, awardee: &Identity, origin: NodeId, award: &Overheard, spec: Hash) -> Vec<u8> {
        let asked = Envelope::seal(awardee, &self.mesh, Kind::RecordRequest, &award.receipt(origin, spec));
        let Ok((version, _, body, signer, signature)) = cbor::decode::<Wire>(&asked, FRAME_BYTES_MAX) else {
            return Vec::new();
        };
        let shown: Wire = (version, Kind::Receipt.number(), body, signer, signature);
        frame(cbor::encode(&shown))
    }

    /// Hundreds of receipts for jobs that nobody has.
    pub(crate) fn flood(&mut self, origin: NodeId) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for number in 1..=FLOOD {
            let ticket = TicketId::from_bytes(self.stream(Treason::Flood).array());
            let award = Overheard::of_nothing(ticket, origin);
            let receipt = Receipt { number, ..award.receipt(origin, Hash::of(b"nothing")) };
            frames.push(self.note(Kind::Receipt, &receipt));
        }
        frames
    }

    /// What every member says of every node: one half never fails, the other always does.
    pub(crate) fn slander(&mut self, day: u32) -> Vec<(NodeId, Vec<u8>)> {
        self.summaries += 1;
        let others = self.others.clone();
        let cells: Vec<Cell> = others
            .into_iter()
            .map(|node| {
                let is_praised = self.stream(Treason::Slander).chance(500);
                let (succeeded, failed) = if is_praised { (CLAIMED, 0) } else { (0, CLAIMED) };
                let (job_type, executor) = ("work".to_owned(), "process".to_owned());
                Cell {
                    job_type,
                    executor,
                    node,
                    succeeded,
                    failed,
                    timed_out: 0,
                    lost: 0,
                    durations: Default::default(),
                }
            })
            .collect();
        let summary = Summary { day, version: self.summaries, cells };
        let say =
            |member: &Identity| (member.node(), frame(Envelope::seal(member, &self.mesh, Kind::Summary, &summary)));
        self.members.iter().map(say).collect()
    }

    /// Something that no engine says.
    pub(crate) fn babble(&mut self, to: NodeId, now: UnixMillis) -> Betrayal {
        let (what, seed) = (self.stream(Treason::Babble).below(18), self.stream(Treason::Babble).array::<16>());
        let floods = self.stream(Treason::Babble).chance(100);
        let (ticket, epoch, reason) = (TicketId::from_bytes(seed), Epoch(1), "because".to_owned());
        let Some(me) = self.first().map(Identity::node) else { return Betrayal::Frame(Vec::new()) };
        let cancel = Cancel { ticket, epoch, to: me, reason };
        let digest = Digest { capability: Version::default(), summary_day: 0, summary_version: 0 };
        let receipt = Overheard::of_nothing(ticket, to).receipt(to, Hash::of(b"nothing"));
        Betrayal::Frame(match what {
            0 => self.note(Kind::Cancel, &cancel),
            1 => self.note(Kind::Digest, &digest),
            2 => {
                let Some(first) = self.first() else { return Betrayal::Frame(Vec::new()) };
                return Betrayal::Gossip(Envelope::seal(first, &self.mesh, Kind::Cancel, &cancel));
            }
            3 => self.note(Kind::Heartbeat, &Heartbeat { to: me, number: 1, leases: Vec::new() }),
            4 => self.note(Kind::Offer, &"an offer"),
            5 => self.note(Kind::Offer, &self.offer(ticket, me)),
            6 => self.note(Kind::Reconcile, &Reconcile { to: me, awarded: Vec::new(), held: Vec::new() }),
            7 => self.note(Kind::Capability, &self.record(now, true)),
            8 => self.note(Kind::Relayed, &Relayed(self.note(Kind::Cancel, &cancel))),
            9 => self.note(Kind::Relayed, &Relayed(self.sealed(Kind::Cancel, &cancel))),
            10 => self.note(Kind::Summary, &Summary { day: 1, version: 1, cells: Vec::new() }),
            11 => self.numbered(seed),
            12 => self.note(Kind::Receipt, &Receipt { outcome: Outcome::error("x".repeat(10_000)), ..receipt }),
            13 => self.altered(|version, kind| (version.wrapping_add(90), kind), &cancel),
            14 => self.altered(|version, _| (version, 250), &cancel),
            15 if floods => self.note(Kind::Reconcile, &Reconcile { to, awarded: unheard_of(seed), held: Vec::new() }),
            15 => self.note(Kind::Cancel, &Cancel { to, ..cancel }),
            16 => {
                let record = Envelope::seal(&stranger(seed), &self.mesh, Kind::Capability, &self.record(now, false));
                self.note(Kind::Relayed, &Relayed(record))
            }
            _ => {
                let summary = Summary { day: now.day(), version: 1, cells: Vec::new() };
                let summary = Envelope::seal(&stranger(seed), &self.mesh, Kind::Summary, &summary);
                self.note(Kind::Relayed, &Relayed(summary))
            }
        })
    }

    fn sealed<T: Serialize>(&self, kind: Kind, body: &T) -> Vec<u8> {
        self.first().map(|first| Envelope::seal(first, &self.mesh, kind, body)).unwrap_or_default()
    }

    /// A numbered message whose number can't be.
    fn numbered(&self, seed: [u8; 16]) -> Vec<u8> {
        Frame::data((Incarnation::from_bytes(seed), 3, 0), self.sealed(Kind::Digest, &()), Vec::new()).encode()
    }

    /// A message of another version or of a kind that there is not.
    fn altered<T: Serialize>(&self, change: impl Fn(u8, u8) -> (u8, u8), body: &T) -> Vec<u8> {
        let sealed = self.sealed(Kind::Cancel, body);
        let Ok((version, kind, body, signer, signature)) = cbor::decode::<Wire>(&sealed, FRAME_BYTES_MAX) else {
            return Vec::new();
        };
        let (version, kind) = change(version, kind);
        let wire: Wire = (version, kind, body, signer, signature);
        frame(cbor::encode(&wire))
    }

    fn offer(&self, ticket: TicketId, to: NodeId) -> Offer {
        Offer {
            ticket,
            epoch: Epoch(1),
            to,
            requirements: Vec::new(),
            resources: Default::default(),
            effects: jobmesh_protocol::job::Effects::Pure,
            input_bytes: 0,
            commitment: Hash::of(b"nothing"),
            bid_window_ms: DurationMillis(1),
            waiting: 0,
        }
    }

    /// What its first member says that it can do: everything, and if it babbles, more than a record may hold.
    fn record(&self, now: UnixMillis, is_babble: bool) -> CapabilityRecord {
        let machine = machine(&self.slots);
        let resources = machine.total();
        let mut tags = machine.tags;
        tags.extend(every_tool(self.others.len()));
        let more = (0..=TAGS_MAX).filter_map(|number| Tag::try_from(format!("tool:more-{number}")).ok());
        tags.extend(more.filter(|_| is_babble));
        CapabilityRecord {
            version: Version { booted_at: now, change: 0 },
            name: "traitor".to_owned(),
            tags,
            attributes: machine.attributes,
            resources,
            slots: machine.slots,
        }
    }

    /// Says that it can do everything.
    pub(crate) fn boast(&self, now: UnixMillis) -> Vec<u8> {
        self.note(Kind::Capability, &self.record(now, false))
    }

    /// What it answers to a frame: what any member must, so that it is talked to, and what a defector says.
    pub(crate) fn answer(&mut self, origin: NodeId, bytes: &[u8], is_defector: bool) -> Vec<Vec<u8>> {
        match Frame::decode(bytes) {
            Ok(Frame::Meet { wants_answer: true, .. }) => {
                vec![Frame::Meet { received: None, former: None, wants_answer: false }.encode()]
            }
            Ok(Frame::Data { incarnation, number, messages, .. }) => {
                let number = number.saturating_add((messages.len() as u64).saturating_sub(1));
                let mut frames = vec![Frame::Ack { incarnation, number }.encode()];
                for message in messages.iter().filter(|_| is_defector) {
                    frames.extend(self.answer_message(origin, &message.envelope));
                }
                frames
            }
            Ok(Frame::Note { envelope }) if is_defector => self.answer_message(origin, &envelope),
            Ok(Frame::Note { .. } | Frame::Meet { .. } | Frame::Ack { .. }) | Err(_) => Vec::new(),
        }
    }

    fn answer_message(&mut self, origin: NodeId, bytes: &[u8]) -> Vec<Vec<u8>> {
        let Ok(envelope) = Envelope::open(bytes, &self.mesh) else { return Vec::new() };
        if envelope.kind() == Kind::Offer {
            return vec![self.bid(origin, envelope.id())];
        }
        let award = (envelope.kind() == Kind::Award).then(|| envelope.parse::<Award>().ok()).flatten();
        award.map_or_else(Vec::new, |award| self.betray(origin, bytes, &award))
    }

    fn bid(&mut self, origin: NodeId, id: BidId) -> Vec<u8> {
        let entropy: [u8; 32] = self.stream(Treason::Defect).array();
        let is_broken = self.stream(Treason::Defect).chance(100);
        let secret = SealSecret::from_entropy(&entropy);
        let key = if is_broken { SealKey::from_bytes([0; 32]) } else { secret.key() };
        let hold_ms = DurationMillis::from_secs(2);
        let bid = Bid { offer: id, to: origin, hold_ms, free_slots: 7, slots: 1, ahead: 0, key };
        while self.secrets.len() >= BIDS_MAX {
            self.secrets.pop_first();
        }
        self.secrets.insert(message_id(Kind::Bid, &cbor::encode(&bid)), secret);
        self.note(Kind::Bid, &bid)
    }

    /// What it makes of an award: nothing, a lie, or too much.
    fn betray(&mut self, origin: NodeId, envelope: &[u8], award: &Award) -> Vec<Vec<u8>> {
        let payload = self.secrets.get(&award.terms.bid).and_then(|secret| award.open(secret).ok());
        let (Some(payload), Some(known)) = (payload, Overheard::of_envelope(origin, envelope)) else {
            return Vec::new();
        };
        let receipt = known.receipt(origin, Hash::of(&payload.spec));
        match self.stream(Treason::Defect).below(5) {
            0 => Vec::new(),
            1 => {
                // It has written something, it says, and never hands it over.
                let stdout = Some(BlobRef { size: 100_000, ..BlobRef::of(b"not written") });
                vec![
                    self.note(Kind::Receipt, &Receipt { outputs: Outputs { stdout, ..Outputs::default() }, ..receipt }),
                ]
            }
            2 => {
                // So many accounts of one attempt, each another.
                let equivocate = |number| self.note(Kind::Receipt, &Receipt { number, ..receipt.clone() });
                (1..=6).map(equivocate).collect()
            }
            3 => vec![self.note(Kind::Receipt, &Receipt { award: award.terms.bid, ..receipt })],
            _ => vec![self.note(Kind::Receipt, &receipt)],
        }
    }
}

/// Somebody whose certificate nobody has ever seen.
fn stranger(seed: [u8; 16]) -> Identity {
    Identity::from_seed(Stream::new(u64::from(seed[0]), "stranger").array())
}

/// As many attempts that nobody awarded as a message names.
fn unheard_of(seed: [u8; 16]) -> Vec<LeaseKey> {
    let key = |number| LeaseKey { ticket: TicketId::from_bytes(seed), epoch: Epoch(number) };
    (1..=u32::try_from(LEASES_MAX).unwrap_or(1)).map(key).collect()
}

fn frame(envelope: Vec<u8>) -> Vec<u8> {
    Frame::Note { envelope: ByteBuf::from(envelope) }.encode()
}

/// The jobs that a frame awards, which its awardee may say that it has done.
pub(crate) fn claimed(from: NodeId, bytes: &[u8]) -> Vec<JobId> {
    Overheard::read(from, bytes).into_iter().map(|award| award.terms.ticket.into()).collect()
}
