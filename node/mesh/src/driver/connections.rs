//! Connections come and go; a peer is there from its first to its last.

use std::sync::Arc;
use std::time::Duration;

use jobmesh_keys::NodeId;
use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Driver;
use crate::context::Route;
use crate::event::Event;
use crate::hello::VerifiedHello;
use crate::peer_id::node_of;
use crate::peerbook::{is_loopback, usable};
use crate::session::outbound::Outbound;

/// How long a peer may take to be admitted; someone who joins needs as long for its answer.
pub(super) const ADMISSION_DEADLINE: Duration = Duration::from_secs(10);

/// How long a peer may show no sign of life: a ping every 5 s that may take 5 s. The simulator's network says the same.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// A look at the peers that comes so much too late comes after this node stood still itself.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// A connected peer.
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// In order of age; says of each whether it is on loopback.
    pub(super) connections: Vec<(ConnectionId, bool)>,
    /// Our name for this spell; see [`Outbound`].
    pub(super) life: u64,
    /// The hello that we accepted.
    pub(super) hello: Option<VerifiedHello>,
    /// Whether the peer accepted ours.
    pub(super) is_welcomed: bool,
    pub(super) is_admitted: bool,
    pub(super) refused_by_us: bool,
    pub(super) refused_by_them: bool,
    /// When the peer last showed that it lives; `None` of one that answers no pings.
    pub(super) alive: Option<Instant>,
    /// When the connections are closed, unless the peer is admitted.
    pub(super) deadline: Option<Instant>,
    /// Lets the reader of the peer's frames begin.
    pub(super) go: Option<oneshot::Sender<()>>,
    /// Ends that reader.
    pub(super) reader: Option<CancellationToken>,
    /// The queue of the writer.
    pub(super) route: Route,
    /// Asks the writer for a new stream.
    pub(super) restart: Arc<Notify>,
    writer: CancellationToken,
}

impl Peer {
    /// Ends the tasks of the peer.
    pub(super) fn cancel(&self) {
        self.writer.cancel();
        if let Some(reader) = &self.reader {
            reader.cancel();
        }
    }

    /// Says whether the peer is met on this machine's loopback.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.connections.iter().any(|(_, on_loopback)| *on_loopback)
    }
}

impl Driver<'_> {
    pub(super) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let Some(node) = node_of(&peer) else {
            self.context.counters.add("peer_without_node_id");
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        let on_loopback = is_loopback(endpoint.get_remote_address());
        if let ConnectedPoint::Dialer { address, .. } = endpoint
            && let Some(address) = usable(address, &peer, on_loopback)
        {
            self.book.learn(peer, &[address], Instant::now());
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.push((connection, on_loopback));
            return;
        }
        let entry = self.greet(peer, node, (connection, on_loopback));
        self.peers.insert(peer, entry);
    }

    /// Starts the writer of a new peer, which begins with our hello.
    fn greet(&mut self, peer: PeerId, node: NodeId, connection: (ConnectionId, bool)) -> Peer {
        let (route, frames) = Route::new();
        let (restart, writer) = (Arc::new(Notify::new()), CancellationToken::new());
        let life = random();
        let outbound = Outbound {
            context: Arc::clone(&self.context),
            peer,
            life,
            frames,
            reports: self.report.clone(),
            restart: Arc::clone(&restart),
            cancel: writer.clone(),
        };
        self.tasks.spawn(outbound.run());
        Peer {
            node,
            connections: vec![connection],
            life,
            hello: None,
            is_welcomed: false,
            is_admitted: false,
            refused_by_us: false,
            refused_by_them: false,
            alive: Some(Instant::now()),
            deadline: Some(Instant::now() + ADMISSION_DEADLINE),
            go: None,
            reader: None,
            route,
            restart,
            writer,
        }
    }

    pub(super) fn on_disconnected(&mut self, peer: PeerId, connection: ConnectionId, left: u32) {
        if left > 0 {
            if let Some(known) = self.peers.get_mut(&peer) {
                known.connections.retain(|(id, _)| *id != connection);
            }
            return;
        }
        self.forget(peer);
    }

    /// Parts from peers that have shown no sign of life for too long.
    ///
    /// The hard case is a frozen peer over TCP: ping keeps its first failure to itself and waits twice as long for the
    /// second, and a connection that is closed in good order waits until the peer has read what was sent. The owner is
    /// told at once; what is left of the connections ends when it can. Another is that this node itself stood still: what
    /// the peers said meanwhile is only read after this, so they are given the time that was lost.
    pub(super) fn part_from_silent(&mut self, now: Instant) {
        let lost = now.saturating_duration_since(self.looked);
        self.looked = now;
        if lost > STOOD_STILL {
            for alive in self.peers.values_mut().filter_map(|known| known.alive.as_mut()) {
                *alive = (*alive + lost).min(now);
            }
        }
        let is_silent = |known: &Peer| known.alive.is_some_and(|at| now.saturating_duration_since(at) > SILENT_MAX);
        let silent: Vec<PeerId> =
            self.peers.iter().filter(|(_, known)| is_silent(known)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.context.counters.add("peer_silent");
            self.forget(peer);
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Ends all that is known of a connected peer.
    fn forget(&mut self, peer: PeerId) {
        self.gates.forget(&peer);
        self.swarm.behaviour_mut().kad.inner.remove_peer(&peer);
        let Some(gone) = self.peers.remove(&peer) else { return };
        gone.cancel();
        if !gone.refused_by_us && !gone.refused_by_them {
            self.book.failed(&peer, Instant::now(), jitter());
        }
        if gone.is_admitted {
            self.context.routes.remove(&gone.node);
            self.tell(Event::Closed { node: gone.node });
        }
    }
}

/// Returns a random number. Where the system has none, sessions and pauses do with the clock's nanoseconds.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::from(since.subsec_nanos()) ^ since.as_secs().rotate_left(32)
    })
}

/// Returns a random number from 0 to 255.
pub(super) fn jitter() -> u8 {
    let [first, ..] = random().to_be_bytes();
    first
}
