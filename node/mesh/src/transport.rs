//! QUIC, and TCP with Noise and Yamux, under one name resolver.

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, dns, noise, quic, tcp, yamux};

/// Says why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The key can't be used for encryption.
    #[error("failed to set up encryption with the node's key")]
    Noise(#[source] noise::Error),
}

/// Builds the transport.
///
/// Where the system has no usable name resolver, as in a bare container without `/etc/resolv.conf`, addresses with
/// names can't be dialled but a mesh of plain addresses works.
pub(crate) fn build(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportError> {
    match dns::tokio::Transport::system(base(key)?) {
        Ok(transport) => Ok(transport.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no usable name resolver, only plain addresses can be dialled");
            base(key)
        }
    }
}

/// The two transports side by side; the swarm's smart dialling prefers QUIC.
fn base(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(TransportError::Noise)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let quic = quic::tokio::Transport::new(quic::Config::new(key))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let both = OrTransport::new(quic, tcp).map(|either, _| either.into_inner());
    #[cfg(feature = "memory")]
    let both = OrTransport::new(memory(key)?, both).map(|either, _| either.into_inner());
    Ok(both.boxed())
}

/// Channels in this process instead of sockets, under the same encryption as TCP: what differs is what sockets do.
#[cfg(feature = "memory")]
fn memory(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportError> {
    let memory = libp2p::core::transport::MemoryTransport::default()
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(TransportError::Noise)?)
        .multiplex(yamux::Config::default());
    Ok(memory.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed())
}
