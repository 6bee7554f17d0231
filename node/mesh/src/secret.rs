//! The secrets of a job, from the node whose job it is to the one that runs it.
//!
//! Request {which attempt} → answer {values by variable, or that there are none for whoever asks}. It goes over the
//! encrypted connection of two admitted members and is kept nowhere: not queued, not sent again, not in any frame. Who is
//! not answered gives the attempt back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use jobmesh_keys::NodeId;
use jobmesh_protocol::secret::{ANSWER_BYTES_MAX, Answer, REQUEST_BYTES_MAX, Request};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::context::Context;
use crate::event::Event;
use crate::frame;
use crate::peer_id::node_of;
use crate::question::{self, AskError, Question};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/secrets/1");

/// How long a peer may take over the question.
const QUESTION_MAX: Duration = Duration::from_secs(20);

/// How long a peer may take over the answer: it may have to ask a keyring, and that a person.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// Says why a peer did not answer a question for secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The peer is not admitted.
    #[error("node {} is not connected", .node.short())]
    NotConnected {
        /// The peer.
        node: NodeId,
    },
    /// The stream broke, or the answer is none.
    #[error("node {} did not answer", .node.short())]
    Interrupted {
        /// The peer.
        node: NodeId,
        /// What broke.
        source: io::Error,
    },
}

/// Asks the admitted member `from` for the secrets of a job that it gave this node.
pub(crate) async fn ask(context: &Context, from: NodeId, request: Request) -> Result<Answer, SecretsError> {
    let mut frames = Vec::new();
    frame::put(&mut frames, &request.encode());
    let (answer_bytes_max, patience) = (ANSWER_BYTES_MAX, ANSWER_MAX);
    let asked =
        question::ask(context, from, Question { protocol: PROTOCOL, frames: &frames, answer_bytes_max, patience });
    let interrupted = |source| SecretsError::Interrupted { node: from, source };
    let (_stream, answer) = asked.await.map_err(|error| match error {
        AskError::NotConnected => SecretsError::NotConnected { node: from },
        AskError::Broken(source) => interrupted(source),
    })?;
    Answer::decode(&answer).map_err(|error| interrupted(io::Error::other(error)))
}

/// Serves one stream, to admitted members only.
pub(crate) async fn serve(context: Arc<Context>, peer: PeerId, mut stream: Stream) {
    let Some(node) = node_of(&peer).filter(|node| context.routes.contains(node)) else {
        context.counters.add("secrets_for_stranger");
        return;
    };
    if let Err(error) = answer(&context, node, &mut stream).await {
        context.counters.add("secrets_broken");
        tracing::debug!(%node, %error, "a question for secrets was not answered");
    }
}

async fn answer(context: &Context, from: NodeId, stream: &mut Stream) -> io::Result<()> {
    let request = timeout(QUESTION_MAX, frame::read(stream, REQUEST_BYTES_MAX)).await;
    let request = request.map_err(|_elapsed| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
    let Some(request) = request else { return Ok(()) };
    let request = Request::decode(&request).map_err(io::Error::other)?;
    let (reply, answer) = oneshot::channel();
    context.events.send(Event::SecretsRequested { from, request, reply }).await.map_err(io::Error::other)?;
    let answer = timeout(ANSWER_MAX, answer).await.map_err(|_elapsed| io::ErrorKind::TimedOut)?;
    let answer = answer.map_err(io::Error::other)?.encode();
    if answer.len() > ANSWER_BYTES_MAX {
        context.counters.add("secrets_too_long");
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    frame::send(stream, &answer).await?;
    stream.close().await
}
