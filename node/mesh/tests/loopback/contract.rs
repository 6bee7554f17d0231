//! The promises of the drivers, over TCP, QUIC and libp2p's transport in memory, with peers that stop, freeze and lose
//! their wire: judged as the simulator's model of a network is, see [`jobmesh_tests::contract`].

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jobmesh_keys::NodeId;
use jobmesh_mesh::{Config, Event, FetchError, SendError};
use jobmesh_protocol::BlobRef;
use jobmesh_tests::contract::{Sight, Weakness, judge};
use jobmesh_tests::{Proxy, Wire};
use tokio::time::timeout;

use crate::blob::{content, fetch};
use crate::harness::{DEADLINE, Node, QUIC, TCP, config, connect, id};

/// libp2p's channels inside one process.
const MEMORY: &str = "/memory/0";
const TRANSPORTS: [&str; 3] = [TCP, QUIC, MEMORY];

/// How soon the end of a peer that says so, or whose socket is gone, is told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How soon a peer that is silent is told to be gone: a ping every 5 s that may take 5 s, and some room.
const SILENT_WITHIN: Duration = Duration::from_secs(13);
/// How long frames may take to a peer that reads, whatever the others do.
const PASSED_WITHIN: Duration = Duration::from_secs(2);

fn over(seed: u8, listen: &str) -> Config {
    Config { listen: vec![listen.to_owned()], ..config(seed) }
}

/// A node whose owner writes down what it is told.
struct Party {
    node: Node,
    seat: usize,
    seen: Vec<Sight>,
}

fn seat(node: NodeId) -> usize {
    (1..=9).find(|seed| id(*seed) == node).map_or(0, usize::from)
}

impl Party {
    async fn start(config: Config, mut seen: Vec<Sight>) -> Self {
        let node = Node::start(config).await;
        let seat = seat(node.id);
        seen.push(Sight::Began { at: seat });
        Self { node, seat, seen }
    }

    fn note(&mut self, event: &Event) {
        let at = self.seat;
        self.seen.extend(match event {
            Event::Admitted { node, .. } => Some(Sight::Opened { at, peer: seat(*node) }),
            Event::Closed { node } => Some(Sight::Closed { at, peer: seat(*node) }),
            Event::Frame { from, bytes } => Some(Sight::Heard { at, from: seat(*from), frame: bytes.clone() }),
            _ => None,
        });
    }

    /// Writes down what comes until `is_it` says that it has.
    async fn until(&mut self, what: &str, within: Duration, mut is_it: impl FnMut(&Event) -> bool) {
        let wait = async {
            loop {
                let event = self.node.events.recv().await.unwrap();
                self.note(&event);
                if is_it(&event) {
                    return;
                }
            }
        };
        assert!(timeout(within, wait).await.is_ok(), "{} never saw {what} in {within:?}", self.seat);
    }

    /// Waits until the peer is said to be there, unless it has been.
    async fn met(&mut self, peer: usize) {
        let word = |sight: &&Sight| matches!(sight, Sight::Opened { .. } | Sight::Closed { .. });
        if !matches!(self.seen.iter().rfind(word), Some(Sight::Opened { peer: met, .. }) if *met == peer) {
            self.until("a peer", DEADLINE, |event| matches!(event, Event::Admitted { .. })).await;
        }
    }

    async fn parted(&mut self, within: Duration) {
        self.until("the end of a peer", within, |event| matches!(event, Event::Closed { .. })).await;
    }

    async fn heard(&mut self, count: usize) {
        let mut left = count;
        let is_last = |event: &Event| {
            left -= usize::from(matches!(event, Event::Frame { .. }));
            left == 0
        };
        self.until("frames", DEADLINE, is_last).await;
    }

