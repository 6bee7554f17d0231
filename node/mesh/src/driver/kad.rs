//! Kademlia as an address book: who provides a key, and where a node is.
//!
//! One sleeping peer makes a query last its whole timeout, so queries wait in line for one of four places, those that
//! someone waits for in front. Answers are hints.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jobmesh_keys::NodeId;
use jobmesh_protocol::Hash;
use libp2p::PeerId;
use libp2p::kad::store::RecordStore as _;
use libp2p::kad::{
    self, GetClosestPeersError, GetProvidersOk, InboundRequest, PeerInfo, ProviderRecord, QueryId, QueryResult,
    RecordKey,
};
use tokio::time::Instant;

use super::Driver;
use super::connections::jitter;
use crate::behaviour::PROVIDED_KEYS_MAX;
use crate::event::Event;
use crate::peer_id::node_of;
use crate::peerbook::{ADDRESSES_MAX, usable};

/// Queries at once.
const RUNNING_MAX: usize = 4;

/// Queries in line: all keys once, and as many questions.
const QUEUED_MAX: usize = 2 * PROVIDED_KEYS_MAX;

/// How often all keys are published again: a third of their life with others.
const REPUBLISH_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Pause after a member is added, for others that come with it, before it is told our keys.
const GATHER_PAUSE: Duration = Duration::from_secs(1);

/// Providers of one answer that are told and dialled.
const PROVIDERS_MAX: usize = 64;

/// A question to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Fills the routing table.
    Bootstrap,
    /// Tells the nodes close to the key that we provide it.
    Provide(Hash),
    /// Who provides the key?
    Find(Hash),
    /// Where is the peer?
    Locate(PeerId),
}

/// The questions in line and under way, and the keys that we provide.
pub(super) struct Lookups {
    queue: VecDeque<Ask>,
    running: HashMap<QueryId, Running>,
    provided: BTreeSet<Hash>,
    republish_at: Instant,
    is_bootstrapped: bool,
}

struct Running {
    ask: Ask,
    /// Whether an answer was passed on.
    is_answered: bool,
}

impl Lookups {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            running: HashMap::new(),
            provided: BTreeSet::new(),
            republish_at: now + REPUBLISH_INTERVAL,
            is_bootstrapped: false,
        }
    }

    /// Queues `ask` unless it is queued or under way; says whether there was room.
    fn push(&mut self, ask: Ask) -> bool {
        let is_running = self.running.values().any(|running| running.ask == ask);
        // A key must be told again even if it is being told: the table may have grown since.
        let is_pending = is_running && !matches!(ask, Ask::Provide(_));
        if is_pending || self.queue.contains(&ask) {
            return true;
        }
        if self.queue.len() >= QUEUED_MAX {
            return false;
        }
        match ask {
            Ask::Find(_) | Ask::Locate(_) => self.queue.push_front(ask),
            Ask::Provide(_) | Ask::Bootstrap => self.queue.push_back(ask),
        }
        true
    }
}

