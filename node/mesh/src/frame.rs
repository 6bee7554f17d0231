//! Length-prefixed frames on a byte stream: four bytes big-endian, then so many bytes.
//!
//! The length is checked before a byte of the body is read, and the body must follow within a deadline: a frame
//! costs a peer what it costs us.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a peer may take over the bytes of one frame once it began: 20 s is 13 KiB/s for the largest.
pub(crate) const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// Says why a frame can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The prefix announces more than is allowed here.
    #[error("frame of {found} bytes exceeds the limit of {max}")]
    TooLong {
        /// The announced length.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
    /// The frame began but did not end in time.
    #[error("frame did not arrive within {} s", BODY_DEADLINE.as_secs())]
    Stalled,
    /// The stream broke.
    #[error("stream broke")]
    Io(#[source] io::Error),
}

impl FrameError {
    /// The counter for this error.
    pub(crate) fn counter(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "frame_too_long",
            Self::Truncated => "frame_truncated",
            Self::Stalled => "frame_stalled",
            Self::Io(_) => "stream_broken",
        }
    }
}

/// Reads one frame of at most `max` bytes; `None` if the stream ends before it begins. Not cancel-safe.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> Result<Option<Vec<u8>>, FrameError> {
    let mut first = [0_u8; 1];
    // Waiting for a frame to begin has no limit: a session may be silent for hours.
    if stream.read(&mut first).await.map_err(FrameError::Io)? == 0 {
        return Ok(None);
    }
    match timeout(BODY_DEADLINE, read_rest(stream, first[0], max)).await {
        Ok(frame) => frame.map(Some),
        Err(_elapsed) => Err(FrameError::Stalled),
    }
}

/// Reads the frame whose first length byte is `first`.
async fn read_rest<S: AsyncRead + Unpin>(stream: &mut S, first: u8, max: usize) -> Result<Vec<u8>, FrameError> {
    let mut prefix = [first, 0, 0, 0];
    let [_, rest @ ..] = &mut prefix;
    stream.read_exact(rest).await.map_err(ended)?;
    let found = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if found > max {
        return Err(FrameError::TooLong { found, max });
    }
    let mut body = vec![0; found];
    stream.read_exact(&mut body).await.map_err(ended)?;
    Ok(body)
}

/// Tells an early end from other failures.
fn ended(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof { FrameError::Truncated } else { FrameError::Io(error) }
}

/// Writes one frame without flushing. Not cancel-safe.
///
/// # Errors
/// The stream's, or `InvalidInput` if the frame is too long for its prefix.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "frame is longer than its prefix can say"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(body).await
}

/// Appends one frame to what is to be written at once. `body` is one of ours, and short.
pub(crate) fn put(into: &mut Vec<u8>, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    assert!(length < u32::MAX, "only short frames are put together");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(body);
}

/// Writes one frame and flushes, within [`BODY_DEADLINE`]. Not cancel-safe.
pub(crate) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, body: &[u8]) -> io::Result<()> {
    let sent = timeout(BODY_DEADLINE, async {
        write(stream, body).await?;
        stream.flush().await
    });
    sent.await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn frames_come_back_as_written() {
        let mut stream = Cursor::new(Vec::new());
        send(&mut stream, b"one").await.unwrap();
        send(&mut stream, b"").await.unwrap();
        stream.set_position(0);
        assert_eq!(read(&mut stream, 3).await.unwrap(), Some(b"one".to_vec()));
        assert_eq!(read(&mut stream, 3).await.unwrap(), Some(Vec::new()));
        assert_eq!(read(&mut stream, 3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn hostile_lengths_and_early_ends_are_errors() {
        let mut long = Cursor::new(vec![0xFF; 8]);
        assert!(matches!(read(&mut long, 256).await, Err(FrameError::TooLong { max: 256, .. })));
        let mut short = Cursor::new(vec![0, 0, 0, 9, 1]);
        assert!(matches!(read(&mut short, 256).await, Err(FrameError::Truncated)));
        let mut prefix = Cursor::new(vec![0, 0]);
        assert!(matches!(read(&mut prefix, 256).await, Err(FrameError::Truncated)));
    }
}
