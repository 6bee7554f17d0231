//! Output of a run as it is written, from the node where it runs to the one whose job it is.
//!
//! Request {which run, which output, offset, whether to go on} → answer {known or not}, then frames with the bytes from
//! the offset on; an empty frame says that the run is over and everything was told. A stream that ends without one broke,
//! and the reader asks again from where it is. What a reader does not take in time is not kept for it: it is cut off and
//! comes again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use jobmesh_keys::NodeId;
use jobmesh_protocol::cbor;
use jobmesh_protocol::ticket::LeaseKey;
use libp2p::{PeerId, Stream, StreamProtocol};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::context::Context;
use crate::event::Event;
use crate::frame;
use crate::peer_id::node_of;
use crate::question::{AskError, Question, ask};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/log/1");

/// Largest request or answer.
const HEADER_BYTES_MAX: usize = 256;

/// Most bytes of one frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// How long a peer may take over the answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Which bytes of a run's output are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// The run, by the name that both nodes know it by.
    pub key: LeaseKey,
    /// Which output.
    pub output: LogOutput,
    /// How many bytes to leave out at the start.
    pub offset: u64,
    /// Whether to go on until the run is over; else what is there is told.
    pub follow: bool,
}

/// One of the two outputs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Answers a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Whether the run is known here and belongs to whoever asks.
    known: bool,
}

/// What comes of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPiece {
    /// The next bytes, at least one and at most 64 KiB.
    Bytes(Vec<u8>),
    /// The run is over, or nobody wanted to wait for that, and everything was told.
    End,
}

/// Says why an output can't be read any further for now.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The peer is not admitted.
    #[error("node {} is not connected", .node.short())]
    NotConnected {
        /// The peer.
        node: NodeId,
    },
    /// The peer knows no such run, or not as one of this node's.
    #[error("node {} knows no such run", .node.short())]
    Unknown {
        /// The peer.
        node: NodeId,
    },
    /// The stream broke; what is read next begins where it did.
    #[error("the output from node {} broke off; ask again from where it is", .node.short())]
    Interrupted {
        /// The peer.
        node: NodeId,
        /// What broke.
        source: io::Error,
    },
}

/// An output that is being read from a peer.
#[derive(Debug)]
pub struct LogReader {
    node: NodeId,
    stream: Stream,
    /// How long the peer may be silent; a run that is followed may be so for as long as it likes.
    patience: Option<Duration>,
}

impl LogReader {
    /// The next piece. Not cancel-safe: a reader whose wait was dropped is to be dropped too.
    ///
    /// # Errors
    /// [`LogError::Interrupted`].
    pub async fn next(&mut self) -> Result<LogPiece, LogError> {
        let interrupted = |source| LogError::Interrupted { node: self.node, source };
        let reading = frame::read(&mut self.stream, FRAME_BYTES_MAX);
        let read = match self.patience {
            Some(patience) => {
                timeout(patience, reading).await.map_err(|_elapsed| interrupted(io::ErrorKind::TimedOut.into()))?
            }
            None => reading.await,
        };
        match read {
            Ok(Some(bytes)) if bytes.is_empty() => Ok(LogPiece::End),
            Ok(Some(bytes)) => Ok(LogPiece::Bytes(bytes)),
            Ok(None) => Err(interrupted(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(interrupted(io::Error::other(error))),
        }
    }
}

/// Asks the admitted member `from` for the output of a run.
pub(crate) async fn read(context: &Context, from: NodeId, request: LogRequest) -> Result<LogReader, LogError> {
    let mut frames = Vec::new();
    frame::put(&mut frames, &cbor::encode(&request));
    let (answer_bytes_max, patience) = (HEADER_BYTES_MAX, ANSWER_MAX);
    let asked = ask(context, from, Question { protocol: PROTOCOL, frames: &frames, answer_bytes_max, patience }).await;
    let interrupted = |source| LogError::Interrupted { node: from, source };
    let (stream, answer) = asked.map_err(|error| match error {
        AskError::NotConnected => LogError::NotConnected { node: from },
        AskError::Broken(source) => interrupted(source),
    })?;
    let answer = cbor::decode(&answer, HEADER_BYTES_MAX).map_err(|error| interrupted(io::Error::other(error)))?;
    match answer {
        Answer { known: true } => {
            let patience = (!request.follow).then_some(ANSWER_MAX);
            Ok(LogReader { node: from, stream, patience })
        }
        Answer { known: false } => Err(LogError::Unknown { node: from }),
    }
}

/// Serves one stream, to admitted members only.
pub(crate) async fn serve(context: Arc<Context>, peer: PeerId, mut stream: Stream) {
    let Some(node) = node_of(&peer).filter(|node| context.routes.contains(node)) else {
        context.counters.add("log_from_stranger");
        return;
    };
    if let Err(error) = answer(&context, node, &mut stream).await {
        context.counters.add("log_broken");
        tracing::debug!(%node, %error, "output was not served to its end");
    }
}

async fn answer(context: &Context, from: NodeId, stream: &mut Stream) -> io::Result<()> {
    let request = timeout(ANSWER_MAX, frame::read(stream, HEADER_BYTES_MAX)).await;
    let request = request.map_err(|_elapsed| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
    let Some(request) = request else { return Ok(()) };
    let request: LogRequest = cbor::decode(&request, HEADER_BYTES_MAX).map_err(io::Error::other)?;
    let (reply, pieces) = oneshot::channel();
    context.events.send(Event::LogRequested { from, request, reply }).await.map_err(io::Error::other)?;
    let pieces = timeout(ANSWER_MAX, pieces).await.ok().and_then(Result::ok).flatten();
    frame::send(stream, &cbor::encode(&Answer { known: pieces.is_some() })).await?;
    let Some(mut pieces) = pieces else { return stream.close().await };
    while let Some(piece) = pieces.recv().await {
        match piece {
            LogPiece::Bytes(bytes) => {
                for part in bytes.chunks(FRAME_BYTES_MAX) {
                    frame::send(stream, part).await?;
                }
            }
            LogPiece::End => {
                frame::send(stream, &[]).await?;
                break;
            }
        }
    }
    stream.close().await
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::{Epoch, TicketId};
    use jobmesh_tests::fuzz::Target;

    use super::*;

    #[test]
    fn fuzz_questions_and_answers() {
        let key = LeaseKey { ticket: TicketId::from_bytes([7; 16]), epoch: Epoch(3) };
        let request = LogRequest { key, output: LogOutput::Stderr, offset: 1 << 40, follow: true };
        Target::cbor("log-request")
            .sample(cbor::encode(&request))
            .run_stable(|bytes| cbor::decode::<LogRequest>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
        Target::cbor("log-answer")
            .sample(cbor::encode(&Answer { known: true }))
            .run_stable(|bytes| cbor::decode::<Answer>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
    }
}
