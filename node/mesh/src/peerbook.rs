//! Where peers are, and when to try them again.
//!
//! Addresses come from other nodes' mouths, so they are filtered, and few per peer are kept. A *remembered* peer is
//! dialled, whenever it is not connected, after a pause that doubles from one second to a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::Instant;

/// Addresses kept per peer: a machine with two networks over two transports and two IP versions.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// Peers in the book; beyond it the one longest unheard of is forgotten, strangers before members.
const PEERS_MAX: usize = 1024;

/// Longest address, in characters.
const ADDRESS_CHARS_MAX: usize = 256;

/// First pause before a peer is dialled again.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause before a peer is dialled again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long a peer that refused us, or that we refused, is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The peers that we heard of.
#[derive(Debug, Default)]
pub(crate) struct PeerBook(BTreeMap<PeerId, Entry>);

#[derive(Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    /// Whether it is a member to be redialled.
    remembered: bool,
    heard: Instant,
    /// Earliest next dial of our own accord.
    due: Instant,
    pause: Duration,
}

impl PeerBook {
    /// Takes in `addresses` of `peer`, the newest in front.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        let entry = self.entry(peer, now);
        for address in addresses.iter().rev() {
            entry.addresses.retain(|known| known != address);
            entry.addresses.insert(0, address.clone());
        }
        entry.addresses.truncate(ADDRESSES_MAX);
        entry.heard = now;
    }

    /// Marks `peer` as a member that is to be redialled.
    pub(crate) fn remember(&mut self, peer: PeerId, now: Instant) {
        self.entry(peer, now).remembered = true;
    }

    /// Returns the known addresses of `peer`, best first.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.0.get(peer).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }

    /// Notes that `peer` was admitted: the next loss is followed by the shortest pause.
    pub(crate) fn succeeded(&mut self, peer: PeerId, now: Instant) {
        let entry = self.entry(peer, now);
        entry.remembered = true;
        entry.pause = PAUSE_MIN;
        entry.due = now;
        entry.heard = now;
    }

    /// Notes that `peer` was lost or could not be reached; `jitter` of 0 to 255 spreads the next try over ±25 %.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant, jitter: u8) {
        if let Some(entry) = self.0.get_mut(peer) {
            entry.due = now + entry.pause * (384 + u32::from(jitter)) / 512;
            entry.pause = (entry.pause * 2).min(PAUSE_MAX);
        }
    }

    /// Notes that one side refused the other.
    pub(crate) fn refused(&mut self, peer: PeerId, now: Instant) {
        self.entry(peer, now).due = now + REFUSED_PAUSE;
    }

    /// Says whether `peer` may be dialled of our own accord.
    pub(crate) fn may_dial(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_none_or(|entry| entry.due <= now)
    }

    /// Returns the remembered peers whose next try is due.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        self.0.iter().filter(move |(_, entry)| entry.remembered && entry.due <= now).map(|(peer, _)| *peer)
    }

    fn entry(&mut self, peer: PeerId, now: Instant) -> &mut Entry {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(_, entry)| (entry.remembered, entry.heard)).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        let fresh = Entry { addresses: Vec::new(), remembered: false, heard: now, due: now, pause: PAUSE_MIN };
        self.0.entry(peer).or_insert(fresh)
    }
}

/// Returns `address` as it may be dialled: an IP address or name with one of our transports, without `/p2p`.
///
/// Loopback addresses are dropped unless the peer itself was met on loopback: from elsewhere they would make us
/// dial ourselves.
pub(crate) fn usable(address: &Multiaddr, peer: &PeerId, on_loopback: bool) -> Option<Multiaddr> {
    let mut kept = address.clone();
    if let Some(Protocol::P2p(named)) = kept.iter().last() {
        if named != *peer {
            return None;
        }
        kept.pop();
    }
    let mut parts = kept.iter();
    let host = parts.next()?;
    #[cfg(feature = "memory")]
    if let Protocol::Memory(channel) = host {
        return (channel != 0 && parts.next().is_none()).then_some(kept);
    }
    let host_ok = match ip_of(&host) {
        Some(ip) => !ip.is_unspecified() && !ip.is_multicast() && (on_loopback || !ip.is_loopback()),
        None => matches!(host, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)),
    };
    let transport_ok = match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None, None) | (Protocol::Udp(port), Some(Protocol::QuicV1), None) => port != 0,
        _ => false,
    };
    (host_ok && transport_ok && kept.to_string().len() <= ADDRESS_CHARS_MAX).then_some(kept)
}

