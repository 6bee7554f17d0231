//! Sending and receiving signed messages: sealing, posting, and the match that sends each to its file.

use jobmesh_keys::NodeId;
use jobmesh_protocol::MessageId;
use jobmesh_protocol::cbor::{self, DecodeError};
use jobmesh_protocol::envelope::{Envelope, EnvelopeError, Kind, message_id};
use jobmesh_protocol::session::Frame;
use jobmesh_store::StoreError;
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::engine::Engine;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::step::Step;

/// A verified message from a member, with what came in its frame.
pub(crate) struct Incoming<'a> {
    /// Whose session it came on.
    pub(crate) via: NodeId,
    pub(crate) envelope: Envelope,
    pub(crate) bytes: &'a [u8],
    pub(crate) attachments: &'a [ByteBuf],
}

/// Why a message changes nothing.
pub(crate) enum Refused {
    /// It does not parse.
    Decode,
    /// The database failed.
    Store(StoreError),
}

impl From<DecodeError> for Refused {
    fn from(_: DecodeError) -> Self {
        Self::Decode
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Signs a message.
    pub(crate) fn seal<T: Serialize>(&self, kind: Kind, body: &T) -> Vec<u8> {
        Envelope::seal(&self.config.identity, &self.mesh, kind, body)
    }

    /// Signs a message and returns its id too, by which the answer will name it.
    pub(crate) fn seal_with_id<T: Serialize>(&self, kind: Kind, body: &T) -> (Vec<u8>, MessageId) {
        (self.seal(kind, body), message_id(kind, &cbor::encode(body)))
    }

    /// Sends a message that may be lost.
    pub(crate) fn note<T: Serialize>(&mut self, to: NodeId, kind: Kind, body: &T) {
        if self.is_connected(to) {
            let envelope = self.seal(kind, body);
            self.send_note(to, envelope);
        }
    }

    /// Sends a sealed message that may be lost.
    pub(crate) fn send_note(&mut self, to: NodeId, envelope: Vec<u8>) {
        if self.is_connected(to) {
            let frame = Frame::Note { envelope: ByteBuf::from(envelope) }.encode();
            self.outputs.push(Output::Send { to, frame });
        }
    }

    /// Verifies received bytes. What is refused is counted and changes nothing.
    pub(crate) fn open(&mut self, bytes: &[u8]) -> Option<Envelope> {
        match self.verified(bytes) {
            Ok(envelope) => Some(envelope),
            Err(error) => {
                self.count(match error {
                    EnvelopeError::Decode(_) => "refused_malformed_envelope",
                    EnvelopeError::Version { .. } => "refused_unknown_version",
                    EnvelopeError::Kind { .. } => "refused_unknown_kind",
                    EnvelopeError::Signature { .. } => "refused_bad_signature",
                });
                None
            }
        }
    }

    fn verified(&self, bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        if self.config.plays(Mutant::SkipSignatureCheck) {
            return Envelope::reopen(bytes);
        }
        if self.config.plays(Mutant::VerifyWithoutDomain) {
            return Envelope::open_as_any_kind(bytes, &self.mesh);
        }
        Envelope::open(bytes, &self.mesh)
    }

    /// Judges a message. Malformed ones are counted.
    pub(crate) fn on_message(&mut self, step: &mut Step<'_>, message: &Incoming<'_>) -> Result<(), StoreError> {
        let kind = message.envelope.kind();
        // Receipts, records and summaries speak for their author whoever brings them. Anything else is between
        // the two ends of a session.
        let speaks_for_author = matches!(kind, Kind::Receipt | Kind::Capability | Kind::Summary);
        if message.envelope.signer() != message.via && !speaks_for_author {
            self.count("refused_foreign_signer");
            return Ok(());
        }
        match self.dispatch(step, message) {
            Ok(()) => Ok(()),
            Err(Refused::Decode) => {
                self.count("refused_malformed_message");
                Ok(())
            }
            Err(Refused::Store(error)) => Err(error),
        }
    }

    fn dispatch(&mut self, step: &mut Step<'_>, message: &Incoming<'_>) -> Result<(), Refused> {
        let (envelope, from) = (&message.envelope, message.envelope.signer());
        match envelope.kind() {
            Kind::Offer => self.on_offer(step, from, envelope.id(), envelope.parse()?)?,
            Kind::Bid => self.on_bid(step, from, envelope.id(), envelope.parse()?)?,
            Kind::Refusal => self.on_refusal(step, from, &envelope.parse()?)?,
            Kind::Award => self.on_award(step, from, envelope.id(), &envelope.parse()?)?,
            Kind::Accept => self.on_accept(step, from, &envelope.parse()?)?,
            Kind::Heartbeat => self.on_heartbeat(step, from, &envelope.parse()?),
            Kind::Grant => self.on_grant(step, from, &envelope.parse()?)?,
            Kind::Receipt => self.on_receipt(step, message, &envelope.parse()?)?,
            Kind::Settle => self.on_settle(step, message, &envelope.parse()?)?,
            Kind::Cancel => self.on_cancel(step, from, &envelope.parse()?)?,
            Kind::Release => self.on_release(step, from, &envelope.parse()?)?,
            Kind::Reconcile => self.on_reconcile(step, from, &envelope.parse()?)?,
            Kind::Capability => self.on_record(step, (message.via, from), envelope.parse()?, message.bytes)?,
            Kind::RecordRequest => self.on_record_request(step, from, envelope.parse()?)?,
            Kind::Relayed => self.on_relayed(step, message.via, &envelope.parse()?)?,
            Kind::Summary => self.on_summary(step, from, envelope.parse()?, message.bytes)?,
            Kind::SummaryHeads => self.on_summary_heads(step, from, &envelope.parse()?),
            Kind::SummaryRequest => self.on_summary_request(step, from, &envelope.parse()?)?,
            Kind::Digest | Kind::Seek => self.count("refused_digest_in_session"),
        }
        Ok(())
    }
}
