//! What the mesh tells its owner.

use std::path::PathBuf;

use jobmesh_keys::{NodeId, Role};
use jobmesh_protocol::secret::{Answer, Request};
use jobmesh_protocol::{Hash, UnixMillis};
use tokio::sync::{mpsc, oneshot};

use crate::log::{LogPiece, LogRequest};

/// What the mesh tells its owner, in the order in which it happened to each peer.
///
/// The channel holds 1024 events. When it is full, the sessions' readers wait, so a fast peer is slowed down;
/// gossip is dropped and counted; the swarm pauses once 1024 further events have queued up behind it.
#[derive(Debug)]
pub enum Event {
    /// A peer proved its membership and accepted ours: frames can be sent.
    ///
    /// Comes again without [`Event::Closed`] when the session's stream had to be replaced: frames that were on
    /// their way may be lost and what is not acknowledged should be sent again.
    Admitted {
        /// The member.
        node: NodeId,
        /// What it calls itself.
        name: String,
        /// What it may do in the mesh.
        role: Role,
        /// When its membership runs out; the connection is closed then.
        not_after: UnixMillis,
        /// Where it can be reached, at most eight multiaddrs; worth remembering.
        addresses: Vec<String>,
    },
    /// A peer was turned away, or turned us away. The connection is closed and not tried again for a minute.
    Refused {
        /// The peer.
        node: NodeId,
        /// Who refused.
        by: Side,
        /// Why, for people. From [`Side::Them`] it is the peer's text, at most 256 characters.
        reason: String,
    },
    /// The last connection to an admitted member is gone.
    Closed {
        /// The member.
        node: NodeId,
    },
    /// An admitted member sent a frame.
    Frame {
        /// The member.
        from: NodeId,
        /// What it sent, at most 256 KiB.
        bytes: Vec<u8>,
    },
    /// A digest arrived. It may be lost, late, or come twice.
    Gossip {
        /// The admitted member that passed it on.
        via: NodeId,
        /// The node whose signature it bears. That node need not be a member: the reader has to know it.
        author: NodeId,
        /// The digest.
        bytes: Vec<u8>,
    },
    /// Some answer to [`crate::Mesh::find`]. More may follow; no providers means that the search ended and
    /// found none, which is "unknown" rather than "nobody".
    Found {
        /// The key that was searched.
        key: Hash,
        /// Who provides it; those not connected are being dialled.
        providers: Vec<NodeId>,
    },
    /// A stranger asks to join. Dropping `reply` ends the stream without an answer; so do ten seconds.
    Join {
        /// The stranger, which proved this id.
        from: NodeId,
        /// Its request, at most 4 KiB.
        request: Vec<u8>,
        /// Takes the answer, at most 8 KiB.
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// An admitted member asks for a blob. Answer with a file, or `None` if there is none or it may not have it.
    BlobRequested {
        /// The member.
        from: NodeId,
        /// What it asks for.
        hash: Hash,
        /// The tree that it is a file of, if its right to it comes from that.
        within: Option<Hash>,
        /// Takes the path of the file.
        reply: oneshot::Sender<Option<PathBuf>>,
    },
    /// An admitted member asks for the output of a run. Answer with the end of a channel that brings it, or `None` if
    /// there is no such run or it is none of its business. The channel's room is what may wait for the member.
    LogRequested {
        /// The member.
        from: NodeId,
        /// What it asks for.
        request: LogRequest,
        /// Takes the channel.
        reply: oneshot::Sender<Option<mpsc::Receiver<LogPiece>>>,
    },
    /// An admitted member asks for the secrets of a job that it was given. Dropping `reply` ends the stream without an
    /// answer.
    SecretsRequested {
        /// The member.
        from: NodeId,
        /// What it asks for.
        request: Request,
        /// Takes the answer.
        reply: oneshot::Sender<Answer>,
    },
    /// The addresses that this node listens on changed; this is all of them.
    Addresses(Vec<String>),
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This node.
    Us,
    /// The peer.
    Them,
}
