//! The driver: the one task that owns the swarm.
//!
//! Its loop awaits nothing but its own `select!`, in this order: stop, deliver what the owner must hear, commands,
//! reports of the session tasks, the swarm, the clock. Each kind of event is handled in the file named after it, by
//! plain methods.

mod admission;
mod connection_tasks;
mod connections;
mod dials;
mod discovery;
pub(crate) mod gossip;
mod kad;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::PeerId;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{self, Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::connection_tasks::ConnectionTasks;
use self::connections::Peer;
use self::gossip::Digest;
use self::kad::Lookups;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::context::Context;
use crate::event::Event;
use crate::gate::Gates;
use crate::handle::Command;
use crate::peerbook::PeerBook;
use crate::session::Report;
use crate::supervisor::{Settings, StartError};
use crate::{streams, transport};

/// How often deadlines are looked at: fine enough for pauses of a second, and no load when idle.
const TICK: Duration = Duration::from_millis(250);

/// Reports that may wait; the session tasks wait beyond that.
const REPORTS_MAX: usize = 256;

/// Events that may wait behind a full channel before the swarm pauses.
const OUTBOX_MAX: usize = 1024;

/// How long members' connections live without traffic. Strangers' end with their admission deadline.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long closing may take at the end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Owns the swarm and all that is known of the connected peers.
pub(crate) struct Driver<'a> {
    context: Arc<Context>,
    book: &'a mut PeerBook,
    swarm: Swarm<Behaviour>,
    gates: Gates,
    peers: BTreeMap<PeerId, Peer>,
    lookups: Lookups,
    digest: Digest,
    /// What the owner must hear, in order; the sender is used once it has been told.
    outbox: VecDeque<(Event, Option<oneshot::Sender<()>>)>,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    tasks: JoinSet<()>,
    /// Word of panics in the swarm's own tasks.
    panics: mpsc::Receiver<()>,
    listeners: BTreeMap<usize, ListenerId>,
    /// When the peers' signs of life were last looked at.
    looked: Instant,
}

/// Why a driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to, or nobody wants it any more.
    Stopped,
    /// One of the swarm's tasks panicked; the swarm is not to be trusted.
    Broken,
}

/// What a turn of the loop is about.
enum Turn {
    Stop,
    Delivered,
    Command(Command),
    Digest,
    Keys,
    Report(Report),
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Ended { panicked: bool },
    Broken,
    Tick,
}

impl<'a> Driver<'a> {
    /// Builds a swarm that begins to listen.
    pub(crate) fn build(
        context: &Arc<Context>,
        book: &'a mut PeerBook,
        settings: &Settings,
    ) -> Result<Self, StartError> {
        let gates = Gates::default();
        let mesh = context.credentials().mesh;
        let behaviour = Behaviour::new(&context.key, &mesh, settings.mdns, &gates)?;
        let (connection_tasks, panics) = ConnectionTasks::new();
        let config =
            swarm::Config::with_executor(connection_tasks).with_smart_dial().with_idle_connection_timeout(IDLE_TIMEOUT);
        let me = context.key.public().to_peer_id();
        let mut swarm = Swarm::new(transport::build(&context.key)?, behaviour, me, config);
        let mut listeners = BTreeMap::new();
        for (index, address) in settings.listen.iter().enumerate() {
            listeners.insert(index, listen(&mut swarm, address)?);
        }
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let mut tasks = JoinSet::new();
        let mut control = swarm.behaviour().streams.new_control();
        streams::accept_all(context, &gates, &report, &mut control, &mut tasks)?;
        *context.control.write().unwrap_or_else(PoisonError::into_inner) = Some(control);
        context.listening.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(Self {
            context: Arc::clone(context),
            book,
            swarm,
            gates,
            peers: BTreeMap::new(),
            lookups: Lookups::new(Instant::now()),
            digest: Digest::new(mesh),
            outbox: VecDeque::new(),
            report,
            reports,
            tasks,
            panics,
            listeners,
            looked: Instant::now(),
        })
    }

