//! The messages by which a job travels: offer, bid, award, accept, heartbeat, grant, settle, cancel, release.
//!
//! Every message names the ticket, the epoch (the origin's fence) and its addressee, and moves a state machine
//! that is keyed by ticket and epoch; so each may arrive twice, late or out of order without harm. Bodies are
//! CBOR arrays: fields are positional, and a message of another length does not parse.

use std::borrow::Cow;

use jobmesh_keys::{SealError, SealKey, SealSecret, UnsealError};
use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::NodeId;
use crate::cbor::{self, DecodeError};
use crate::id::{AwardId, BidId, Epoch, Hash, OfferId, ReceiptId, TicketId};
use crate::isolation::Isolation;
use crate::job::{Effects, SPEC_BYTES_MAX};
use crate::requirement::Requirement;
use crate::resource::Requests;
use crate::time::{DurationMillis, UnixMillis};

/// Most leases in one heartbeat, grant, accept or reconcile.
pub const LEASES_MAX: usize = 512;
/// Longest opened payload of an award: the salt and the longest spec, with their heads.
pub const PAYLOAD_BYTES_MAX: usize = SPEC_BYTES_MAX + 64;
/// Longest reason in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// Asks whether the addressee would run a ticket. Says what it needs, not what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Offer {
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch that the award would have.
    pub epoch: Epoch,
    /// Who is asked.
    pub to: NodeId,
    /// What the node must have.
    pub requirements: Vec<Requirement>,
    /// What the job takes.
    pub resources: Requests,
    /// What running it twice would do.
    pub effects: Effects,
    /// The size of the input in bytes, rounded up to a power of two. Of a tree only its list counts, since nobody has read
    /// it yet.
    pub input_bytes: u64,
    /// A keyed hash of the spec, so that the award can't be for another job and a low-entropy spec can't be guessed. The
    /// key is random, and makes two offers of one ticket different messages.
    pub commitment: Hash,
    /// How long the origin waits for bids.
    pub bid_window_ms: DurationMillis,
    /// How many more jobs of the same class wait: same requirements, resources and effects.
    pub waiting: u32,
}

/// Would run it. Holds room until `hold_ms` after it was sent; the hold ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Bid {
    /// The offer.
    pub offer: OfferId,
    /// The origin.
    pub to: NodeId,
    /// How long the room is held.
    pub hold_ms: DurationMillis,
    /// How many slots are free now, this job not counted.
    pub free_slots: u32,
    /// How many jobs of the class have room now, this one counted: the slots of a slot lease.
    pub slots: u32,
    /// How many more it would take under a slot lease, to start them the moment that a slot is free.
    pub ahead: u32,
    /// A key to seal the payload to. Its secret is as short-lived as the hold, or as the slot lease that the award opens.
    pub key: SealKey,
}

/// Would not run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Refusal {
    /// The offer.
    pub offer: OfferId,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The origin.
    pub to: NodeId,
    /// Why not.
    pub reason: RefusalReason,
    /// When it is worth asking again, from now; 0 if that is not known.
    pub retry_after_ms: DurationMillis,
}

/// Why a node does not bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// It lacks something that is required.
    Incapable,
    /// It has no room now.
    Busy,
    /// It is shutting down.
    Draining,
    /// It does not take work of this kind from this node.
    Policy,
    /// It has taken on for this origin, or owes it, as much as it does for any one node.
    Quota,
    /// It knows this epoch of the ticket, or a later one, under another offer: the origin must go on to the next.
    Known,
    /// It can't keep such work of this node apart at the level that it requires.
    Isolation(Isolation),
    /// It takes at most so many bytes of input.
    Room(u64),
    /// It was awarded this ticket before and could not bring its input here.
    NoInput,
}

impl RefusalReason {
    /// The words for people.
    #[must_use]
    pub fn words(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Room(bytes) => {
                return Cow::Owned(format!("has no room for its input: it takes {} at most", size(bytes)));
            }
            Self::NoInput => "could not have its input; its last attempt there says why",
            Self::Incapable => "lacks something that is required",
            Self::Busy => "has no room now",
            Self::Draining => "is shutting down",
            Self::Policy => "does not take such work",
            Self::Quota => "has taken on as much as it does for one node",
            Self::Known => "knows this attempt from before",
            Self::Isolation(Isolation::Untrusted) => "can't keep it apart well enough (untrusted)",
            Self::Isolation(Isolation::Sandboxed) => "can't keep it apart well enough (sandboxed)",
            Self::Isolation(Isolation::Contained | Isolation::None) => "can't keep it apart well enough (contained)",
        })
    }
}

