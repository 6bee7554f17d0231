//! The protocols of a node, composed.

use std::collections::HashSet;
use std::time::Duration;

use jobmesh_keys::MeshId;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode, WhitelistSubscriptionFilter};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, identify, kad, mdns, ping};

use crate::gate::{Gated, Gates};

/// Gossip with a list of allowed topics.
pub(crate) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

/// Connections that are being set up by others: each costs a handshake before we know who it is.
const PENDING_INCOMING_MAX: u32 = 64;

/// Connections in all, about 0.3 MB each.
const ESTABLISHED_MAX: u32 = 512;

/// Connections per peer: both transports, dialled from both sides.
const ESTABLISHED_PER_PEER_MAX: u32 = 4;

/// Interval and timeout of pings: a peer that sleeps is noticed after 10 to 15 s, where TCP would take minutes.
const PING: Duration = Duration::from_secs(5);

/// How long a Kademlia query may take; one sleeping peer makes it take all of it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a provider record lasts without being published again; ours are every ten minutes.
const PROVIDER_TTL: Duration = Duration::from_secs(30 * 60);

/// Providers kept per key. The store's own 20 would hide most of a mesh that can all do the same.
const PROVIDERS_PER_KEY_MAX: usize = 64;

/// Keys whose providers this node keeps for others: the capabilities of a large mesh, 4096 × 64 records at worst.
const STORED_KEYS_MAX: usize = 4096;

/// Keys that a node provides.
pub(crate) const PROVIDED_KEYS_MAX: usize = 512;

/// Largest gossip frame.
const GOSSIP_BYTES_MAX: usize = 16 * 1024;

/// The protocols of a node. Limits come first: what they deny costs the others nothing.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) streams: libp2p_stream::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) identify: Gated<identify::Behaviour>,
    pub(crate) kad: Gated<kad::Behaviour<MemoryStore>>,
    pub(crate) gossip: Gated<Gossip>,
}

/// Says why the protocols can't be set up; all of these are mistakes of ours.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// A protocol name is not one.
    #[error("protocol name is not valid")]
    Name(#[from] libp2p::swarm::InvalidProtocol),
    /// The settings of gossip contradict each other.
    #[error("gossip settings are not valid: {0}")]
    Gossip(String),
}

impl Behaviour {
    /// Sets up the protocols of a node with `key` in `mesh`.
    pub(crate) fn new(key: &Keypair, mesh: &MeshId, mdns: bool, gates: &Gates) -> Result<Self, BehaviourError> {
        let peer = key.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
            .with_max_established(Some(ESTABLISHED_MAX))
            .with_max_established_per_peer(Some(ESTABLISHED_PER_PEER_MAX));
        let identify = identify::Config::new("/jobmesh/1".to_owned(), key.public())
            .with_agent_version(concat!("jobmesh/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let mdns = mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer));
        let mdns = mdns.and_then(|made| {
            made.inspect_err(|error| tracing::warn!(%error, "discovery on the local network is not available")).ok()
        });
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
            streams: libp2p_stream::Behaviour::new(),
            mdns: mdns.into(),
            identify: Gated::new(identify::Behaviour::new(identify), gates),
            kad: Gated::new(kademlia(key, mesh)?, gates),
            gossip: Gated::new(gossip(key, mesh)?, gates),
        })
    }
}

/// The topic of digests. The mesh's tag keeps meshes apart that meet on one network.
pub(crate) fn digest_topic(mesh: &MeshId) -> IdentTopic {
    IdentTopic::new(format!("jobmesh/digest/{}", mesh.tag()))
}

fn kademlia(key: &Keypair, mesh: &MeshId) -> Result<kad::Behaviour<MemoryStore>, BehaviourError> {
    let peer = key.public().to_peer_id();
    let mut config = kad::Config::new(StreamProtocol::try_from_owned(format!("/jobmesh/kad/{}/1", mesh.tag()))?);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_substreams_timeout(QUERY_TIMEOUT)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        // The driver publishes itself: Kademlia's own timer does all keys at once.
        .set_provider_publication_interval(None)
        .set_publication_interval(None)
        .set_replication_interval(None);
    let store = MemoryStoreConfig {
        max_providers_per_key: PROVIDERS_PER_KEY_MAX,
        max_records: STORED_KEYS_MAX,
        max_provided_keys: PROVIDED_KEYS_MAX,
        ..MemoryStoreConfig::default()
    };
    let mut behaviour = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
    // Left to itself it serves nobody until an address is known to be public, which on a LAN none ever is.
    behaviour.set_mode(Some(kad::Mode::Server));
    Ok(behaviour)
}

fn gossip(key: &Keypair, mesh: &MeshId) -> Result<Gossip, BehaviourError> {
    let invalid = |reason: &dyn std::fmt::Display| BehaviourError::Gossip(reason.to_string());
    let topic = digest_topic(mesh);
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(format!("/jobmesh/gossip/{}", mesh.tag()))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .heartbeat_initial_delay(Duration::from_millis(100))
        // Up to a dozen peers everyone meshes with everyone.
        .mesh_n_low(3)
        .mesh_n(6)
        .mesh_n_high(12)
        .mesh_outbound_min(0)
        .build()
        .map_err(|error| invalid(&error))?;
    let filter = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let signed = MessageAuthenticity::Signed(key.clone());
    let mut gossip = Gossip::new_with_subscription_filter(signed, config, filter).map_err(|error| invalid(&error))?;
    gossip.subscribe(&topic).map_err(|error| invalid(&error))?;
    Ok(gossip)
}

/// Names a message by what it says, so that a copy on another path is known as one.
fn message_id(message: &gossipsub::Message) -> gossipsub::MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message.topic.as_str().as_bytes());
    hasher.update(&message.source.map(libp2p::PeerId::to_bytes).unwrap_or_default());
    hasher.update(&message.data);
    gossipsub::MessageId::from(hasher.finalize().as_bytes().to_vec())
}
