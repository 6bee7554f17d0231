//! Who a node is: identity, signing, sealing, membership certificates and invites.
//!
//! A node is its Ed25519 public key ([`NodeId`]); a mesh is the public key of its root
//! ([`MeshId`]). A node belongs to a mesh when it can show a [`Membership`], a short chain of
//! certificates that ends at the root, and gets its first one by an [`Invite`].
//!
//! The crate has no clock, no randomness, no threads and no async: time and entropy are
//! arguments. Only [`key_file`] touches the filesystem.

#[macro_use]
mod fixed_bytes;

mod base32;
mod canonical;
mod certificate;
mod id;
mod identity;
mod invite;
pub mod key_file;
mod membership;
#[cfg(feature = "memo")]
pub mod memo;
mod role;
mod sealed;
mod signature;
mod words;

pub use canonical::CborError;
pub use certificate::{CertificateError, Grant};
pub use fixed_bytes::ParseIdError;
pub use id::{MeshId, NodeId, Serial};
pub use identity::{Identity, MeshRoot};
pub use invite::{Invite, InviteError, InviteSecret, InviteTerms};
pub use membership::{IssueError, Membership, MembershipError, VerifiedMembership};
pub use role::{ParseRoleError, Role};
pub use sealed::{SEAL_BYTES, SealError, SealKey, SealSecret, UnsealError};
pub use signature::{Domain, Signature, VerifyError, verify};
pub use words::words;

/// Counts what decoders reserve while they are tried with hostile bytes.
#[cfg(test)]
#[global_allocator]
static HEAP: jobmesh_tests::fuzz::Heap = jobmesh_tests::fuzz::Heap;
