//! Sessions: one stream in each direction between two nodes, each opened by the side that writes on it.
//!
//! Opener: hello → frames. Acceptor: verdict, then nothing; the opener reads only to notice the end. A session
//! belongs to the peer and not to a connection: when its stream breaks while the peer is still connected, the opener
//! opens another and says hello again.

pub(crate) mod inbound;
pub(crate) mod outbound;

use jobmesh_protocol::session::FRAME_BYTES_MAX as PROTOCOL_FRAME_BYTES_MAX;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::event::Side;
use crate::hello::VerifiedHello;

/// Name of the session protocol. It bears no mesh tag, so that a node of another mesh can be told why it is refused.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/session/1");

/// Largest frame: 256 KiB.
pub(crate) const FRAME_BYTES_MAX: usize = PROTOCOL_FRAME_BYTES_MAX;

/// What the session tasks tell the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// The peer's hello holds. Its frames are read once `go` is used; `cancel` ends the reading.
    Verified { peer: PeerId, hello: VerifiedHello, go: oneshot::Sender<()>, cancel: CancellationToken },
    /// Our hello was accepted, on the stream of the connected spell `life`.
    Welcomed { peer: PeerId, life: u64 },
    /// One side refused the other.
    Refused { peer: PeerId, by: Side, reason: String },
}