/// A size to two or more digits, rounded down.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// What an award says in the clear. Its payload is sealed for exactly these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Terms {
    /// The bid that won.
    pub bid: BidId,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The winner.
    pub to: NodeId,
    /// How long the lease lasts from the bid or the heartbeat that is named here, and from every granted heartbeat.
    pub lease_ms: DurationMillis,
    /// The heartbeat of the winner from which the lease counts; 0 is its bid.
    pub beat: u64,
    /// Whether more jobs of the class may follow under this bid.
    pub slots: SlotTerms,
}

impl Terms {
    /// The attempt that is awarded.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { ticket: self.ticket, epoch: self.epoch }
    }
}

/// What an award has to do with a slot lease.
///
/// While one is open, further jobs of its class go to its holder without an offer and a bid. They are sealed to the key
/// of the one bid. So whoever gets hold of the secret reads up to 20 minutes of jobs and not one: the secret is in memory
/// only and gone with the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotTerms {
    /// Nothing: one offer, one bid, one job.
    None,
    /// It opens one, whose name is the id of the bid.
    Open,
    /// It is given under one.
    Under,
}

/// Longest slot lease. Source: `mesh.md` has 20 minutes, after the claims of Condor.
pub const SLOT_LEASE_MAX: DurationMillis = DurationMillis::from_secs(20 * 60);
/// Most slots of a slot lease.
pub const SLOTS_MAX: u32 = 64;
/// Most jobs that are taken on ahead of a free slot.
pub const AHEAD_MAX: u32 = 64;

/// Gives the ticket to one bidder. The epoch was written down before this was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Award {
    /// What anyone may read.
    pub terms: Terms,
    /// The encoded [`Payload`], sealed to the key of the bid: only the winner reads what it is to run (G5).
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

/// What the winner of a ticket is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Payload {
    /// The key of the offer's commitment; none under a slot lease, where there was no offer.
    pub salt: Option<Hash>,
    /// The encoded job spec.
    #[serde(with = "serde_bytes")]
    pub spec: Vec<u8>,
}

/// Why the payload of an award can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It was sealed to another key or for other terms, or was changed.
    #[error("the payload of the award can't be opened")]
    Sealed(#[from] UnsealError),
    /// What was sealed is no payload.
    #[error("the payload of the award does not parse")]
    Decode(#[from] DecodeError),
}

impl Award {
    /// Seals `payload` to the key of a bid. `entropy` must be fresh for every award.
    ///
    /// # Errors
    /// [`SealError`] if the bidder gave a key that is none.
    pub fn seal(terms: Terms, payload: &Payload, key: &SealKey, entropy: &[u8; 32]) -> Result<Self, SealError> {
        let sealed = key.seal(entropy, &cbor::encode(&terms), &cbor::encode(payload))?;
        Ok(Self { terms, sealed })
    }

    /// Opens the payload with the secret of the bid.
    ///
    /// # Errors
    /// [`PayloadError`] if it was not sealed to that secret's key for these terms, or is no payload.
    pub fn open(&self, secret: &SealSecret) -> Result<Payload, PayloadError> {
        // The terms are few and of fixed shape, so that their encoding is the one that was sealed for; were it not, the
        // payload would stay closed.
        let plain = secret.open(&cbor::encode(&self.terms), &self.sealed)?;
        Ok(cbor::decode(&plain, PAYLOAD_BYTES_MAX)?)
    }
}

/// The commitment of an offer to a spec.
#[must_use]
pub fn commitment(salt: &Hash, spec: &[u8]) -> Hash {
    Hash::from_bytes(*blake3::keyed_hash(salt.as_bytes(), spec).as_bytes())
}

/// The winner has written awards down and runs them, or will when a slot is free. Of several jobs under slot leases one
/// message tells, and what has ended by then is told by its receipt alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Accept {
    /// The origin.
    pub to: NodeId,
    /// What it has taken on: at most [`LEASES_MAX`].
    pub accepted: Vec<Accepted>,
}

/// An award that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Accepted {
    /// The attempt.
    pub key: LeaseKey,
    /// The award.
    pub award: AwardId,
}

/// One lease, by ticket and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize_tuple, Deserialize_tuple)]
pub struct LeaseKey {
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
}

