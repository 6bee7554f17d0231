//! Whom we connect to, and when again.

use jobmesh_keys::NodeId;
use libp2p::PeerId;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::time::Instant;

use super::Driver;
use super::connections::jitter;
use crate::peer_id::peer_of;
use crate::peerbook;

/// Peers dialled in one tick of 250 ms, so that a node that wakes up among a thousand does not dial them at once.
const REDIALS_PER_TICK: usize = 16;

impl Driver<'_> {
    /// The owner wants a connection: neither an earlier refusal nor a pause counts.
    pub(super) fn dial_on_command(&mut self, node: NodeId, addresses: &[String]) {
        let Some(peer) = peer_of(&node).filter(|peer| peer != self.swarm.local_peer_id()) else {
            self.context.counters.add("dial_of_no_peer");
            return;
        };
        self.book.learn(peer, &peerbook::parse(addresses, &peer, true), Instant::now());
        self.dial(peer);
    }

    /// Connects to a peer that someone mentioned, unless it is to be left alone for now.
    pub(super) fn dial_if_allowed(&mut self, peer: PeerId, now: Instant) {
        if peer != *self.swarm.local_peer_id() && self.book.may_dial(&peer, now) {
            self.dial(peer);
        }
    }

    /// Dials `peer` where the book says, or asks Kademlia first.
    ///
    /// The hard case is a peer that was parted from over a wire that is stuck: its old connection can't be closed as long
    /// as what was sent fills every buffer on the way, and the swarm goes by connections. So what counts is whom we know.
    pub(super) fn dial(&mut self, peer: PeerId) {
        if self.peers.contains_key(&peer) {
            return;
        }
        let addresses = self.book.addresses(&peer);
        if addresses.is_empty() {
            self.locate(peer);
            return;
        }
        let options = DialOpts::peer_id(peer).condition(PeerCondition::NotDialing).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%peer, %error, "peer was not dialled");
        }
    }

    /// Dials the remembered peers whose pause is over.
    pub(super) fn redial(&mut self, now: Instant) {
        let is_away = |peer: &PeerId| !self.peers.contains_key(peer);
        let due: Vec<PeerId> = self.book.due(now).filter(is_away).take(REDIALS_PER_TICK).collect();
        for peer in due {
            // Counted as failed until it is admitted, so that the pauses grow whatever becomes of the attempt.
            self.book.failed(&peer, now, jitter());
            self.dial(peer);
        }
    }

    pub(super) fn on_dial_error(&mut self, peer: PeerId, error: &DialError) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) || self.peers.contains_key(&peer) {
            return;
        }
        self.context.counters.add("dial_failed");
        tracing::debug!(%peer, %error, "peer can't be reached");
        // A peer that does not answer would cost every later query its whole timeout.
        self.swarm.behaviour_mut().kad.inner.remove_peer(&peer);
    }
}
