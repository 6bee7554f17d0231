//! How the node learns where peers are, and whether they are still there: identify, mDNS, ping, own addresses.

use libp2p::multiaddr::Multiaddr;
use libp2p::{PeerId, identify, mdns, ping};
use std::sync::PoisonError;
use tokio::time::Instant;

use super::Driver;
use crate::event::Event;
use crate::peerbook::{ADDRESSES_MAX, usable};

/// Peers taken from one mDNS event; a hostile neighbour can announce any number.
const MDNS_PEERS_MAX: usize = 64;

impl Driver<'_> {
    pub(super) fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(_) => {
                if let Some(known) = self.peers.get_mut(&event.peer) {
                    known.alive = Some(Instant::now());
                }
            }
            Err(ping::Failure::Unsupported) => {
                // Nobody of ours; one that says nothing else either ends with the streams that it does not serve.
                if let Some(known) = self.peers.get_mut(&event.peer) {
                    known.alive = None;
                }
            }
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                // Ping itself only reports; TCP would hold the connection of a sleeping peer for many minutes.
                self.context.counters.add("ping_failed");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// A member says where it listens, also when that changes.
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id: peer, info, .. } = event else { return };
        let Some(known) = self.peers.get(&peer).filter(|known| known.is_admitted) else { return };
        let on_loopback = known.is_on_loopback();
        let addresses: Vec<Multiaddr> = info
            .listen_addrs
            .iter()
            .filter_map(|address| usable(address, &peer, on_loopback))
            .take(ADDRESSES_MAX)
            .collect();
        self.book.learn(peer, &addresses, Instant::now());
        self.update_routing(peer);
    }

    /// Puts what the book knows of a member into Kademlia's table, instead of what that had.
    pub(super) fn update_routing(&mut self, peer: PeerId) {
        let addresses = self.book.addresses(&peer);
        let table = &mut self.swarm.behaviour_mut().kad.inner;
        // Kademlia never drops an address by itself, so a member could grow its entry with every push.
        table.remove_peer(&peer);
        for address in addresses {
            table.add_address(&peer, address);
        }
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let now = Instant::now();
        for (peer, address) in found.into_iter().take(MDNS_PEERS_MAX) {
            let Some(address) = usable(&address, &peer, false) else { continue };
            self.book.learn(peer, &[address], now);
            self.dial_if_allowed(peer, now);
        }
    }

    /// The addresses that we listen on changed.
    pub(super) fn on_listen_change(&mut self) {
        let mut addresses: Vec<String> = self.swarm.listeners().map(ToString::to_string).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut listening = self.context.listening.write().unwrap_or_else(PoisonError::into_inner);
        if *listening == addresses {
            return;
        }
        listening.clone_from(&addresses);
        drop(listening);
        // Only the newest list counts; an older one that still waits is replaced.
        self.outbox.retain(|(event, _)| !matches!(event, Event::Addresses(_)));
        self.tell(Event::Addresses(addresses));
    }
}