    /// Runs the swarm until every listener has an address, and writes the ports into `settings`.
    pub(crate) async fn until_listening(&mut self, settings: &mut Settings) -> Result<(), StartError> {
        let mut waiting: BTreeMap<usize, ListenerId> = self.listeners.clone();
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            let index_of = |id: &ListenerId| waiting.iter().find(|(_, known)| *known == id).map(|(index, _)| *index);
            if let SwarmEvent::NewListenAddr { listener_id, address } = &event
                && let Some(index) = index_of(listener_id)
            {
                waiting.remove(&index);
                if let Some(setting) = settings.listen.get_mut(index) {
                    *setting = with_port_of(setting, address);
                }
            } else if let SwarmEvent::ListenerClosed { listener_id, reason, .. } = &event
                && let Some(address) = index_of(listener_id).and_then(|index| settings.listen.get(index))
            {
                let source = match reason {
                    Ok(()) => std::io::ErrorKind::AddrNotAvailable.into(),
                    Err(error) => std::io::Error::new(error.kind(), error.to_string()),
                };
                return Err(StartError::Listen { address: address.clone(), source });
            }
            self.on_swarm_event(event);
        }
        Ok(())
    }

    /// Runs until cancelled or abandoned by all handles and the owner.
    pub(crate) async fn run(mut self, commands: &mut mpsc::Receiver<Command>, cancel: &CancellationToken) -> End {
        let mut digest = self.context.digest.subscribe();
        let mut keys = self.context.keys.subscribe();
        // A swarm that replaces another has not heard what was wished of that one.
        digest.mark_changed();
        keys.mark_changed();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.next_turn(commands, cancel, &mut digest, &mut keys, &mut ticks).await {
                Turn::Stop => break,
                Turn::Broken => return End::Broken,
                Turn::Delivered => {}
                Turn::Command(command) => self.on_command(command),
                Turn::Digest => self.on_digest(digest.borrow_and_update().clone()),
                Turn::Keys => self.on_keys(keys.borrow_and_update().clone()),
                Turn::Report(report) => self.on_report(report),
                Turn::Swarm(event) => self.on_swarm_event(*event),
                Turn::Ended { panicked } => {
                    if panicked {
                        self.context.counters.add("session_task_panicked");
                    }
                }
                Turn::Tick => self.on_tick(Instant::now()),
            }
        }
        self.close().await;
        End::Stopped
    }

    /// Waits for the next thing to do. Cancel-safe.
    async fn next_turn(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        cancel: &CancellationToken,
        digest: &mut watch::Receiver<Option<Vec<u8>>>,
        keys: &mut watch::Receiver<std::collections::BTreeSet<jobmesh_protocol::Hash>>,
        ticks: &mut Interval,
    ) -> Turn {
        let has_room = self.outbox.len() < OUTBOX_MAX;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Turn::Stop,
            Some(()) = self.panics.recv() => Turn::Broken,
            permit = self.context.events.reserve(), if !self.outbox.is_empty() => {
                let Ok(permit) = permit else { return Turn::Stop };
                if let Some((event, told)) = self.outbox.pop_front() {
                    permit.send(event);
                    if let Some(told) = told {
                        let _ = told.send(());
                    }
                }
                Turn::Delivered
            }
            command = commands.recv(), if has_room => command.map_or(Turn::Stop, Turn::Command),
            Ok(()) = digest.changed() => Turn::Digest,
            Ok(()) = keys.changed() => Turn::Keys,
            Some(report) = self.reports.recv(), if has_room => Turn::Report(report),
            Some(ended) = self.tasks.join_next() => Turn::Ended { panicked: ended.is_err_and(|error| error.is_panic()) },
            // Before the swarm, which a flood of traffic could keep busy for ever.
            _ = ticks.tick() => Turn::Tick,
            event = self.swarm.select_next_some(), if has_room => Turn::Swarm(Box::new(event)),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Find(key) => self.find(key),
            Command::Dial { node, addresses } => self.dial_on_command(node, &addresses),
            Command::Shout(message) => {
                // Lost if all queues are full: a hint that is late is worth nothing.
                let _ = self.gossip(&message);
            }
            Command::Renewed => self.say_hello_again(),
            Command::Revoked => self.part_from_revoked(),
            #[cfg(test)]
            Command::Panic => std::panic::panic_any("a panic that a test asked for"),
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Verified { peer, hello, go, cancel } => self.on_verified(peer, hello, go, cancel),
            Report::Welcomed { peer, life } => self.on_welcomed(peer, life),
            Report::Refused { peer, by, reason } => self.on_refused(peer, by, reason),
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_disconnected(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.on_dial_error(peer, &error),
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => self.on_listen_change(),
            SwarmEvent::ListenerError { error, .. } => {
                self.context.counters.add("listener_error");
                tracing::warn!(%error, "listener met an error");
            }
            SwarmEvent::IncomingConnectionError { .. } => self.context.counters.add("incoming_failed"),
            // Progress that something else will report the end of, and dials without a peer, which we never make.
            SwarmEvent::OutgoingConnectionError { peer_id: None, .. }
            | SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::Dialing { .. }
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. }
            | _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Limits(never) => match never {},
            BehaviourEvent::Streams(()) => {}
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.enforce_deadlines(now);
        self.part_from_silent(now);
        self.redial(now);
        self.publish_if_due(now);
        self.provide_if_due(now);
    }

    /// Queues `event` for the owner.
    fn tell(&mut self, event: Event) {
        self.outbox.push_back((event, None));
    }

    /// Closes all connections in good order.
    async fn close(mut self) {
        for peer in self.peers.values() {
            peer.cancel();
        }
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(CLOSE_DEADLINE, closed).await;
    }
}

fn listen(swarm: &mut Swarm<Behaviour>, address: &Multiaddr) -> Result<ListenerId, StartError> {
    probe(address).map_err(|source| StartError::Listen { address: address.clone(), source })?;
    swarm.listen_on(address.clone()).map_err(|error| match error {
        TransportError::Other(source) => StartError::Listen { address: address.clone(), source },
        TransportError::MultiaddrNotSupported(_) => {
            StartError::Address { address: address.to_string(), source: Box::new(error) }
        }
    })
}

/// Checks that nobody listens on a TCP `address`: libp2p lets two programs share a port, and each would get half of
/// the connections.
fn probe(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Returns `setting` with its port 0 replaced by the port of `actual`.
fn with_port_of(setting: &Multiaddr, actual: &Multiaddr) -> Multiaddr {
    let port = actual
        .iter()
        .find_map(|part| if let Protocol::Tcp(port) | Protocol::Udp(port) = part { Some(port) } else { None });
    let replace = |part| match (part, port) {
        (Protocol::Tcp(0), Some(port)) => Protocol::Tcp(port),
        (Protocol::Udp(0), Some(port)) => Protocol::Udp(port),
        (part, _) => part,
    };
    setting.iter().map(replace).collect()
}
