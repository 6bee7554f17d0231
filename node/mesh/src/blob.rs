//! Blobs: files by hash, streamed from a member, verified group by group, resumed where they broke off.
//!
//! Request {hash, offset, within} → answer {size or not found}, then **segments**: frames that each carry a few groups
//! of 64 KiB with the hashes that lead from them up to the root of the blob's own BLAKE3 tree (module `tree`). So every
//! group is verified when it comes, against nothing but the hash that was asked for, and only then written. Between
//! segments the sender may say that it has to hash its file first, or that its copy is damaged. A request with a
//! challenge is about the same file by the same right, and moves none of it (module `possession`). A stream may carry any
//! number of requests, which are answered one after the other; so come the many small files of a tree (module `small`).
//!
//! What arrives of a larger blob goes into a `.part` file beside its destination. **The hard case** is what a power cut leaves of that:
//! a length that counts and bytes that never came to the disk. So what is resumed is hashed as it is found there, and
//! only a file with the hash of the whole, that is on disk, gets its name; a `.part` that turns out wrong is deleted, so
//! a bad start is not resumed for ever.

mod incoming;
mod outboard;
mod possession;
mod receive;
mod serve;
mod small;
mod tree;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jobmesh_keys::NodeId;
use jobmesh_protocol::{BlobRef, Hash};
use libp2p::StreamProtocol;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

pub(crate) use outboard::Outboards;
pub(crate) use possession::{verify, verify_small};
pub(crate) use receive::fetch;
pub use receive::part_path;
pub(crate) use serve::serve;
pub use small::SMALL_BYTES_MAX;
pub(crate) use small::fetch_small;

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/blob/3");

/// Largest request or answer: two hashes, a challenge and a number.
const HEADER_BYTES_MAX: usize = 256;

/// How long a peer may be silent in the middle of a transfer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long it may take until a peer has answered on a new stream: its own search for the file may take [`SILENCE_MAX`].
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// In place of a segment's length: the sender is about to hash its file.
const WAIT: u32 = 0;

/// In place of a segment's length: the sender's file does not have that hash, or not any more.
const DAMAGED: u32 = u32::MAX;

/// A blob that a member is asked for, or asked to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Which.
    pub blob: BlobRef,
    /// The tree that it is a file of, if the right to have it comes from that.
    pub within: Option<Hash>,
}

impl From<BlobRef> for Requested {
    fn from(blob: BlobRef) -> Self {
        Self { blob, within: None }
    }
}

/// Asks for a blob.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    hash: Hash,
    /// Where to begin: the start of a group.
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Hash>,
    /// In place of the bytes, their hash under a key that is made of this is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenge: Option<Challenge>,
}

/// What nobody could know before it was asked.
type Challenge = ByteArray<32>;

/// Announces the bytes that follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Size of the whole blob; none if it is not to be had.
    size: Option<u64>,
}

/// Says why a blob did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer is not admitted.
    #[error("node {} is not connected", .node.short())]
    NotConnected {
        /// The peer.
        node: NodeId,
    },
    /// The peer has no such blob, or does not give it to this node.
    #[error("node {} does not provide blob {}", .node.short(), .hash.short())]
    NotProvided {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
    },
    /// The peer did not show that it has the blob, which is here already.
    #[error("node {} did not show that it has blob {}", .node.short(), .hash.short())]
    NotShown {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
    },
    /// The peer found out that its own copy is damaged.
    #[error("the copy of blob {} at node {} is damaged", .hash.short(), .node.short())]
    Damaged {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
    },
    /// The peer's blob has another size than it should; nothing was received.
    #[error("blob {} has {found} bytes at the peer, but should have {expected}", .hash.short())]
    WrongSize {
        /// The blob.
        hash: Hash,
        /// The size asked for.
        expected: u64,
        /// The size announced.
        found: u64,
    },
    /// Bytes received are not those of the blob; they were dropped, and those before them are kept.
    #[error("node {} sent bytes at offset {offset} that are not those of blob {}", .node.short(), .hash.short())]
    WrongBytes {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
        /// Where the first group begins that is wrong.
        offset: u64,
    },
    /// What was found here of an earlier attempt is not the start of the blob; it was deleted.
    #[error("what was here of blob {} was damaged and is deleted; fetch it again", .hash.short())]
    WrongStart {
        /// The blob.
        hash: Hash,
    },
    /// The transfer broke off; what arrived is kept, and the next attempt resumes it.
    #[error("transfer of blob {} from node {} broke off; fetch it again to resume", .hash.short(), .node.short())]
    Interrupted {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
        /// What broke.
        source: io::Error,
    },
    /// The file can't be written.
    #[error("failed to write blob {} to {}", .hash.short(), .path.display())]
    File {
        /// The blob.
        hash: Hash,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::cbor;
    use jobmesh_tests::fuzz::Target;

    use super::*;

    #[test]
    fn fuzz_questions_and_answers() {
        let question =
            |within, challenge| cbor::encode(&Request { hash: Hash::of(b"blob"), offset: 300, within, challenge });
        Target::cbor("blob-request")
            .sample(question(None, None))
            .sample(question(Some(Hash::of(b"tree")), Some(ByteArray::new([7; 32]))))
            .run_stable(|bytes| cbor::decode::<Request>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
        let answers = Target::cbor("blob-answer").sample(cbor::encode(&Answer { size: Some(1 << 40) }));
        answers
            .sample(cbor::encode(&Answer { size: None }))
            .run_stable(|bytes| cbor::decode::<Answer>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
    }
}
