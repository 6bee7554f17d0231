//! A member that lies: it has a good certificate and sessions with everyone, and none of what it sends is true.
//!
//! It is given more than a real one could have: every award is shown to it as it is sent, and with it the hash of the
//! spec that is sealed inside. From these it forges the
//! receipt that the awardee would sign, with everything right but the signature, and sends it to the origin. It
//! also replays what it has heard, cuts frames short and sends noise.

use jobmesh_keys::{Identity, MeshId, NodeId, Signature};
use jobmesh_protocol::chain::BEGINNING;
use jobmesh_protocol::envelope::{Envelope, Kind, message_id};
use jobmesh_protocol::id::{AwardId, Epoch, Hash, Incarnation, TicketId};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::session::{FRAME_BYTES_MAX, Frame};
use jobmesh_protocol::ticket::{Award, SlotTerms, Terms};
use jobmesh_protocol::{BlobRef, DurationMillis, Outcome, UnixMillis, cbor};
use serde_bytes::ByteBuf;

use crate::network::Seat;
use crate::random::Stream;

/// Frames kept for replay.
const KEPT_MAX: usize = 64;
/// What a forged result claims to have written.
const FORGED: &[u8] = b"forged";

/// The layout of an envelope on the wire: version, kind, body, signer, signature.
pub(crate) type Wire = (u8, u8, ByteBuf, NodeId, Signature);

/// An award that was sent to somebody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overheard {
    id: AwardId,
    pub(crate) terms: Terms,
}

impl Overheard {
    /// The awards by its sender that a frame carries.
    pub(crate) fn read(from: NodeId, bytes: &[u8]) -> Vec<Self> {
        let Ok(frame @ Frame::Data { .. }) = Frame::decode(bytes) else { return Vec::new() };
        frame.envelopes().filter_map(|envelope| Self::of_envelope(from, envelope)).collect()
    }

    /// The award in an envelope, if it is one by its sender.
    pub(crate) fn of_envelope(from: NodeId, envelope: &[u8]) -> Option<Self> {
        let (_, kind, body, signer, _): Wire = cbor::decode(envelope, FRAME_BYTES_MAX).ok()?;
        let is_award = kind == Kind::Award.number() && signer == from;
        let award: Award = is_award.then(|| cbor::decode(&body, FRAME_BYTES_MAX).ok()).flatten()?;
        Some(Self { id: message_id(Kind::Award, &body), terms: award.terms })
    }

    /// What nobody ever awarded.
    pub(crate) fn of_nothing(ticket: TicketId, to: NodeId) -> Self {
        let nothing = AwardId::from_bytes([0; 16]);
        let lease_ms = DurationMillis::from_secs(30);
        Self {
            id: nothing,
            terms: Terms { bid: nothing, ticket, epoch: Epoch(1), to, lease_ms, beat: 0, slots: SlotTerms::None },
        }
    }

    /// A receipt that says that all went well and nothing was written.
    pub(crate) fn receipt(&self, origin: NodeId, spec: Hash) -> Receipt {
        Receipt {
            award: self.id,
            ticket: self.terms.ticket,
            epoch: self.terms.epoch,
            to: origin,
            number: 1,
            previous: BEGINNING,
            spec,
            outcome: Outcome::Ok,
            exit: Exit { code: Some(0), signal: None },
            outputs: Outputs::default(),
            usage: Usage::default(),
            model: None,
            isolation: jobmesh_protocol::Isolation::Contained,
            started_at: UnixMillis(0),
            finished_at: UnixMillis(1),
        }
    }
}

/// The lying member.
#[derive(Debug)]
pub(crate) struct Forger {
    identity: Identity,
    mesh: MeshId,
    stream: Stream,
    kept: Vec<(Seat, Vec<u8>)>,
}

impl Forger {
    pub(crate) fn new(seed: u64, mesh: MeshId) -> Self {
        let mut stream = Stream::new(seed, "forger");
        Self { identity: Identity::from_seed(stream.array()), mesh, stream, kept: Vec::new() }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.identity.node()
    }

    /// Overhears a frame, and may keep it.
    pub(crate) fn overhear(&mut self, to: Seat, bytes: &[u8]) {
        if self.stream.chance(100) {
            if self.kept.len() == KEPT_MAX {
                let oldest = self.stream.index(KEPT_MAX);
                self.kept.swap_remove(oldest);
            }
            self.kept.push((to, bytes.to_vec()));
        }
    }

    /// The receipt that the awardee never wrote.
    pub(crate) fn forge(&mut self, origin: (Seat, NodeId), award: &Overheard, spec: Hash) -> Option<(Seat, Vec<u8>)> {
        let outputs = Outputs { stdout: Some(BlobRef::of(FORGED)), stderr: None, result: None, files: None };
        let receipt = Receipt { outputs, ..award.receipt(origin.1, spec) };
        let sealed = Envelope::seal(&self.identity, &self.mesh, Kind::Receipt, &receipt);
        let (version, kind, body, _, _): Wire = cbor::decode(&sealed, FRAME_BYTES_MAX).ok()?;
        let forged: Wire = (version, kind, body, award.terms.to, Signature::from_bytes(self.stream.array()));
        Some((origin.0, self.frame(cbor::encode(&forged))))
    }

    /// Wraps an envelope as the first message of a database that nobody has heard of, so that it is looked at.
    fn frame(&mut self, envelope: Vec<u8>) -> Vec<u8> {
        let incarnation = Incarnation::from_bytes(self.stream.array());
        Frame::data((incarnation, 1, 1), envelope, vec![ByteBuf::from(FORGED)]).encode()
    }

    /// Something that is not worth an answer: noise, a cut frame, a frame of long ago, one that is far too long.
    pub(crate) fn garbage(&mut self, nodes: usize) -> (Seat, Vec<u8>) {
        let to = Seat(self.stream.index(nodes));
        let replay = self.kept.get(self.stream.index(self.kept.len())).cloned();
        match (self.stream.below(8), replay) {
            (0..3, Some(kept)) => kept,
            (3..5, Some((to, mut bytes))) => {
                let length = self.stream.index(bytes.len());
                bytes.truncate(length);
                (to, bytes)
            }
            (5, Some((to, mut bytes))) => {
                let place = self.stream.index(bytes.len());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << self.stream.below(8);
                }
                (to, bytes)
            }
            (6, _) if self.stream.chance(20) => (to, vec![0; FRAME_BYTES_MAX + 1]),
            _ => {
                let length = self.stream.index(200);
                (to, self.stream.bytes(length))
            }
        }
    }

    /// How long until the next garbage.
    pub(crate) fn pause(&mut self) -> u64 {
        self.stream.between(200, 8_000)
    }

    /// How long a forged receipt waits: at times it comes before the award has even arrived.
    pub(crate) fn haste(&mut self) -> u64 {
        self.stream.between(1, 3_000)
    }
}
