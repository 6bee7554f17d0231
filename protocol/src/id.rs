//! Names of things: jobs, tickets, messages, blobs. One newtype per idea, so that none can stand for another.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bytes::fixed_bytes;
use crate::time::UnixMillis;

fixed_bytes!(
    /// A BLAKE3 hash of some bytes.
    Hash,
    32
);

impl Hash {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

fixed_bytes!(
    /// The id of a signed message: the BLAKE3 hash of its kind and body, cut to 128 bits.
    ///
    /// 128 bits keep a collision out of reach of the network and halve the bytes that every answer carries.
    MessageId,
    16
);

/// The id of an offer message.
pub type OfferId = MessageId;
/// The id of a bid message.
pub type BidId = MessageId;
/// The id of an award message.
pub type AwardId = MessageId;
/// The id of a receipt message.
pub type ReceiptId = MessageId;

fixed_bytes!(
    /// One life of a database file. A peer that sees a new incarnation starts a new session.
    Incarnation,
    16
);

fixed_bytes!(
    /// One life of a daemon process.
    BootId,
    16
);

/// Declares a UUID newtype with the usual text form.
macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads raw bytes of exactly the right length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_bytes)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(&self.0)
                } else {
                    serializer.serialize_bytes(self.0.as_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error as _;
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                    Self::from_slice(&bytes).ok_or_else(|| D::Error::invalid_length(bytes.len(), &"16 bytes"))
                }
            }
        }
    };
}

uuid_id!(
    /// A job, everywhere and for ever: a UUID version 7, so ids sort by the time of submission.
    JobId
);

impl JobId {
    /// Makes an id from the time of submission and ten random bytes.
    #[must_use]
    pub fn new(at: UnixMillis, entropy: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(at.0, entropy).into_uuid())
    }
}

uuid_id!(
    /// A job as its origin offers it to peers. Carries the bits of the origin's [`JobId`].
    TicketId
);

impl From<JobId> for TicketId {
    fn from(job: JobId) -> Self {
        Self(job.0)
    }
}

impl From<TicketId> for JobId {
    fn from(ticket: TicketId) -> Self {
        Self(ticket.0)
    }
}

/// The fence of a job: grows by one with every attempt, never reused. Zero before the first attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch of the next attempt.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// One execution on this node: a job and the epoch of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// The job in this node's own queue.
    pub job: JobId,
    /// The attempt.
    pub epoch: Epoch,
}

impl RunId {
    /// Reads what [`Self`] is shown as, and nothing else that means the same.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (job, epoch) = text.split_once('.')?;
        let run = Self { job: job.parse().ok()?, epoch: Epoch(epoch.parse().ok()?) };
        (run.to_string() == text).then_some(run)
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.job, self.epoch)
    }
}

/// Bytes by content: their BLAKE3 hash and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// The hash of the whole content.
    pub hash: Hash,
    /// The length in bytes.
    pub size: u64,
}

impl BlobRef {
    /// Names the content of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: Hash::of(bytes), size: bytes.len() as u64 }
    }
}