impl Driver<'_> {
    pub(super) fn find(&mut self, key: Hash) {
        self.ask(Ask::Find(key));
    }

    /// Looks for the addresses of `peer`, and dials it there.
    pub(super) fn locate(&mut self, peer: PeerId) {
        self.ask(Ask::Locate(peer));
    }

    /// The owner provides exactly `keys` from now on.
    pub(super) fn on_keys(&mut self, keys: BTreeSet<Hash>) {
        let dropped: Vec<Hash> = self.lookups.provided.difference(&keys).copied().collect();
        let added: Vec<Hash> = keys.difference(&self.lookups.provided).copied().collect();
        self.lookups.provided = keys;
        for key in dropped {
            self.lookups.queue.retain(|ask| *ask != Ask::Provide(key));
            self.swarm.behaviour_mut().kad.inner.stop_providing(&record_key(&key));
        }
        for key in added {
            self.ask(Ask::Provide(key));
        }
    }

    /// A member can now be asked and told.
    pub(super) fn on_member_added(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.lookups.is_bootstrapped, true) {
            self.ask(Ask::Bootstrap);
        }
        self.lookups.republish_at = self.lookups.republish_at.min(now + GATHER_PAUSE);
    }

    pub(super) fn provide_if_due(&mut self, now: Instant) {
        if self.lookups.republish_at > now {
            return;
        }
        self.lookups.republish_at = now + REPUBLISH_INTERVAL * (384 + u32::from(jitter())) / 512;
        let keys: Vec<Hash> = self.lookups.provided.iter().copied().collect();
        for key in keys {
            self.ask(Ask::Provide(key));
        }
    }

    fn ask(&mut self, ask: Ask) {
        if !self.lookups.push(ask) {
            self.context.counters.add("lookup_dropped");
        }
        self.start_queries();
    }

    fn start_queries(&mut self) {
        while self.lookups.running.len() < RUNNING_MAX {
            let Some(ask) = self.lookups.queue.pop_front() else { return };
            let kad = &mut self.swarm.behaviour_mut().kad.inner;
            let started = match ask {
                Ask::Bootstrap => kad.bootstrap().ok(),
                Ask::Provide(key) => kad.start_providing(record_key(&key)).ok(),
                Ask::Find(key) => Some(kad.get_providers(record_key(&key))),
                Ask::Locate(peer) => Some(kad.get_closest_peers(peer)),
            };
            match started {
                Some(id) => {
                    self.lookups.running.insert(id, Running { ask, is_answered: false });
                }
                None => self.context.counters.add("lookup_not_started"),
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => self.on_progress(id, result, step.last),
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                self.on_provider(record);
            }
            kad::Event::InboundRequest { .. }
            | kad::Event::RoutingUpdated { .. }
            | kad::Event::UnroutablePeer { .. }
            | kad::Event::RoutablePeer { .. }
            | kad::Event::PendingRoutablePeer { .. }
            | kad::Event::ModeChanged { .. } => {}
        }
    }

    fn on_progress(&mut self, id: QueryId, result: QueryResult, is_last: bool) {
        let me = *self.swarm.local_peer_id();
        let Some(running) = self.lookups.running.get_mut(&id) else { return };
        let ask = running.ask;
        match (ask, result) {
            (Ask::Find(key), QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. }))) => {
                let providers: BTreeSet<PeerId> = providers.into_iter().filter(|peer| *peer != me).collect();
                running.is_answered |= !providers.is_empty();
                self.on_found(key, providers);
            }
            (Ask::Locate(peer), QueryResult::GetClosestPeers(result)) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                self.on_located(peer, &peers);
            }
            _ => {}
        }
        if !is_last {
            return;
        }
        let ended = self.lookups.running.remove(&id);
        if let (Ask::Find(key), Some(Running { is_answered: false, .. })) = (ask, ended) {
            self.tell(Event::Found { key, providers: Vec::new() });
        }
        self.start_queries();
    }

    fn on_found(&mut self, key: Hash, providers: BTreeSet<PeerId>) {
        let now = Instant::now();
        let providers: Vec<PeerId> = providers.into_iter().take(PROVIDERS_MAX).collect();
        let nodes: Vec<NodeId> = providers.iter().filter_map(node_of).collect();
        if nodes.is_empty() {
            return;
        }
        for peer in providers {
            self.dial_if_allowed(peer, now);
        }
        self.tell(Event::Found { key, providers: nodes });
    }

    fn on_located(&mut self, peer: PeerId, peers: &[PeerInfo]) {
        let Some(info) = peers.iter().find(|info| info.peer_id == peer) else { return };
        let addresses: Vec<_> =
            info.addrs.iter().filter_map(|address| usable(address, &peer, true)).take(ADDRESSES_MAX).collect();
        // Without this check a peer that nobody has an address for would be looked for for ever.
        if !addresses.is_empty() {
            self.book.learn(peer, &addresses, Instant::now());
            self.dial(peer);
        }
    }

    /// A member asks us to keep that it provides a key.
    fn on_provider(&mut self, mut record: ProviderRecord) {
        let is_member = self.peers.get(&record.provider).is_some_and(|known| known.is_admitted);
        if !is_member || Hash::from_slice(record.key.as_ref()).is_none() {
            self.context.counters.add("provider_record_refused");
            return;
        }
        record.addresses.truncate(ADDRESSES_MAX);
        if self.swarm.behaviour_mut().kad.inner.store_mut().add_provider(record).is_err() {
            self.context.counters.add("provider_record_no_room");
        }
    }
}

fn record_key(key: &Hash) -> RecordKey {
    RecordKey::new(key.as_bytes())
}
