//! What all tasks of one mesh share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use jobmesh_keys::NodeId;
use jobmesh_protocol::{Hash, UnixMillis};
use libp2p::identity::Keypair;
use libp2p_stream::Control;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::admission::Credentials;
use crate::blob::Outboards;
use crate::counters::{Counters, Line};
use crate::event::Event;
use crate::handle::SendError;

/// Frames that may wait for one peer: a burst of a thousand small messages, or what a stalled peer holds up.
pub(crate) const QUEUE_FRAMES_MAX: usize = 1024;

/// Bytes that may wait for one peer: 16 MiB, so that large frames reach their limit long before 1024 of them do.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What all tasks of one mesh share. No lock in here is held across an await.
pub(crate) struct Context {
    /// The transport's key.
    pub(crate) key: Keypair,
    /// Where events go.
    pub(crate) events: mpsc::Sender<Event>,
    /// What went wrong, counted.
    pub(crate) counters: Counters,
    /// When it was last said that a file is damaged that a peer asked for.
    pub(crate) damage_told: Line,
    /// The hashes of the files that were sent.
    pub(crate) outboards: Outboards,
    /// The wall clock.
    pub(crate) now: fn() -> UnixMillis,
    /// Our own membership and what others' are judged by.
    pub(crate) credentials: RwLock<Credentials>,
    /// Queues to the admitted peers.
    pub(crate) routes: Routes,
    /// Where we listen.
    pub(crate) listening: RwLock<Vec<String>>,
    /// Opens streams on the current swarm; none before the first one stands.
    pub(crate) control: RwLock<Option<Control>>,
    /// The digest to be gossiped. Only the latest counts, hence no queue.
    pub(crate) digest: watch::Sender<Option<Vec<u8>>>,
    /// The keys to be provided. Only the latest set counts.
    pub(crate) keys: watch::Sender<BTreeSet<Hash>>,
}

impl Context {
    /// Returns a copy of the credentials.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the addresses that this node listens on, without `/p2p`.
    pub(crate) fn listening(&self) -> Vec<String> {
        self.listening.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what opens streams, once there is a swarm.
    pub(crate) fn control(&self) -> Option<Control> {
        self.control.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A frame that waits to be written, with the room that it takes.
#[derive(Debug)]
pub(crate) struct QueuedFrame {
    /// What is sent.
    pub(crate) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// The queue to one peer.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    frames: mpsc::Sender<QueuedFrame>,
    room: Arc<Semaphore>,
}

impl Route {
    /// Makes a queue and its reading end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<QueuedFrame>) {
        let (frames, reader) = mpsc::channel(QUEUE_FRAMES_MAX);
        (Self { frames, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }, reader)
    }

    /// Queues `bytes`, or says why not.
    fn push(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        let length = u32::try_from(bytes.len()).map_err(|_| SendError::TooLong)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(length).map_err(|_| SendError::Full)?;
        self.frames.try_send(QueuedFrame { bytes, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }
}

/// The queues to all admitted peers.
#[derive(Debug, Default)]
pub(crate) struct Routes(RwLock<BTreeMap<NodeId, Route>>);

impl Routes {
    /// Makes `node` reachable.
    pub(crate) fn add(&self, node: NodeId, route: Route) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node, route);
    }

    /// Makes `node` unreachable.
    pub(crate) fn remove(&self, node: &NodeId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// Says whether `node` is admitted.
    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Makes everyone unreachable and returns who was not.
    pub(crate) fn clear(&self) -> Vec<NodeId> {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *routes).into_keys().collect()
    }

    /// Queues a frame for `node`.
    pub(crate) fn send(&self, node: &NodeId, bytes: Vec<u8>) -> Result<(), SendError> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(node).ok_or(SendError::NotConnected)?.push(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_queue_is_full_by_count_or_by_bytes() {
        let routes = Routes::default();
        let node = NodeId::from_bytes([1; 32]);
        assert_eq!(routes.send(&node, vec![0]), Err(SendError::NotConnected));
        let (route, mut reader) = Route::new();
        routes.add(node, route);
        for _ in 0..QUEUE_FRAMES_MAX {
            routes.send(&node, vec![0]).unwrap();
        }
        assert_eq!(routes.send(&node, vec![0]), Err(SendError::Full));
        while reader.try_recv().is_ok() {}
        let big = 256 * 1024;
        for _ in 0..QUEUE_BYTES_MAX / big {
            routes.send(&node, vec![0; big]).unwrap();
        }
        assert_eq!(routes.send(&node, vec![0]), Err(SendError::Full));
        drop(reader.try_recv().unwrap());
        routes.send(&node, vec![0]).unwrap();
        drop(reader);
        assert_eq!(routes.send(&node, vec![0]), Err(SendError::NotConnected));
    }
}
