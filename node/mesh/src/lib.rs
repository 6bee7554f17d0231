//! How a node talks: libp2p under a handle of plain types.
//!
//! The mesh carries opaque frames between admitted members, gossips opaque digests, keeps an address book in
//! Kademlia, discovers peers on the local network, moves blobs by hash, follows the output of runs, and
//! brings the secrets of jobs. It knows nothing of jobs: what must
//! arrive is numbered, kept and sent again by the caller; a frame that was in flight when a stream broke is gone.
//!
//! The hard case is who may talk at all. Every connection is encrypted and proves a node id, but only a peer that
//! showed a membership of this mesh, and accepted ours, is *admitted*. Until then its substreams for Kademlia,
//! gossip and identify are not even negotiated (module `gate`); it can say hello, ask to join, and be pinged.
//!
//! Tasks: one supervisor (ended by [`Mesh::stop`]) that runs the driver and builds a new one when it panics; the
//! driver, the only owner of the swarm; the swarm's connection tasks, which end with it; one acceptor per stream
//! protocol and one outbound session per connected peer, all on the driver's `JoinSet` and gone with it; one task per
//! inbound stream on its acceptor's.

mod config;
mod event;
mod handle;

mod admission;
mod context;
mod counters;
mod peer_id;
mod peerbook;

mod blob;
mod budget;
mod frame;
mod hello;
mod join;
mod log;
mod question;
mod secret;
mod session;
mod streams;

#[cfg(test)]
mod fuzz;

mod behaviour;
mod driver;
mod gate;
mod supervisor;
mod transport;

pub use behaviour::BehaviourError;
pub use blob::{FetchError, Requested, SMALL_BYTES_MAX, part_path};
pub use config::{Config, NAME_BYTES_MAX};
pub use event::{Event, Side};
pub use handle::{Mesh, SendError};
pub use hello::is_name;
pub use join::{JoinError, join};
pub use log::{LogError, LogOutput, LogPiece, LogReader, LogRequest};
pub use secret::SecretsError;
pub use supervisor::StartError;
pub use transport::TransportError;
