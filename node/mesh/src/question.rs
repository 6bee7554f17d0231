//! Asking a member something on a stream of its own, up to the first frame of the answer.
//!
//! **The hard case** is a stream that was opened and that nobody took. The acceptor of the other side holds one stream of
//! each protocol and drops what comes in that moment (module `streams`), as two do that are opened at once. Such a stream
//! ends before anything was said on it, and neither side did anything wrong. So what was asked on it is asked on another
//! one, a few times; every question may be asked twice. Whatever breaks later is the caller's to judge.

use std::io;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use jobmesh_keys::NodeId;
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::Control;
use tokio::time::timeout;

use crate::context::Context;
use crate::frame::{self, FrameError};
use crate::peer_id::peer_of;

/// How many streams are opened for one question: that four in a row meet a busy acceptor means that it is overrun.
const OPENINGS_MAX: u32 = 4;

/// What is asked.
pub(crate) struct Question<'a> {
    /// By which protocol.
    pub(crate) protocol: StreamProtocol,
    /// One frame or several.
    pub(crate) frames: &'a [u8],
    /// Longest first frame of the answer.
    pub(crate) answer_bytes_max: usize,
    /// How long that may take.
    pub(crate) patience: Duration,
}

/// Says why there is no answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The peer is not admitted.
    NotConnected,
    /// The stream broke, or the answer is none.
    Broken(io::Error),
}

/// What became of one stream.
enum Opened {
    Answered(Stream, Vec<u8>),
    /// It ended before anything was said.
    NotTaken(io::Error),
}

/// Asks an admitted member. Returns the stream, and the first frame of the answer.
pub(crate) async fn ask(context: &Context, to: NodeId, asked: Question<'_>) -> Result<(Stream, Vec<u8>), AskError> {
    let patience = asked.patience;
    let asking = async {
        let mut openings = 1;
        loop {
            let control = context.control().filter(|_| context.routes.contains(&to));
            let (Some(peer), Some(control)) = (peer_of(&to), control) else { return Err(AskError::NotConnected) };
            match open(control, peer, &asked).await.map_err(AskError::Broken)? {
                Opened::Answered(stream, answer) => return Ok((stream, answer)),
                Opened::NotTaken(error) if openings == OPENINGS_MAX => return Err(AskError::Broken(error)),
                Opened::NotTaken(_) => {
                    context.counters.add("stream_not_taken");
                    openings += 1;
                }
            }
        }
    };
    timeout(patience, asking).await.unwrap_or_else(|_elapsed| Err(AskError::Broken(io::ErrorKind::TimedOut.into())))
}

async fn open(mut control: Control, peer: PeerId, asked: &Question<'_>) -> io::Result<Opened> {
    let mut stream = control.open_stream(peer, asked.protocol.clone()).await.map_err(io::Error::other)?;
    let sent = async {
        stream.write_all(asked.frames).await?;
        stream.flush().await
    };
    if let Err(error) = sent.await {
        return Ok(Opened::NotTaken(error));
    }
    match frame::read(&mut stream, asked.answer_bytes_max).await {
        Ok(Some(answer)) => Ok(Opened::Answered(stream, answer)),
        Ok(None) => Ok(Opened::NotTaken(io::ErrorKind::UnexpectedEof.into())),
        Err(FrameError::Io(error)) => Ok(Opened::NotTaken(error)),
        Err(error @ (FrameError::TooLong { .. } | FrameError::Truncated | FrameError::Stalled)) => {
            Err(io::Error::other(error))
        }
    }
}