/// Parses and filters the `texts` that `peer` gives as its addresses.
pub(crate) fn parse(texts: &[String], peer: &PeerId, on_loopback: bool) -> Vec<Multiaddr> {
    let parsed = texts.iter().take(ADDRESSES_MAX).filter_map(|text| text.parse::<Multiaddr>().ok());
    parsed.filter_map(|address| usable(&address, peer, on_loopback)).collect()
}

/// Says whether `address` is on this machine's loopback.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().next().and_then(|host| ip_of(&host)).is_some_and(|ip| ip.is_loopback())
}

fn ip_of(host: &Protocol<'_>) -> Option<IpAddr> {
    if let Protocol::Ip4(ip) = host {
        Some(IpAddr::V4(*ip))
    } else if let Protocol::Ip6(ip) = host {
        Some(IpAddr::V6(*ip))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_keys::Identity;

    use super::*;
    use crate::peer_id::peer_of;

    fn peer(seed: u16) -> PeerId {
        let [high, low] = seed.to_be_bytes();
        let mut bytes = [1; 32];
        bytes[0] = high;
        bytes[1] = low;
        peer_of(&Identity::from_seed(bytes).node()).unwrap()
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_that_lead_somewhere_are_usable() {
        let (me, other) = (peer(1), peer(2));
        for (text, on_loopback, accepted) in [
            ("/ip4/10.0.0.1/tcp/4001", false, true),
            ("/ip4/10.0.0.1/udp/4001/quic-v1", false, true),
            ("/dns4/host.example/udp/1/quic-v1", false, true),
            ("/ip4/127.0.0.1/tcp/4001", false, false),
            ("/ip4/127.0.0.1/tcp/4001", true, true),
            ("/ip6/::1/tcp/4001", false, false),
            ("/ip4/0.0.0.0/tcp/4001", true, false),
            ("/ip4/224.0.0.1/udp/1/quic-v1", true, false),
            ("/ip4/10.0.0.1/tcp/0", false, false),
            ("/ip4/10.0.0.1/udp/4001", false, false),
            ("/ip4/10.0.0.1/tcp/1/ws", false, false),
            ("/ip4/10.0.0.1/sctp/1", true, false),
            ("/memory/7", true, cfg!(feature = "memory")),
        ] {
            assert_eq!(usable(&address(text), &me, on_loopback).is_some(), accepted, "{text}");
        }
        let own = address("/ip4/10.0.0.1/tcp/1").with_p2p(me).unwrap();
        assert_eq!(usable(&own, &me, false), Some(address("/ip4/10.0.0.1/tcp/1")));
        assert_eq!(usable(&own, &other, false), None, "the address names someone else");
    }

    #[test]
    fn a_peer_has_few_addresses_and_the_newest_win() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let many: Vec<Multiaddr> = (1..=12).map(|port| address(&format!("/ip4/10.0.0.1/tcp/{port}"))).collect();
        book.learn(peer(1), &many, now);
        assert_eq!(book.addresses(&peer(1)), many[..ADDRESSES_MAX]);
        book.learn(peer(1), &many[11..], now);
        assert_eq!(book.addresses(&peer(1))[0], many[11]);
        assert_eq!(book.addresses(&peer(1)).len(), ADDRESSES_MAX);
    }

    #[test]
    fn pauses_double_to_a_minute_and_end_with_success() {
        let (mut book, start) = (PeerBook::default(), Instant::now());
        book.remember(peer(1), start);
        assert_eq!(book.due(start).count(), 1);
        book.failed(&peer(1), start, 128);
        assert_eq!(book.due(start + Duration::from_millis(999)).count(), 0);
        assert_eq!(book.due(start + Duration::from_secs(1)).count(), 1);
        for _ in 0..10 {
            book.failed(&peer(1), start, 255);
        }
        assert_eq!(book.due(start + Duration::from_secs(74)).count(), 0);
        assert_eq!(book.due(start + Duration::from_secs(75)).count(), 1);
        book.succeeded(peer(1), start);
        book.failed(&peer(1), start, 0);
        assert_eq!(book.due(start + Duration::from_secs(1)).count(), 1);
        book.refused(peer(1), start);
        assert!(!book.may_dial(&peer(1), start + Duration::from_secs(59)));
    }

    #[test]
    fn a_full_book_forgets_strangers_before_members() {
        let (mut book, start) = (PeerBook::default(), Instant::now());
        book.remember(peer(0), start);
        for seed in 1..=1100 {
            book.learn(peer(seed), &[address("/ip4/10.0.0.1/tcp/1")], start + Duration::from_millis(u64::from(seed)));
        }
        assert_eq!(book.0.len(), PEERS_MAX);
        assert_eq!(book.due(start).collect::<Vec<_>>(), [peer(0)]);
        assert!(book.addresses(&peer(1)).is_empty());
        assert!(!book.addresses(&peer(1100)).is_empty());
    }
}
