//! Answers that count, and those that don't, as the bytes of a stream.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::pin::Pin;
use std::task::{self, Poll};

use futures::io::Cursor;
use jobmesh_protocol::{BlobRef, cbor};

use super::*;
use crate::blob::Answer;
use crate::counters::Counters;
use crate::frame;

const ASKER: NodeId = NodeId::from_bytes([1; 32]);
const HOLDER: NodeId = NodeId::from_bytes([2; 32]);

fn content() -> Vec<u8> {
    (0..600_000_u32).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn challenge(byte: u8) -> Challenge {
    Challenge::new([byte; 32])
}

/// What a holder of these bytes answers.
fn answer(challenge: &Challenge, (asker, holder): (NodeId, NodeId), bytes: &[u8]) -> [u8; 32] {
    let wish = Arc::new(());
    let digest = Key::new(challenge, asker, holder).digest(bytes, bytes.len() as u64, &Arc::downgrade(&wish));
    *digest.unwrap().as_bytes()
}

/// Says what it has to whoever asks, whatever the question.
struct Peer(Cursor<Vec<u8>>);

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Asks a peer that announces `size` and then says `rest`.
async fn ask(blob: BlobRef, copy: &Path, size: Option<u64>, rest: &[u8]) -> Result<(), FetchError> {
    let mut said = Vec::new();
    frame::put(&mut said, &cbor::encode(&Answer { size }));
    said.extend_from_slice(rest);
    let counters = Counters::default();
    let incoming = Incoming::new((HOLDER, blob.into()), &counters, |_| ());
    let mut asked = Asked { incoming, challenge: challenge(7), me: ASKER };
    let mut line = Line::on(Peer(Cursor::new(said)), std::iter::once(asked.question()));
    asked.answered(&mut line, copy.to_owned()).await
}

#[tokio::test]
async fn only_who_has_the_bytes_answers_and_only_to_this_question() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, bytes) = (folder.path().join("copy"), content());
    std::fs::write(&copy, &bytes).unwrap();
    let (blob, nodes) = (BlobRef::of(&bytes), (ASKER, HOLDER));
    let said = |answer: [u8; 32]| [ANSWER_BYTES.to_be_bytes().as_slice(), &answer].concat();
    let good = said(answer(&challenge(7), nodes, &bytes));
    ask(blob, &copy, Some(blob.size), &good).await.unwrap();
    let slow = [[0; 12].as_slice(), &good].concat();
    ask(blob, &copy, Some(blob.size), &slow).await.unwrap();
    let third = NodeId::from_bytes([3; 32]);
    let mut other = bytes.clone();
    other[300_000] ^= 1;
    let wrong = [
        ("the hash itself", *blob.hash.as_bytes()),
        ("other bytes", answer(&challenge(7), nodes, &other)),
        ("an earlier question", answer(&challenge(8), nodes, &bytes)),
        ("had from a third node that was asked", answer(&challenge(7), (HOLDER, third), &bytes)),
        ("what a third node would be told", answer(&challenge(7), (third, HOLDER), &bytes)),
        ("had from the one that asks", answer(&challenge(7), (HOLDER, ASKER), &bytes)),
    ];
    for (what, answer) in wrong {
        let shown = ask(blob, &copy, Some(blob.size), &said(answer)).await;
        assert!(matches!(shown, Err(FetchError::NotShown { .. })), "{what}: {shown:?}");
    }
}

#[tokio::test]
async fn whatever_else_is_said_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, bytes) = (folder.path().join("copy"), content());
    std::fs::write(&copy, &bytes).unwrap();
    let blob = BlobRef::of(&bytes);
    let none = ask(blob, &copy, None, &[]).await;
    assert!(matches!(none, Err(FetchError::NotProvided { .. })), "{none:?}");
    let size = ask(blob, &copy, Some(5), &[]).await;
    assert!(matches!(size, Err(FetchError::WrongSize { found: 5, .. })), "{size:?}");
    let long = ask(blob, &copy, Some(blob.size), &u32::MAX.to_be_bytes()).await;
    assert!(matches!(long, Err(FetchError::Interrupted { .. })), "{long:?}");
    let cut = ask(blob, &copy, Some(blob.size), &[0, 0, 0, 32, 1, 2]).await;
    assert!(matches!(cut, Err(FetchError::Interrupted { .. })), "{cut:?}");
    let ever = ask(blob, &copy, Some(blob.size), &[0; 4 * 200]).await;
    assert!(matches!(ever, Err(FetchError::Interrupted { .. })), "no wait is for ever: {ever:?}");
}

/// A copy that is damaged, or longer than it should be, is none: it is fetched.
#[tokio::test]
async fn a_copy_of_another_size_is_none_and_nobody_computes_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, bytes) = (folder.path().join("copy"), content());
    let blob = BlobRef::of(&bytes);
    let good = [ANSWER_BYTES.to_be_bytes().as_slice(), &answer(&challenge(7), (ASKER, HOLDER), &bytes)].concat();
    for wrong in [&bytes[1..], &[bytes.as_slice(), b"x"].concat()] {
        std::fs::write(&copy, wrong).unwrap();
        let shown = ask(blob, &copy, Some(blob.size), &good).await;
        assert!(matches!(shown, Err(FetchError::File { .. })), "{shown:?}");
    }
    let gone = Weak::new();
    let ended = Key::new(&challenge(7), ASKER, HOLDER).digest(io::repeat(0), u64::MAX, &gone);
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::Interrupted);
}
