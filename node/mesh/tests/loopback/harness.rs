//! Nodes and strangers for the tests. Every wait has a deadline and ends with the event that it waits for.

use std::path::Path;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, NodeId, Role, Serial};
use jobmesh_mesh::{Config, Event, Mesh, Side};
use jobmesh_protocol::UnixMillis;
use jobmesh_protocol::cbor;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{Control, IncomingStreams, OpenStreamError};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const NOW: UnixMillis = UnixMillis(1_000_000_000);
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const SESSION: StreamProtocol = StreamProtocol::new("/jobmesh/session/1");

pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) id: NodeId,
}

pub(crate) fn id(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node()
}

pub(crate) fn root(seed: u8) -> MeshRoot {
    MeshRoot::new(Identity::from_seed([seed; 32]))
}

pub(crate) fn membership(root_seed: u8, seed: u8, not_after: UnixMillis) -> Membership {
    let grant = Grant {
        member: id(seed),
        role: Role::Member,
        sponsor: id(seed),
        issued_at_ms: 0,
        not_after_ms: not_after.0,
        serial: Serial::from_bytes([seed; 16]),
    };
    Membership::issue_root(&root(root_seed), &grant)
}

/// A member of mesh 200 that listens on TCP.
pub(crate) fn config(seed: u8) -> Config {
    Config {
        identity: Identity::from_seed([seed; 32]),
        mesh: root(200).mesh(),
        membership: membership(200, seed, UnixMillis(NOW.0 * 2)),
        name: format!("node-{seed}"),
        listen: vec![TCP.to_owned()],
        mdns: false,
        known: Vec::new(),
        outboards: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("outboards-{seed}")),
        now: || NOW,
    }
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        let id = config.identity.node();
        let (mesh, events) = Mesh::start(config).await.unwrap();
        Self { mesh, events, id }
    }

    /// Skips events until `pick` takes one.
    pub(crate) async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        let Ok(picked) = timeout(DEADLINE, wait).await else {
            panic!("node never saw {what}; counters {:?}", self.mesh.counters())
        };
        picked
    }

    pub(crate) async fn admitted(&mut self, peer: NodeId) {
        self.until("an admission", |event| matches!(event, Event::Admitted { node, .. } if node == peer).then_some(()))
            .await;
    }

    pub(crate) async fn closed(&mut self, peer: NodeId) {
        self.until("a close", |event| matches!(event, Event::Closed { node } if node == peer).then_some(())).await;
    }

    /// Returns the reason of the refusal by `side`; an admission on the way fails the test.
    pub(crate) async fn refused(&mut self, side: Side) -> String {
        self.until("a refusal", |event| match event {
            Event::Refused { by, reason, .. } if by == side => Some(reason),
            Event::Admitted { .. } => panic!("a peer was admitted that should be refused"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn frame(&mut self) -> Vec<u8> {
        self.until("a frame", |event| match event {
            Event::Frame { bytes, .. } => Some(bytes),
            _ => None,
        })
        .await
    }

    /// Takes events until `counter` counts.
    pub(crate) async fn counted(&mut self, counter: &'static str) {
        let wait = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !self.mesh.counters().contains_key(counter) {
                ticks.tick().await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "{counter} never counted: {:?}", self.mesh.counters());
    }
}

/// Connects `one` to `other` and waits until both have admitted each other.
pub(crate) async fn connect(one: &mut Node, other: &mut Node) {
    one.mesh.dial(other.id, other.mesh.addresses());
    one.admitted(other.id).await;
    other.admitted(one.id).await;
}

/// A peer that speaks only what a test makes it speak.
pub(crate) struct Stranger {
    pub(crate) control: Control,
    pub(crate) sessions: IncomingStreams,
    pub(crate) target: PeerId,
    _tasks: JoinSet<()>,
}

/// A hello in the form that goes over the wire.
#[derive(Serialize)]
pub(crate) struct WireHello {
    pub(crate) version: u16,
    pub(crate) life: u64,
    pub(crate) name: String,
    #[serde(with = "serde_bytes")]
    pub(crate) membership: Vec<u8>,
    pub(crate) addresses: Vec<String>,
}

pub(crate) fn hello(membership: Vec<u8>) -> Vec<u8> {
    cbor::encode(&WireHello { version: 1, life: 7, name: "stranger".to_owned(), membership, addresses: Vec::new() })
}

impl Stranger {
    /// Connects a bare swarm with the key of `seed` to `node`.
    pub(crate) fn connect(seed: u8, node: &Node) -> Self {
        let mut bytes = [seed; 32];
        let key = Keypair::ed25519_from_bytes(&mut bytes).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
            .build();
        let target = peer_id(node.id);
        let addresses = node.mesh.addresses().iter().map(|address| address.parse().unwrap()).collect();
        swarm.dial(DialOpts::peer_id(target).addresses(addresses).build()).unwrap();
        let mut control = swarm.behaviour().new_control();
        let sessions = control.accept(SESSION).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { control, sessions, target, _tasks: tasks }
    }

    pub(crate) async fn open(&mut self, protocol: StreamProtocol) -> Result<libp2p::Stream, OpenStreamError> {
        timeout(DEADLINE, self.control.open_stream(self.target, protocol)).await.unwrap()
    }

    /// Says `hello` on a new session and returns the stream and the verdict's bytes.
    pub(crate) async fn say(&mut self, hello: &[u8]) -> (libp2p::Stream, Vec<u8>) {
        let mut stream = self.open(SESSION).await.unwrap();
        write_frame(&mut stream, hello).await;
        let verdict = read_frame(&mut stream).await;
        (stream, verdict)
    }

    /// Hears the node's hello and answers it with a welcome.
    pub(crate) async fn welcome(&mut self) -> libp2p::Stream {
        let (_, mut stream) = timeout(DEADLINE, self.sessions.next()).await.unwrap().unwrap();
        read_frame(&mut stream).await;
        write_frame(&mut stream, &cbor::encode(&"welcome")).await;
        stream
    }
}

pub(crate) fn peer_id(node: NodeId) -> PeerId {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(node.as_bytes()).unwrap();
    libp2p::identity::PublicKey::from(key).to_peer_id()
}

pub(crate) async fn write_frame(stream: &mut libp2p::Stream, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

pub(crate) async fn read_frame(stream: &mut libp2p::Stream) -> Vec<u8> {
    let read = async {
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).await.unwrap();
        let mut bytes = vec![0; usize::try_from(u32::from_be_bytes(prefix)).unwrap()];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    timeout(DEADLINE, read).await.unwrap()
}

/// Waits until the other side has ended `stream`, in whatever way.
pub(crate) async fn until_ended(stream: &mut libp2p::Stream) {
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
}