    /// Sends so many frames that nobody else sends, as far as there is room. Returns how many.
    fn send(&mut self, to: NodeId, word: &str, count: usize) -> usize {
        let frames = (0..count).map(|number| format!("{word} {number} of {}", self.seat).into_bytes());
        let before = self.seen.len();
        for frame in frames {
            if self.node.mesh.send(to, frame.clone()).is_ok() {
                self.seen.push(Sight::Sent { at: self.seat, to: seat(to), frame });
            }
        }
        self.seen.len() - before
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_of_a_connection_is_whole_and_in_order_whenever_it_ends() {
    for listen in TRANSPORTS {
        let mut ana = Party::start(over(1, listen), Vec::new()).await;
        let (ana_id, bob_id) = (id(1), id(2));
        let mut seen = Vec::new();
        for (life, heard) in [(0, 40), (1, 0), (2, 7), (3, 200)] {
            let mut bob = Party::start(over(2, listen), seen).await;
            bob.node.mesh.dial(ana_id, ana.node.mesh.addresses());
            ana.until("bob", DEADLINE, |event| matches!(event, Event::Admitted { .. })).await;
            bob.until("ana", DEADLINE, |event| matches!(event, Event::Admitted { .. })).await;
            assert!(ana.send(bob_id, &format!("to bob {life}"), 200) >= heard);
            bob.send(ana_id, &format!("to ana {life}"), 200);
            if heard > 0 {
                bob.heard(heard).await;
            }
            bob.node.mesh.clone().stop().await;
            ana.parted(TOLD_WITHIN).await;
            seen = bob.seen;
        }
        let judgement = judge(&[ana.seen, seen].concat());
        assert!(judgement.breaches.is_empty(), "{listen}: {judgement:?}");
        assert!(judgement.heard >= 247 && judgement.weaknesses.contains(&Weakness::Returns), "{listen}: {judgement:?}");
    }
}

/// Cut, closed in one direction, silent for a while: the wire between two nodes that stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_fails_loses_nothing_but_what_was_on_it() {
    let mut ana = Party::start(over(1, TCP), Vec::new()).await;
    let port = ana.node.mesh.addresses()[0].rsplit('/').next().unwrap().parse().unwrap();
    let Some(wire) = Proxy::to(port) else {
        eprintln!("this machine has no address but loopback: no wire was cut");
        return;
    };
    let known = vec![(id(1), vec![wire.address()])];
    let mut bob = Party::start(Config { known, ..over(2, TCP) }, Vec::new()).await;
    bob.met(1).await;
    ana.met(2).await;
    for round in 0..6 {
        ana.send(id(2), &format!("to bob {round}"), 150);
        bob.send(id(1), &format!("to ana {round}"), 150);
        bob.heard(20).await;
        let ended = match round % 3 {
            0 => wire.cut(),
            1 => wire.half_close(),
            _ => {
                wire.set(Wire::Stalled);
                1
            }
        };
        assert!(ended > 0, "nothing went over the wire in round {round}");
        ana.parted(SILENT_WITHIN).await;
        bob.parted(SILENT_WITHIN).await;
        wire.set(Wire::Open);
        bob.met(1).await;
        ana.met(2).await;
    }
    let judgement = judge(&[ana.seen, bob.seen].concat());
    assert!(judgement.breaches.is_empty(), "{judgement:?}");
    assert!(judgement.weaknesses.contains(&Weakness::Returns), "{judgement:?}");
}

/// A wire that stays stuck, with so much on it that the connection over it can't even be closed: both are told, and meet
/// over another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_stuck_for_good_is_in_nobodys_way() {
    let mut ana = Party::start(over(1, TCP), Vec::new()).await;
    let port = ana.node.mesh.addresses()[0].rsplit('/').next().unwrap().parse().unwrap();
    let (Some(stuck), Some(other)) = (Proxy::to(port), Proxy::to(port)) else {
        eprintln!("this machine has no address but loopback: no wire was stuck");
        return;
    };
    let known = vec![(id(1), vec![stuck.address()])];
    let mut bob = Party::start(Config { known, ..over(2, TCP) }, Vec::new()).await;
    bob.met(1).await;
    ana.met(2).await;
    stuck.set(Wire::Stalled);
    while bob.node.mesh.send(id(1), vec![0; 64 * 1024]).is_ok() {}
    bob.parted(SILENT_WITHIN).await;
    ana.parted(SILENT_WITHIN).await;
    bob.node.mesh.dial(id(1), vec![other.address()]);
    bob.met(1).await;
    ana.met(2).await;
    assert_eq!(bob.send(id(1), "by another way", 100), 100);
    ana.heard(100).await;
}

