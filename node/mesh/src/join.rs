//! `join`: the one thing that a stranger may ask. One frame there, one frame back.
//!
//! The asking side has no mesh yet, so it brings up a swarm that can do nothing else and takes it down afterwards.
//! A stream that ends without an answer (the other node is busy with other joins, or has just restarted) is tried
//! again until the deadline; the request must therefore be good to ask twice.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncWriteExt as _, StreamExt as _};
use jobmesh_keys::{Identity, NodeId};
use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, DialError, Swarm, SwarmEvent};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, OpenStreamError};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::context::Context;
use crate::event::Event;
use crate::frame::{self, FrameError};
use crate::peer_id::{keypair, node_of, peer_of};
use crate::transport::{self, TransportError};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/join/1");

/// Largest request.
const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Largest answer: room for a membership of three certificates twice over.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// How long the owner of the asked node may take to answer, and a stranger to ask.
const SERVE_DEADLINE: Duration = Duration::from_secs(10);

/// Pause before a stream that ended without an answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long the connection may take to close at the end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Says why a node could not ask to join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The request is too long.
    #[error("request of {found} bytes to join exceeds the limit of {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// The inviting node's id is no key.
    #[error("node id {} in the invite is damaged; copy the invite again", .node.short())]
    NodeId {
        /// The id.
        node: NodeId,
    },
    /// None of the addresses is one.
    #[error("invite holds no address that can be dialled; ask for a new one")]
    NoAddress,
    /// There is no transport.
    #[error("failed to set up the network")]
    Transport(#[from] TransportError),
    /// The inviting node does not answer at any address.
    #[error("failed to reach node {}; check that it runs and that this machine can connect to it", .node.short())]
    Unreachable {
        /// The inviting node.
        node: NodeId,
        /// What the attempts met.
        source: Box<DialError>,
    },
    /// It was reached but does not let anyone join.
    #[error("node {} takes no requests to join", .node.short())]
    Unsupported {
        /// The inviting node.
        node: NodeId,
    },
    /// No answer came in time.
    #[error("node {} did not answer within {} s; it may be busy, try again", .node.short(), .deadline.as_secs())]
    Deadline {
        /// The inviting node.
        node: NodeId,
        /// The time that it had.
        deadline: Duration,
    },
}

/// Asks `inviter` to let this node in: sends `request` and returns the answer.
///
/// Brings up a connection of its own and takes it down again. Dropping the future abandons the attempt; the inviter
/// may have acted on it.
///
/// # Errors
/// [`JoinError`] says which step failed. Only [`JoinError::Deadline`] leaves open whether the request was received.
pub async fn join(
    identity: &Identity,
    inviter: NodeId,
    addresses: &[String],
    request: Vec<u8>,
    deadline: Duration,
) -> Result<Vec<u8>, JoinError> {
    if request.len() > REQUEST_BYTES_MAX {
        return Err(JoinError::TooLong { found: request.len() });
    }
    let peer = peer_of(&inviter).ok_or(JoinError::NodeId { node: inviter })?;
    let addresses: Vec<Multiaddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        return Err(JoinError::NoAddress);
    }
    let key = keypair(identity).ok_or(JoinError::NodeId { node: identity.node() })?;
    let config = swarm::Config::with_tokio_executor().with_smart_dial().with_idle_connection_timeout(deadline);
    let streams = libp2p_stream::Behaviour::new();
    let control = streams.new_control();
    let mut swarm = Swarm::new(transport::build(&key)?, streams, key.public().to_peer_id(), config);
    let unreachable = |error| JoinError::Unreachable { node: inviter, source: Box::new(error) };
    swarm.dial(DialOpts::peer_id(peer).addresses(addresses).build()).map_err(unreachable)?;

    let attempt = async {
        tokio::select! {
            answer = ask(control, peer, inviter, &request) => answer,
            error = drive_until_failure(&mut swarm) => Err(unreachable(error)),
        }
    };
    let answer = timeout(deadline, attempt).await;
    let _ = timeout(CLOSE_DEADLINE, close(&mut swarm, peer)).await;
    answer.unwrap_or(Err(JoinError::Deadline { node: inviter, deadline }))
}

/// Asks again and again until there is an answer. Cancel-safe in that nothing is left open.
async fn ask(mut control: Control, peer: PeerId, node: NodeId, request: &[u8]) -> Result<Vec<u8>, JoinError> {
    loop {
        match control.open_stream(peer, PROTOCOL).await {
            Ok(stream) => match ask_once(stream, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%node, %error, "request to join was not answered, asking again"),
            },
            Err(OpenStreamError::UnsupportedProtocol(_)) => return Err(JoinError::Unsupported { node }),
            Err(error) => tracing::debug!(%node, %error, "stream to join did not open, trying again"),
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn ask_once(mut stream: Stream, request: &[u8]) -> io::Result<Vec<u8>> {
    frame::send(&mut stream, request).await?;
    let answer = frame::read(&mut stream, ANSWER_BYTES_MAX).await.map_err(io::Error::other)?;
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Runs the swarm; returns only if the inviter can't be reached.
async fn drive_until_failure(swarm: &mut Swarm<libp2p_stream::Behaviour>) -> DialError {
    loop {
        if let SwarmEvent::OutgoingConnectionError { error, .. } = swarm.select_next_some().await
            && swarm.connected_peers().next().is_none()
        {
            return error;
        }
    }
}

/// Closes the connection in good order, so that the inviter does not take it for alive when this node, now a
/// member, connects again.
async fn close(swarm: &mut Swarm<libp2p_stream::Behaviour>, peer: PeerId) {
    if swarm.disconnect_peer_id(peer).is_err() {
        return;
    }
    while swarm.is_connected(&peer) {
        swarm.select_next_some().await;
    }
}

/// Serves one stream of a stranger that asks to join.
pub(crate) async fn serve(context: Arc<Context>, peer: PeerId, mut stream: Stream) {
    let Some(from) = node_of(&peer) else { return };
    match timeout(SERVE_DEADLINE, answer(&context, from, &mut stream)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => context.counters.add(error.counter()),
        Err(_elapsed) => context.counters.add("join_late"),
    }
}

async fn answer(context: &Context, from: NodeId, stream: &mut Stream) -> Result<(), FrameError> {
    let Some(request) = frame::read(stream, REQUEST_BYTES_MAX).await? else { return Ok(()) };
    let (reply, answer) = oneshot::channel();
    if context.events.send(Event::Join { from, request, reply }).await.is_err() {
        return Ok(());
    }
    let Ok(answer) = answer.await else { return Ok(()) };
    if answer.len() > ANSWER_BYTES_MAX {
        context.counters.add("join_answer_too_long");
        return Ok(());
    }
    frame::send(stream, &answer).await.map_err(FrameError::Io)?;
    stream.close().await.map_err(FrameError::Io)
}
