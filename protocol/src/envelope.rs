//! The signed wrapping of everything that one node says to another.
//!
//! The signature covers a domain, the kind, the mesh and the hash of the body's bytes *as they are sent*. A
//! receiver verifies the received bytes first and parses second, and whoever stores or forwards a message keeps
//! those bytes. Nothing is ever encoded again to be checked, so it does not matter that CBOR has many encodings
//! of one value.

use jobmesh_keys::{Domain, Identity, MeshId, NodeId, Signature, verify};
use serde::{Serialize, de::DeserializeOwned};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::cbor::{self, DecodeError};
use crate::id::MessageId;

/// The version of the layout and of all bodies together: a node understands its own only.
const VERSION: u8 = 3;

/// Largest encoded envelope: an award with the largest spec, and room for its frame.
pub const ENVELOPE_BYTES_MAX: usize = 80 * 1024;

/// Declares the message kinds with their numbers on the wire.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal,)+) => {
        /// What a message is. The number is on the wire and under the signature.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            /// Reads the number back.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.number() == number)
            }
        }
    };
}

kinds! {
    /// The origin asks who would run a ticket.
    Offer = 1,
    /// A peer would, and holds room for a moment.
    Bid = 2,
    /// A peer would not, and says why.
    Refusal = 3,
    /// The origin gives the ticket to one bidder.
    Award = 4,
    /// The winner has written it down and starts.
    Accept = 5,
    /// The executor's leases with one origin are alive.
    Heartbeat = 6,
    /// The origin's answer: so much longer, or stop.
    Grant = 7,
    /// How an awarded attempt ended.
    Receipt = 8,
    /// What the origin made of a receipt.
    Settle = 9,
    /// The origin no longer wants it.
    Cancel = 10,
    /// The executor gives it back.
    Release = 11,
    /// What each side believes to be open between the two.
    Reconcile = 12,
    /// Gossip, as the last resort: who could run such jobs?
    Seek = 13,
    /// A node's capability record.
    Capability = 20,
    /// A question for a node's record.
    RecordRequest = 21,
    /// Gossip: a record or summary changed.
    Digest = 22,
    /// A third node's record or summary, in its author's envelope.
    Relayed = 23,
    /// An author's learning summary of one day.
    Summary = 30,
    /// Which summaries a node has.
    SummaryHeads = 31,
    /// A question for summaries.
    SummaryRequest = 32,
}

/// The layout on the wire.
#[derive(Serialize_tuple, Deserialize_tuple)]
struct Wire {
    version: u8,
    kind: u8,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signer: NodeId,
    signature: Signature,
}

/// A message whose signature was found good. There is no other way to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    kind: Kind,
    signer: NodeId,
    id: MessageId,
    body: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not an envelope.
    #[error("the envelope does not decode")]
    Decode(#[from] DecodeError),
    /// A version that this build does not know.
    #[error("the envelope has version {found}, this build knows {VERSION}; update both nodes to the same release")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A kind that this build does not know.
    #[error("the envelope has the unknown kind {found}")]
    Kind {
        /// The number found.
        found: u8,
    },
    /// The signature does not fit the bytes, the mesh or the signer.
    #[error("the signature of a {kind:?} by {signer} is not good for this mesh")]
    Signature {
        /// The kind that was claimed.
        kind: Kind,
        /// The signer that was claimed.
        signer: NodeId,
    },
}

impl Envelope {
    /// Signs `body` and returns the bytes to send.
    #[must_use]
    pub fn seal<T: Serialize>(identity: &Identity, mesh: &MeshId, kind: Kind, body: &T) -> Vec<u8> {
        let body = cbor::encode(body);
        let signature = identity.sign(Domain::Envelope, &signed_bytes(kind, mesh, &body));
        cbor::encode(&Wire { version: VERSION, kind: kind.number(), body, signer: identity.node(), signature })
    }

    /// Verifies received bytes.
    ///
    /// # Errors
    /// [`EnvelopeError`] if they are too long, malformed, of an unknown kind, or badly signed.
    pub fn open(bytes: &[u8], mesh: &MeshId) -> Result<Self, EnvelopeError> {
        Self::read(bytes, |wire, kind| is_signed(wire, kind, mesh))
    }

    /// Reads bytes that were verified before they were kept.
    ///
    /// # Errors
    /// [`EnvelopeError`] if they are malformed.
    pub fn reopen(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Self::read(bytes, |_, _| true)
    }

    /// Takes a signature that was made for any kind of message. Exists so that the simulator can show that this is caught.
    ///
    /// # Errors
    /// [`EnvelopeError`] if the bytes are malformed, or badly signed whatever they are.
    #[doc(hidden)]
    pub fn open_as_any_kind(bytes: &[u8], mesh: &MeshId) -> Result<Self, EnvelopeError> {
        Self::read(bytes, |wire, _| Kind::ALL.iter().any(|kind| is_signed(wire, *kind, mesh)))
    }

    /// Reads what `is_good`, which is given the kind that is claimed.
    fn read(bytes: &[u8], is_good: impl FnOnce(&Wire, Kind) -> bool) -> Result<Self, EnvelopeError> {
        let wire: Wire = cbor::decode(bytes, ENVELOPE_BYTES_MAX)?;
        if wire.version != VERSION {
            return Err(EnvelopeError::Version { found: wire.version });
        }
        let kind = Kind::from_number(wire.kind).ok_or(EnvelopeError::Kind { found: wire.kind })?;
        if !is_good(&wire, kind) {
            return Err(EnvelopeError::Signature { kind, signer: wire.signer });
        }
        Ok(Self { kind, signer: wire.signer, id: message_id(kind, &wire.body), body: wire.body })
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose signature it bears.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signer
    }

    /// Its id, by which answers name it.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// Parses the body.
    ///
    /// # Errors
    /// [`DecodeError`] if the signer sent something of another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        cbor::decode(&self.body, ENVELOPE_BYTES_MAX)
    }
}

/// Whether the signer signed this as a message of this kind in this mesh.
fn is_signed(wire: &Wire, kind: Kind, mesh: &MeshId) -> bool {
    verify(&wire.signer, Domain::Envelope, &signed_bytes(kind, mesh, &wire.body), &wire.signature).is_ok()
}

fn signed_bytes(kind: Kind, mesh: &MeshId, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 32 + 32);
    bytes.push(kind.number());
    bytes.extend_from_slice(mesh.as_bytes());
    bytes.extend_from_slice(blake3::hash(body).as_bytes());
    bytes
}

/// The id of a message: what its answers name. The same body under another kind has another id.
#[must_use]
pub fn message_id(kind: Kind, body: &[u8]) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind.number()]);
    hasher.update(body);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    MessageId::from_bytes(id)
}
