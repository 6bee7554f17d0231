//! Keeps a behaviour's substreams shut until a peer is admitted.
//!
//! Kademlia, gossipsub and identify start talking the moment that a connection stands, to anyone. [`Gated`] wraps
//! such a behaviour: until the peer's [`Gate`] opens, its handler offers no protocol, so that a stranger's attempt
//! fails in negotiation, and is not polled, so that it opens no substream of its own.
//!
//! The hard case is the order. Gossipsub gives up on a connection for good when its first substream is refused, so
//! we must not knock before the other side has opened. Hence two halves: *inbound* opens once we have verified the
//! peer and **before** we tell it so; *outbound* once it has told us the same. The halves are atomics instead of
//! messages to the handler, for a message could arrive after the peer's first knock.

use std::collections::BTreeMap;
use std::iter::Take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, Stream,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

/// The gate of one connected peer, shared by its handlers on all connections.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inbound: AtomicBool,
    outbound: AtomicBool,
    /// Connection tasks to wake on a change: at most one per connection, since a connection polls all its
    /// handlers with one waker.
    waiting: Mutex<Vec<Waker>>,
}

/// The gates of all connected peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Arc<Mutex<BTreeMap<PeerId, Arc<Gate>>>>);

impl Gate {
    /// Opens one half and lets the handlers look again.
    fn open(&self, half: &AtomicBool) {
        half.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in waiting {
            waker.wake();
        }
    }

    /// Says whether the outbound half is open; if not, wakes `context` on the next change.
    fn poll_outbound(&self, context: &Context<'_>) -> bool {
        if self.outbound.load(Ordering::SeqCst) {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        drop(waiting);
        // Looked at again, for it may have opened before the waker was in the list.
        self.outbound.load(Ordering::SeqCst)
    }
}

impl Gates {
    /// Returns the gate of `peer`, shut if it is new.
    fn of(&self, peer: PeerId) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(peer).or_default())
    }

    /// Lets `peer` open substreams to us, if it is connected.
    pub(crate) fn open_inbound(&self, peer: &PeerId) {
        if let Some(gate) = self.find(peer) {
            gate.open(&gate.inbound);
        }
    }

    /// Lets us open substreams to `peer`, if it is connected.
    pub(crate) fn open_outbound(&self, peer: &PeerId) {
        if let Some(gate) = self.find(peer) {
            gate.open(&gate.outbound);
        }
    }

    /// Drops the gate of a peer without connections; the next connection finds a shut one.
    pub(crate) fn forget(&self, peer: &PeerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }

    fn find(&self, peer: &PeerId) -> Option<Arc<Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(peer).cloned()
    }
}

/// A behaviour behind the gates.
pub(crate) struct Gated<B> {
    /// The behaviour itself.
    pub(crate) inner: B,
    gates: Gates,
}

impl<B> Gated<B> {
    /// Puts `inner` behind `gates`.
    pub(crate) fn new(inner: B, gates: &Gates) -> Self {
        Self { inner, gates: gates.clone() }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = GatedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(GatedHandler { inner, gate: self.gates.of(peer) })
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(GatedHandler { inner, gate: self.gates.of(peer) })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(context)
    }
}

/// A handler behind its peer's gate.
pub(crate) struct GatedHandler<H> {
    inner: H,
    gate: Arc<Gate>,
}

impl<H: ConnectionHandler> ConnectionHandler for GatedHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = GatedUpgrade<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        let open = self.gate.inbound.load(Ordering::SeqCst);
        self.inner.listen_protocol().map_upgrade(|inner| GatedUpgrade { inner, open })
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if self.gate.poll_outbound(context) { self.inner.poll(context) } else { Poll::Pending }
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(context)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => ConnectionEvent::FullyNegotiatedOutbound(event),
            ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
            ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
            ConnectionEvent::LocalProtocolsChange(event) => ConnectionEvent::LocalProtocolsChange(event),
            ConnectionEvent::RemoteProtocolsChange(event) => ConnectionEvent::RemoteProtocolsChange(event),
            // The enum is open; what a later libp2p adds has no inner form that we could name.
            _ => return,
        };
        self.inner.on_connection_event(event);
    }
}

/// An inbound upgrade that offers no protocol while the gate is shut.
pub(crate) struct GatedUpgrade<U> {
    inner: U,
    open: bool,
}

impl<U: UpgradeInfoSend> UpgradeInfo for GatedUpgrade<U> {
    type Info = U::Info;
    type InfoIter = Take<U::InfoIter>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.inner.protocol_info().take(if self.open { usize::MAX } else { 0 })
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for GatedUpgrade<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        self.inner.upgrade_inbound(stream, info)
    }
}
