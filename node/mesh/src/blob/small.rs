//! Many small blobs of one member, on one stream: asked for ahead of the answers, which come in the order of the questions.
//!
//! Each on a stream of its own would cost a round trip, and of those that are opened at once the other side takes only
//! some. What comes is verified whole and handed on in memory, a blob at a time; how it is kept is the caller's business,
//! who can have the disk sync many of them at once.
//!
//! **The hard case** is that both sides write and neither reads. So no more is asked ahead than the other side's window of
//! a stream holds, which it has whether it reads or not.

use std::io;

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use jobmesh_keys::NodeId;
use jobmesh_protocol::BlobRef;
use libp2p::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::incoming::Incoming;
use super::serve::write_all;
use super::{ANSWER_MAX, FetchError, HEADER_BYTES_MAX, PROTOCOL, Requested, SILENCE_MAX, tree};
use crate::context::Context;
use crate::counters::Counters;
use crate::frame;
use crate::question::{AskError, Question, ask};

/// Largest blob that is small: it comes in one segment.
pub const SMALL_BYTES_MAX: u64 = tree::SEGMENT_BYTES;

/// Questions that are ahead of their answers at most: 16 KiB, and the window of a stream is 256 KiB.
const AHEAD_MAX: usize = 64;

/// Fetches small blobs from the admitted member `from`, and hands each on as its bytes, in the order in which they are
/// wanted. Ends with the first that can't be had, or when nobody takes them any more, who then knows why. `on_bytes` hears
/// of each step forward.
pub(crate) async fn fetch_small(
    context: &Context,
    from: NodeId,
    wanted: &[Requested],
    into: &mpsc::Sender<Vec<u8>>,
    on_bytes: impl Fn(u64) + Send + Sync,
) -> Result<(), FetchError> {
    assert!(wanted.iter().all(|wanted| wanted.blob.size <= SMALL_BYTES_MAX), "whoever asks has sorted them by size");
    let Some(first) = wanted.first() else { return Ok(()) };
    let incoming = |wanted: &Requested| Incoming::new((from, *wanted), &context.counters, |_| ());
    let questions = wanted.iter().map(|wanted| incoming(wanted).question(0, None));
    let line = Line::open(context, from, questions).await;
    let mut line = line.map_err(|error| incoming(first).unanswered(error))?;
    let place = Place { counters: &context.counters, into, on_bytes };
    receive(&mut line, (from, wanted), &place).await?;
    line.close().await;
    Ok(())
}

/// Where what comes goes.
struct Place<'a, P> {
    counters: &'a Counters,
    into: &'a mpsc::Sender<Vec<u8>>,
    on_bytes: P,
}

async fn receive<S, Q, P>(
    line: &mut Line<S, Q>,
    (from, wanted): (NodeId, &[Requested]),
    place: &Place<'_, P>,
) -> Result<(), FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Iterator<Item = Vec<u8>>,
    P: Fn(u64) + Send + Sync,
{
    let mut encoded = vec![0; tree::ENCODED_BYTES_MAX];
    for wanted in wanted {
        let mut incoming = Incoming::new((from, *wanted), place.counters, &place.on_bytes);
        let answer = line.answer().await.map_err(|error| incoming.interrupted(error))?;
        incoming.check(&answer)?;
        let bytes = match wanted.blob.size {
            0 => Vec::new(),
            _ => incoming.segment(&mut line.stream, &mut encoded, 0).await?,
        };
        // Of none there is nothing that a segment could have verified.
        if bytes.len() as u64 != wanted.blob.size || (bytes.is_empty() && BlobRef::of(&bytes) != wanted.blob) {
            return Err(incoming.wrong(bytes.len() as u64));
        }
        (place.on_bytes)(wanted.blob.size);
        if place.into.send(bytes).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A stream with questions on it.
pub(super) struct Line<S, Q> {
    pub(super) stream: S,
    /// The answer that came as the stream was opened.
    first: Option<Vec<u8>>,
    questions: Questions<Q>,
}

/// What is to be asked, and how many questions are ahead of their answers.
struct Questions<Q> {
    rest: Q,
    ahead: usize,
}

impl<Q: Iterator<Item = Vec<u8>>> Questions<Q> {
    /// The next ones in their frames, as many as may be ahead.
    fn next(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        for question in self.rest.by_ref().take(AHEAD_MAX.saturating_sub(self.ahead)) {
            frame::put(&mut frames, &question);
            self.ahead += 1;
        }
        frames
    }
}

impl<Q: Iterator<Item = Vec<u8>>> Line<Stream, Q> {
    /// Opens a stream to an admitted member and asks the first questions on it.
    pub(super) async fn open(context: &Context, to: NodeId, questions: Q) -> Result<Self, AskError> {
        let mut questions = Questions { rest: questions, ahead: 0 };
        let frames = questions.next();
        let (answer_bytes_max, patience) = (HEADER_BYTES_MAX, ANSWER_MAX);
        let asked = Question { protocol: PROTOCOL, frames: &frames, answer_bytes_max, patience };
        let (stream, first) = ask(context, to, asked).await?;
        Ok(Self { stream, first: Some(first), questions })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, Q: Iterator<Item = Vec<u8>>> Line<S, Q> {
    /// A stream on which nothing was asked yet.
    #[cfg(test)]
    pub(super) fn on(stream: S, questions: Q) -> Self {
        Self { stream, first: None, questions: Questions { rest: questions, ahead: 0 } }
    }

    /// The announcement that answers the next question. What it announces must be read before the next one.
    pub(super) async fn answer(&mut self) -> io::Result<Vec<u8>> {
        // By halves, so that many questions share a packet and the other side never waits for one.
        if self.questions.ahead <= AHEAD_MAX / 2 {
            let frames = self.questions.next();
            if !frames.is_empty() {
                write_all(&mut self.stream, &frames).await?;
            }
        }
        self.questions.ahead = self.questions.ahead.saturating_sub(1);
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let reading = timeout(SILENCE_MAX, frame::read(&mut self.stream, HEADER_BYTES_MAX));
        let read = reading.await.map_err(|_elapsed| io::ErrorKind::TimedOut)?;
        Ok(read.map_err(io::Error::other)?.ok_or(io::ErrorKind::UnexpectedEof)?)
    }

    /// Says that nothing more is asked, so that the other side is done with the stream.
    pub(super) async fn close(mut self) {
        // A stream that breaks now has done what it was for.
        let _ = timeout(SILENCE_MAX, self.stream.close()).await;
    }
}

#[cfg(test)]
mod tests;