/// All leases that the sender holds from the addressee are alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Heartbeat {
    /// The origin.
    pub to: NodeId,
    /// Counts the sender's heartbeats to this origin; the executor counts the lease from when it sent this one.
    pub number: u64,
    /// The leases.
    pub leases: Vec<LeaseKey>,
}

/// Answers a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Grant {
    /// The executor.
    pub to: NodeId,
    /// The heartbeat that is answered.
    pub number: u64,
    /// Leases that last on, and for how long from the heartbeat.
    pub granted: Vec<(LeaseKey, DurationMillis)>,
    /// Leases that are over: stop at once.
    pub revoked: Vec<LeaseKey>,
}

/// What the origin made of a receipt: its countersignature. Ends the executor's duty to keep the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Settle {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Its number in its chain.
    pub number: u64,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The executor.
    pub to: NodeId,
    /// The verdict.
    pub verdict: Verdict,
    /// When.
    pub at: UnixMillis,
}

/// What became of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is the result of the attempt.
    Accepted,
    /// A later epoch had begun, or the job had ended: kept as evidence.
    Superseded,
    /// It does not answer an award to its signer.
    Rejected,
}

impl Verdict {
    /// The word for it in the database, JSON and lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Superseded => "superseded",
            Self::Rejected => "rejected",
        }
    }
}

/// The origin no longer wants the attempt, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Cancel {
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch, and every earlier one.
    pub epoch: Epoch,
    /// The executor.
    pub to: NodeId,
    /// Why, for people.
    pub reason: String,
}

/// The executor gives the attempt back; it does not run and will not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Release {
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The origin.
    pub to: NodeId,
    /// Why.
    pub cause: ReleaseCause,
    /// Why, for people.
    pub reason: String,
}

/// Why an executor gives an attempt back. Decides what the origin makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseCause {
    /// The award came after the hold ended, or does not fit the offer. Nothing ran.
    Unwanted,
    /// The input could not be had. Nothing ran.
    NoInput,
    /// The node shuts down. The work was stopped.
    Draining,
    /// The node restarted and the work was lost with it. It may have run.
    Crashed,
    /// The node does not know this attempt. It may have run.
    Unknown,
    /// The node knows this epoch of the ticket under another award. What was awarded now did not run.
    Known,
    /// There was no room for it after all, or not soon enough. Nothing ran.
    Busy,
}

/// What the sender believes to be open between the two, said after every new connection by both.
///
/// What the addressee has to say against it, it says in the messages that there are: a release of what it does not
/// know, a cancellation of what it does not want, a receipt or a settlement once more. Silence means: go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Reconcile {
    /// The addressee.
    pub to: NodeId,
    /// Attempts that the sender awarded to the addressee and that are open, or whose receipts it lacks.
    pub awarded: Vec<LeaseKey>,
    /// Attempts that the sender has from the addressee and that are not settled.
    pub held: Vec<HeldLease>,
}

/// An attempt as its executor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize_tuple, Deserialize_tuple)]
pub struct HeldLease {
    /// Which.
    pub key: LeaseKey,
    /// The award under which it was taken on.
    pub award: AwardId,
    /// How far it is.
    pub phase: HeldPhase,
}

/// How far an attempt is on its executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldPhase {
    /// It goes on.
    Open,
    /// It has ended; its receipt was sent and not settled.
    Reported,
}

/// Most requirements of an offer or a gossiped search: those of a job, its executor's, that of its isolation, and the
/// network.
pub const NEEDS_MAX: usize = crate::job::REQUIREMENTS_MAX + 3;
/// Most addresses of a gossiped search.
pub const SEEK_ADDRESSES_MAX: usize = 8;
/// Longest such address in bytes.
pub const SEEK_ADDRESS_BYTES_MAX: usize = 256;

/// Gossip, as the last resort: who could run such jobs? Who can connects to the signer and is asked in the usual way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Seek {
    /// What the node must have.
    pub requirements: Vec<Requirement>,
    /// What a job takes.
    pub resources: Requests,
    /// Where the signer can be reached.
    pub addresses: Vec<String>,
    /// Tells searches of one signer apart.
    pub nonce: u64,
    /// When it was said, by the signer's clock.
    pub at: UnixMillis,
    /// How long it is worth something.
    pub ttl_ms: DurationMillis,
}

impl Seek {
    /// Whether it keeps to the limits.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.requirements.len() <= NEEDS_MAX
            && self.addresses.len() <= SEEK_ADDRESSES_MAX
            && self.addresses.iter().all(|address| address.len() <= SEEK_ADDRESS_BYTES_MAX)
    }
}
