//! Blobs: files by hash, streamed from a member, resumed where they broke off.
//!
//! Request {hash, offset} → answer {size or not found}, then the bytes from the offset on. What arrives goes into a
//! `.part` file beside its destination; only after the whole of it has the right length and hash, and is on disk,
//! does it get its name. A `.part` that turns out wrong is deleted, so a bad start is not resumed for ever.

use std::ffi::OsString;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use jobmesh_keys::NodeId;
use jobmesh_protocol::{BlobRef, Hash, cbor};
use libp2p::{PeerId, Stream, StreamProtocol};
use serde::{Deserialize, Serialize};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::context::Context;
use crate::event::Event;
use crate::frame;
use crate::peer_id::{node_of, peer_of};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/jobmesh/blob/1");

/// Largest request or answer: a hash and a number.
const HEADER_BYTES_MAX: usize = 256;

/// Bytes moved at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long a peer may be silent in the middle of a transfer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Asks for a blob.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    hash: Hash,
    offset: u64,
}

/// Announces the bytes that follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Size of the whole blob; none if it is not to be had.
    size: Option<u64>,
}

/// Says why a blob did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer is not admitted.
    #[error("node {} is not connected", .node.short())]
    NotConnected {
        /// The peer.
        node: NodeId,
    },
    /// The peer has no such blob, or does not give it to this node.
    #[error("node {} does not provide blob {}", .node.short(), .hash.short())]
    NotProvided {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
    },
    /// The peer's blob has another size than it should; nothing was received.
    #[error("blob {} has {found} bytes at the peer, but should have {expected}", .hash.short())]
    WrongSize {
        /// The blob.
        hash: Hash,
        /// The size asked for.
        expected: u64,
        /// The size announced.
        found: u64,
    },
    /// The bytes received are not those of the blob; they were deleted.
    #[error("bytes received from node {} are not those of blob {}; they were deleted", .node.short(), .hash.short())]
    WrongHash {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
    },
    /// The transfer broke off; what arrived is kept, and the next attempt resumes it.
    #[error("transfer of blob {} from node {} broke off; fetch it again to resume", .hash.short(), .node.short())]
    Interrupted {
        /// The peer.
        node: NodeId,
        /// The blob.
        hash: Hash,
        /// What broke.
        source: io::Error,
    },
    /// The file can't be written.
    #[error("failed to write blob {} to {}", .hash.short(), .path.display())]
    File {
        /// The blob.
        hash: Hash,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// One transfer in progress.
struct Transfer<'a> {
    from: NodeId,
    blob: BlobRef,
    into: &'a Path,
    part: PathBuf,
    hasher: blake3::Hasher,
}

/// Fetches `blob` from the admitted member `from` into the file `into`.
///
/// Cancelling keeps what has arrived for the next attempt. Two fetches into one file must not run at once.
pub(crate) async fn fetch(context: &Context, from: NodeId, blob: BlobRef, into: &Path) -> Result<(), FetchError> {
    let not_connected = FetchError::NotConnected { node: from };
    if !context.routes.contains(&from) {
        return Err(not_connected);
    }
    let (Some(peer), Some(mut control)) = (peer_of(&from), context.control()) else { return Err(not_connected) };
    let mut transfer = Transfer { from, blob, into, part: part_path(into), hasher: blake3::Hasher::new() };
    let (mut file, offset) = transfer.open_part().await?;
    let opened = timeout(SILENCE_MAX, control.open_stream(peer, PROTOCOL)).await;
    let mut stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(transfer.interrupted(io::Error::other(error))),
        Err(_elapsed) => return Err(transfer.interrupted(io::ErrorKind::TimedOut.into())),
    };
    transfer.request(&mut stream, offset).await?;
    transfer.receive(&mut stream, &mut file, offset).await?;
    transfer.finish(file).await
}

/// Returns the file that receives the bytes of `into`.
fn part_path(into: &Path) -> PathBuf {
    let mut name = into.file_name().map(OsString::from).unwrap_or_default();
    name.push(".part");
    into.with_file_name(name)
}

