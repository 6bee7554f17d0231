//! What nodes say to each other, and the pure rules over it.
//!
//! Everything here is data and arithmetic: ids, the job spec, states and their legal transitions,
//! requirements and how a capability record meets them, the ticket messages with their signed
//! envelope, receipts and learning summaries. No I/O, no clock, no randomness.
//!
//! Bytes from a peer pass through two gates only: [`session::Frame::decode`] for the frame, then
//! [`envelope::Envelope::open`], which verifies the signature over the *received* bytes before anything
//! inside is parsed.

pub mod bytes;
pub mod cbor;
pub mod chain;
pub mod id;
pub mod time;

pub mod isolation;
pub mod job;
pub mod number;
pub mod outcome;
pub mod place;
pub mod requirement;
pub mod resource;
pub mod retry;
pub mod schedule;
pub mod state;
pub mod submission;
pub mod task;
pub mod tree;

pub mod capability;
pub mod envelope;
pub mod join;
pub mod receipt;
pub mod secret;
pub mod session;
pub mod summary;
pub mod ticket;

pub use capability::CapabilityRecord;
pub use envelope::Envelope;
pub use id::{
    AwardId, BidId, BlobRef, Epoch, Hash, Incarnation, JobId, MessageId, OfferId, ReceiptId, RunId, TicketId,
};
pub use isolation::Isolation;
pub use job::JobSpec;
pub use jobmesh_keys::{MeshId, NodeId};
pub use number::JobNumber;
pub use outcome::Outcome;
pub use requirement::{Requirement, Tag};
pub use state::{AttemptState, JobState};
pub use submission::Submission;
pub use task::Task;
pub use time::{DurationMillis, MonoMillis, Now, UnixMillis};
pub use tree::Tree;