/// A node on a thread of its own, which stands still once it is told to.
fn start_apart(listen: &'static str, known: (NodeId, Vec<String>)) -> (SyncSender<()>, std::thread::JoinHandle<()>) {
    let (freeze, frozen): (SyncSender<()>, Receiver<()>) = sync_channel(0);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut bob = Node::start(Config { known: vec![known], ..over(2, listen) }).await;
            bob.admitted(id(1)).await;
            // Blocks the only thread of this runtime, as SIGSTOP blocks a process, until the test is over.
            let _ = frozen.recv();
        });
    });
    (freeze, thread)
}

async fn a_frozen_peer_is_gone_in_seconds(listen: &'static str) {
    let mut ana = Party::start(over(1, listen), Vec::new()).await;
    let known = (id(1), ana.node.mesh.addresses());
    let (thaw, bob) = start_apart(listen, known);
    ana.met(2).await;
    let began = Instant::now();
    ana.send(id(2), "into the void", 10);
    ana.parted(SILENT_WITHIN).await;
    eprintln!("{listen}: a frozen peer was gone after {:?}", began.elapsed());
    assert_eq!(ana.node.mesh.send(id(2), vec![1]), Err(SendError::NotConnected));
    drop(thaw);
    bob.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_freezes_is_gone_in_seconds_over_tcp() {
    a_frozen_peer_is_gone_in_seconds(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_freezes_is_gone_in_seconds_over_quic() {
    a_frozen_peer_is_gone_in_seconds(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_freezes_is_gone_in_seconds_in_memory() {
    a_frozen_peer_is_gone_in_seconds(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_read_delays_nobody_else() {
    for listen in TRANSPORTS {
        let (mut ana, mut bob) = (Node::start(over(1, listen)).await, Node::start(over(2, listen)).await);
        let mut cal = Node::start(over(3, listen)).await;
        connect(&mut bob, &mut ana).await;
        connect(&mut cal, &mut ana).await;
        // Bob's events are not read from here on.
        let mut sent = 0_usize;
        while ana.mesh.send(bob.id, vec![0; 64 * 1024]).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "the queue to a peer that does not read has no end");
        }
        for number in 0_u32..100 {
            ana.mesh.send(cal.id, number.to_be_bytes().to_vec()).unwrap();
        }
        let began = Instant::now();
        for number in 0_u32..100 {
            assert_eq!(cal.frame().await, number.to_be_bytes());
        }
        assert!(began.elapsed() < PASSED_WITHIN, "{listen}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_can_not_be_reached_is_counted() {
    for nowhere in ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1", "/memory/1"] {
        let mut ana = Node::start(config(1)).await;
        ana.mesh.dial(id(2), vec![nowhere.to_owned()]);
        ana.counted("dial_failed").await;
    }
}

/// A digest may be lost, so it is only said that the latest comes through in the end: it is published again to whoever
/// begins to listen.
#[tokio::test(flavor = "multi_thread")]
async fn a_digest_and_a_blob_come_through_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (number, listen) in TRANSPORTS.into_iter().enumerate() {
        let (mut ana, mut bob) = (Node::start(over(1, listen)).await, Node::start(over(2, listen)).await);
        ana.mesh.publish(listen.as_bytes().to_vec());
        connect(&mut bob, &mut ana).await;
        let digest = bob.until("a digest", |event| match event {
            Event::Gossip { author, bytes, .. } => Some((author, bytes)),
            _ => None,
        });
        assert_eq!(digest.await, (ana.id, listen.as_bytes().to_vec()));

        let (source, into) = (folder.path().join("source"), folder.path().join(format!("into-{number}")));
        let mut bytes = content();
        let blob = BlobRef::of(&bytes);
        std::fs::write(&source, &bytes).unwrap();
        fetch(&ana, &mut bob, blob, &into, Some(source.clone())).await.unwrap();
        assert_eq!(std::fs::read(&into).unwrap(), bytes, "{listen}");
        bytes[1_234_567] ^= 1;
        std::fs::write(&source, &bytes).unwrap();
        let other = folder.path().join(format!("other-{number}"));
        let fetched = fetch(&ana, &mut bob, blob, &other, Some(source)).await;
        assert!(matches!(fetched, Err(FetchError::Damaged { .. })), "{listen}: {fetched:?}");
        assert!(!other.exists());
    }
}