impl Transfer<'_> {
    /// Opens the `.part` file and returns how much of it counts, hashed already.
    async fn open_part(&mut self) -> Result<(File, u64), FetchError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.part).await;
        let mut file = options.map_err(|error| self.file_error(error))?;
        let mut offset = 0_u64;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut chunk).await.map_err(|error| self.file_error(error))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            self.hasher.update(bytes);
            offset = offset.saturating_add(bytes.len() as u64);
        }
        if offset > self.blob.size {
            self.hasher.reset();
            offset = 0;
            file.set_len(0).await.map_err(|error| self.file_error(error))?;
            file.rewind().await.map_err(|error| self.file_error(error))?;
        }
        Ok((file, offset))
    }

    /// Asks for the bytes from `offset` on and checks what is announced.
    async fn request(&self, stream: &mut Stream, offset: u64) -> Result<(), FetchError> {
        let hash = self.blob.hash;
        let request = cbor::encode(&Request { hash, offset });
        frame::send(stream, &request).await.map_err(|error| self.interrupted(error))?;
        let answer = match timeout(SILENCE_MAX, frame::read(stream, HEADER_BYTES_MAX)).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Err(self.interrupted(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => return Err(self.interrupted(io::Error::other(error))),
            Err(_elapsed) => return Err(self.interrupted(io::ErrorKind::TimedOut.into())),
        };
        let answer: Answer =
            cbor::decode(&answer, HEADER_BYTES_MAX).map_err(|error| self.interrupted(io::Error::other(error)))?;
        match answer.size {
            None => Err(FetchError::NotProvided { node: self.from, hash }),
            Some(size) if size == self.blob.size => Ok(()),
            Some(found) => Err(FetchError::WrongSize { hash, expected: self.blob.size, found }),
        }
    }

    /// Receives the bytes from `offset` to the end.
    async fn receive(&mut self, stream: &mut Stream, file: &mut File, offset: u64) -> Result<(), FetchError> {
        let mut left = self.blob.size.saturating_sub(offset);
        let mut chunk = vec![0; CHUNK_BYTES];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let room = chunk.get_mut(..want).unwrap_or_default();
            let count = match timeout(SILENCE_MAX, futures::AsyncReadExt::read(stream, room)).await {
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return Err(self.keep(file, error).await),
                Err(_elapsed) => return Err(self.keep(file, io::ErrorKind::TimedOut.into()).await),
            };
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Err(self.keep(file, io::ErrorKind::UnexpectedEof.into()).await);
            };
            self.hasher.update(bytes);
            file.write_all(bytes).await.map_err(|error| self.file_error(error))?;
            left = left.saturating_sub(bytes.len() as u64);
        }
        Ok(())
    }

    /// Checks the hash and gives the file its name.
    async fn finish(self, mut file: File) -> Result<(), FetchError> {
        let BlobRef { hash, .. } = self.blob;
        if self.hasher.finalize().as_bytes() != hash.as_bytes() {
            drop(file);
            fs::remove_file(&self.part).await.map_err(|error| self.file_error(error))?;
            return Err(FetchError::WrongHash { node: self.from, hash });
        }
        file.flush().await.map_err(|error| self.file_error(error))?;
        file.sync_all().await.map_err(|error| self.file_error(error))?;
        drop(file);
        fs::rename(&self.part, self.into).await.map_err(|error| self.file_error(error))?;
        // The name is durable once the folder is.
        let folder = self.into.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).await.map_err(|error| self.file_error(error))?;
        folder.sync_all().await.map_err(|error| self.file_error(error))
    }

    /// Writes out what arrived before the transfer broke off.
    async fn keep(&self, file: &mut File, error: io::Error) -> FetchError {
        match file.flush().await {
            Ok(()) => self.interrupted(error),
            Err(error) => self.file_error(error),
        }
    }

    fn interrupted(&self, source: io::Error) -> FetchError {
        FetchError::Interrupted { node: self.from, hash: self.blob.hash, source }
    }

    fn file_error(&self, source: io::Error) -> FetchError {
        FetchError::File { hash: self.blob.hash, path: self.into.to_path_buf(), source }
    }
}

/// Serves one blob stream, to admitted members only.
pub(crate) async fn serve(context: Arc<Context>, peer: PeerId, mut stream: Stream) {
    let Some(node) = node_of(&peer).filter(|node| context.routes.contains(node)) else {
        context.counters.add("blob_from_stranger");
        return;
    };
    if let Err(error) = answer(&context, node, &mut stream).await {
        context.counters.add("blob_broken");
        tracing::debug!(%node, %error, "blob was not served to its end");
    }
}

async fn answer(context: &Context, from: NodeId, stream: &mut Stream) -> io::Result<()> {
    let request = timeout(SILENCE_MAX, frame::read(stream, HEADER_BYTES_MAX)).await;
    let request = request.map_err(|_elapsed| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
    let Some(request) = request else { return Ok(()) };
    let request: Request = cbor::decode(&request, HEADER_BYTES_MAX).map_err(io::Error::other)?;
    let (reply, path) = oneshot::channel();
    let asked = Event::BlobRequested { from, hash: request.hash, reply };
    context.events.send(asked).await.map_err(io::Error::other)?;
    let path = timeout(SILENCE_MAX, path).await.ok().and_then(Result::ok).flatten();
    // A file that went away since is as good as none.
    let file = match path {
        Some(path) => File::open(path).await.ok(),
        None => None,
    };
    let Some(mut file) = file else {
        frame::send(stream, &cbor::encode(&Answer { size: None })).await?;
        return stream.close().await;
    };
    let size = file.metadata().await?.len();
    frame::send(stream, &cbor::encode(&Answer { size: Some(size) })).await?;
    file.seek(SeekFrom::Start(request.offset.min(size))).await?;
    copy(&mut file, stream).await?;
    stream.close().await
}

/// Copies the rest of `file` to `stream`, as long as the peer keeps taking it.
async fn copy(file: &mut File, stream: &mut Stream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = tokio::io::AsyncReadExt::read(file, &mut chunk).await?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let written = timeout(SILENCE_MAX, futures::AsyncWriteExt::write_all(stream, bytes)).await;
        written.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_tests::fuzz::Target;

    use super::*;

    #[test]
    fn fuzz_questions_and_answers() {
        let question = cbor::encode(&Request { hash: Hash::of(b"blob"), offset: 300 });
        Target::cbor("blob-request")
            .sample(question)
            .run_stable(|bytes| cbor::decode::<Request>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
        let answers = Target::cbor("blob-answer").sample(cbor::encode(&Answer { size: Some(1 << 40) }));
        answers
            .sample(cbor::encode(&Answer { size: None }))
            .run_stable(|bytes| cbor::decode::<Answer>(bytes, HEADER_BYTES_MAX).map(|found| cbor::encode(&found)));
    }
}
