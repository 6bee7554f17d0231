//! From a connection to a member: both hellos must be accepted, each by the other side.
//!
//! The hard case is a peer that starts anew while we still hold its old connection. Its hello then bears another
//! `life`, and we begin from nothing too: the owner hears `Closed`, older connections are closed, and our own hello
//! is said again.

use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connections::ADMISSION_DEADLINE;
use super::{Driver, OUTBOX_MAX};
use crate::event::{Event, Side};
use crate::hello::VerifiedHello;
use crate::peer_id::node_of;
use crate::peerbook;

/// How long a refused connection stays for the other direction's verdict.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

impl Driver<'_> {
    /// A peer's hello holds.
    pub(super) fn on_verified(
        &mut self,
        peer: PeerId,
        hello: VerifiedHello,
        go: oneshot::Sender<()>,
        cancel: CancellationToken,
    ) {
        let known_life = self.peers.get(&peer).and_then(|known| known.hello.as_ref()).map(|hello| hello.life);
        if known_life.is_some_and(|life| life != hello.life) {
            self.begin_anew(peer);
        }
        // Without an entry the peer is gone already; its reader ends as `go` is dropped.
        let Some(known) = self.peers.get_mut(&peer) else { return };
        self.gates.open_inbound(&peer);
        if let Some(older) = known.reader.replace(cancel) {
            older.cancel();
        }
        let addresses = peerbook::parse(&hello.addresses, &peer, known.is_on_loopback());
        known.hello = Some(hello);
        if known.is_admitted {
            let _ = go.send(());
            self.book.learn(peer, &addresses, Instant::now());
            self.update_routing(peer);
        } else {
            known.go = Some(go);
            if known.is_welcomed {
                self.admit(peer);
            }
        }
    }

    /// A peer accepted our hello.
    pub(super) fn on_welcomed(&mut self, peer: PeerId, life: u64) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.life == life) else { return };
        known.is_welcomed = true;
        if known.is_admitted {
            self.announce(peer);
        } else if known.hello.is_some() {
            self.admit(peer);
        }
    }

    /// Forgets what was agreed with a peer that starts from nothing.
    fn begin_anew(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.is_welcomed = false;
        known.deadline = Some(Instant::now() + ADMISSION_DEADLINE);
        known.restart.notify_one();
        // The peer speaks on its newest connection; whether the older ones still lead anywhere, only a ping would
        // tell, too late for our hello.
        let older = known.connections.len().saturating_sub(1);
        let older: Vec<_> = known.connections.iter().take(older).map(|(id, _)| *id).collect();
        let (node, was_admitted) = (known.node, std::mem::take(&mut known.is_admitted));
        for connection in older {
            self.swarm.close_connection(connection);
        }
        if was_admitted {
            self.context.routes.remove(&node);
            self.tell(Event::Closed { node });
        }
    }

    /// Opens everything to a peer that is now a member on both sides.
    fn admit(&mut self, peer: PeerId) {
        let now = Instant::now();
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(hello) = &known.hello else { return };
        if known.refused_by_us || known.refused_by_them {
            return;
        }
        let addresses = peerbook::parse(&hello.addresses, &peer, known.is_on_loopback());
        known.is_admitted = true;
        known.deadline = None;
        self.context.routes.add(known.node, known.route.clone());
        self.gates.open_inbound(&peer);
        self.gates.open_outbound(&peer);
        self.book.learn(peer, &addresses, now);
        self.book.succeeded(peer, now);
        self.update_routing(peer);
        self.announce(peer);
        self.on_member_added(now);
    }

    /// Tells the owner that a peer is admitted, then lets its frames follow.
    fn announce(&mut self, peer: PeerId) {
        let addresses = self.book.addresses(&peer).iter().map(ToString::to_string).collect();
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(hello) = &known.hello else { return };
        let event = Event::Admitted {
            node: known.node,
            name: hello.name.clone(),
            role: hello.role,
            not_after: hello.not_after,
            addresses,
        };
        let go = known.go.take();
        self.outbox.push_back((event, go));
    }

    /// One side refused the other.
    pub(super) fn on_refused(&mut self, peer: PeerId, by: Side, reason: String) {
        let now = Instant::now();
        self.book.refused(peer, now);
        let Some(known) = self.peers.get_mut(&peer) else {
            // The other side closed the connection over the same matter before we got here.
            if let Some(node) = node_of(&peer) {
                self.tell_refused(Event::Refused { node, by, reason });
            }
            return;
        };
        let is_news = match by {
            Side::Us => !std::mem::replace(&mut known.refused_by_us, true),
            Side::Them => !std::mem::replace(&mut known.refused_by_them, true),
        };
        let ours_is_settled = known.is_welcomed || known.refused_by_them;
        let theirs_is_settled = known.hello.is_some() || known.refused_by_us;
        let node = known.node;
        known.deadline = Some(now + REFUSED_LINGER);
        if is_news {
            self.tell_refused(Event::Refused { node, by, reason });
        }
        if ours_is_settled && theirs_is_settled {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Tells the owner, if there is room: a stranger can come back and be refused as often as it likes.
    fn tell_refused(&mut self, event: Event) {
        if self.outbox.len() < OUTBOX_MAX / 2 {
            self.tell(event);
        } else {
            self.context.counters.add("refusal_not_told");
        }
    }

    /// Closes what was not admitted in time, and members whose certificate ran out.
    pub(super) fn enforce_deadlines(&mut self, now: Instant) {
        let wall = (self.context.now)();
        let mut expired = Vec::new();
        let mut late = Vec::new();
        for (peer, known) in &self.peers {
            if known.deadline.is_some_and(|deadline| deadline <= now) {
                late.push((*peer, known.refused_by_us || known.refused_by_them));
            } else if known.is_admitted && known.hello.as_ref().is_some_and(|hello| hello.not_after < wall) {
                expired.push(*peer);
            }
        }
        for (peer, was_refused) in late {
            if !was_refused {
                self.context.counters.add("admission_late");
            }
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        for peer in expired {
            let reason = "certificate of the node expired; ask an admin of this mesh for a new one".to_owned();
            self.on_refused(peer, Side::Us, reason);
        }
    }

    /// Shows our renewed membership to everyone.
    pub(super) fn say_hello_again(&mut self) {
        for known in self.peers.values() {
            known.restart.notify_one();
        }
    }

    /// Parts from the members whose certificate no longer counts.
    pub(super) fn part_from_revoked(&mut self) {
        let credentials = self.context.credentials();
        let is_revoked = |hello: &VerifiedHello, node| credentials.revokes(node, &hello.admins);
        let revoked: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, known)| known.hello.as_ref().is_some_and(|hello| is_revoked(hello, known.node)))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in revoked {
            self.on_refused(peer, Side::Us, "certificate of the node was revoked".to_owned());
        }
    }
}
