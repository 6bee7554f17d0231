//! Many small blobs in one stream, each behind its length as four bytes, the highest first.
//!
//! A tree of thousands of small files would else be as many requests, and the disk be waited for with each. The stream is
//! taken apart as it comes: no more of it is in memory than a few blobs.

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use jobmesh_protocol::BlobRef;
use tokio::sync::mpsc;

use super::{Blobs, WriteError, read_out};
use crate::api::{BLOBS_TOGETHER_MAX, SMALL_BLOB_BYTES_MAX};

/// Blobs that wait for the disk. With more the sender waits.
const WAITING_MAX: usize = 4;

/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

impl Blobs {
    /// Keeps every blob of a stream, durably, and returns them in their order.
    ///
    /// # Errors
    /// [`WriteError`]; of a stream that ends early, what came whole may be kept.
    pub async fn write_many<S, E>(&self, stream: S) -> Result<Vec<BlobRef>, WriteError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let (into, came) = mpsc::channel(WAITING_MAX);
        let (split, kept) = futures::future::join(split(stream, into), self.write_each(came)).await;
        let kept = kept?;
        split.map(|()| kept)
    }
}

/// Takes a stream apart.
async fn split<S, E>(mut stream: S, into: mpsc::Sender<Vec<u8>>) -> Result<(), WriteError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let (mut buffer, mut count) = (BytesMut::new(), 0);
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk.map_err(|error| WriteError::Cut { reason: error.to_string() })?);
        while let Some(blob) = next(&mut buffer)? {
            count += 1;
            if count > BLOBS_TOGETHER_MAX {
                let reason = format!("it has more than {BLOBS_TOGETHER_MAX} blobs");
                return Err(WriteError::Malformed { reason });
            }
            if into.send(blob).await.is_err() {
                // Whoever wrote has failed, and says why.
                read_out(&mut stream).await;
                return Ok(());
            }
        }
    }
    if buffer.is_empty() {
        Ok(())
    } else {
        Err(WriteError::Cut { reason: "a blob is shorter than it says".to_owned() })
    }
}

/// The next blob, if all of it has come.
fn next(buffer: &mut BytesMut) -> Result<Option<Vec<u8>>, WriteError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > SMALL_BLOB_BYTES_MAX {
        let reason = format!("it says that a blob has {length} bytes, and {SMALL_BLOB_BYTES_MAX} is the limit");
        return Err(WriteError::Malformed { reason });
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).to_vec()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io;

    use super::*;

    fn framed(contents: &[Vec<u8>]) -> Vec<u8> {
        let one = |bytes: &Vec<u8>| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat();
        contents.iter().flat_map(one).collect()
    }

    async fn write(blobs: &Blobs, bytes: &[u8], piece: usize) -> Result<Vec<BlobRef>, WriteError> {
        let pieces = bytes.chunks(piece).map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)));
        blobs.write_many(futures::stream::iter(pieces.collect::<Vec<_>>())).await
    }

    #[tokio::test]
    async fn a_stream_is_taken_apart_wherever_its_pieces_end() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let contents: Vec<Vec<u8>> = (0..40_u8).map(|byte| vec![byte; usize::from(byte) * 10]).collect();
        for piece in [1, 3, 7, 1 << 20] {
            let kept = write(&blobs, &framed(&contents), piece).await.unwrap();
            assert_eq!(kept, contents.iter().map(|bytes| BlobRef::of(bytes)).collect::<Vec<_>>(), "{piece}");
            assert_eq!(blobs.missing(kept).await, []);
        }
    }

    #[tokio::test]
    async fn what_is_cut_or_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let cut = write(&blobs, &[0, 0, 0, 5, b'f', b'o'], 10).await.unwrap_err();
        assert!(matches!(cut, WriteError::Cut { .. }), "{cut}");
        let long = write(&blobs, &[0xff; 100], 10).await.unwrap_err().to_string();
        assert!(long.contains("4294967295 bytes") && long.contains("262144 is the limit"), "{long}");
        let many = vec![0; (BLOBS_TOGETHER_MAX + 1) * LENGTH_BYTES];
        let many = write(&blobs, &many, 1 << 20).await.unwrap_err().to_string();
        assert!(many.contains("more than 5000 blobs"), "{many}");
        blobs.shelf().set_quota(3);
        let full = write(&blobs, &framed(&vec![b"four".to_vec(); 100]), 10).await.unwrap_err().to_string();
        assert!(full.contains("quota"), "{full}");
    }
}
