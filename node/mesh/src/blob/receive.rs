//! The receiver's side of a transfer.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use jobmesh_keys::NodeId;
use jobmesh_protocol::{BlobRef, cbor};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{
    Answer, Challenge, DAMAGED, FetchError, HEADER_BYTES_MAX, PROTOCOL, Request, Requested, SILENCE_MAX, WAIT, tree,
};
use crate::context::Context;
use crate::counters::Counters;
use crate::frame;
use crate::peer_id::peer_of;

/// How often a sender may say that it has to hash its file first: every five seconds for ten minutes.
const WAITS_MAX: u32 = 120;

/// Bytes read at a time of what is here already.
const READ_BYTES: usize = 256 << 10;

/// One transfer in progress.
pub(super) struct Transfer<'a, P> {
    pub(super) from: NodeId,
    pub(super) wanted: Requested,
    into: &'a Path,
    part: PathBuf,
    /// Of what is in the part: the bytes from an earlier attempt, read back, and those received since.
    hasher: blake3::Hasher,
    counters: &'a Counters,
    /// Told of every step forward, with the number of bytes that are on disk since.
    pub(super) on_bytes: P,
    silence_max: Duration,
}

/// Fetches a blob from the admitted member `from` into the file `into`. `on_bytes` hears of each step forward.
///
/// Cancelling keeps what has arrived for the next attempt. Two fetches into one file must not run at once.
pub(crate) async fn fetch(
    context: &Context,
    from: NodeId,
    wanted: Requested,
    into: &Path,
    on_bytes: impl Fn(u64) + Send + Sync,
) -> Result<(), FetchError> {
    let not_connected = FetchError::NotConnected { node: from };
    if !context.routes.contains(&from) {
        return Err(not_connected);
    }
    let (Some(peer), Some(mut control)) = (peer_of(&from), context.control()) else { return Err(not_connected) };
    let counters = &context.counters;
    let mut transfer = Transfer::new((from, wanted), into, counters, on_bytes);
    let (mut file, offset) = transfer.open_part().await?;
    let opened = timeout(SILENCE_MAX, control.open_stream(peer, PROTOCOL)).await;
    let mut stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(transfer.interrupted(io::Error::other(error))),
        Err(_elapsed) => return Err(transfer.interrupted(io::ErrorKind::TimedOut.into())),
    };
    transfer.request(&mut stream, offset, None).await?;
    transfer.receive(&mut stream, &mut file, offset).await?;
    transfer.finish(file, offset > 0).await
}

/// Returns the file that receives the bytes of `into` until it is whole. One of a wrong size is another one.
#[must_use]
pub fn part_path(into: &Path, blob: BlobRef) -> PathBuf {
    let mut name = into.file_name().map(OsString::from).unwrap_or_default();
    name.push(format!(".{}.part", blob.size));
    into.with_file_name(name)
}

impl<'a, P: Fn(u64) + Send + Sync> Transfer<'a, P> {
    pub(super) fn new(
        (from, wanted): (NodeId, Requested),
        into: &'a Path,
        counters: &'a Counters,
        on_bytes: P,
    ) -> Self {
        let part = part_path(into, wanted.blob);
        let hasher = blake3::Hasher::new();
        Self { from, wanted, into, part, hasher, counters, on_bytes, silence_max: SILENCE_MAX }
    }

    /// Opens the `.part` file and returns how much of it counts, hashed already. The rest is cut off.
    async fn open_part(&mut self) -> Result<(File, u64), FetchError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.part).await;
        let mut file = options.map_err(|error| self.file_error(error))?;
        let size = self.wanted.blob.size;
        let found = file.metadata().await.map_err(|error| self.file_error(error))?.len();
        let counts = if found > size { 0 } else { tree::whole_groups(found, size) };
        file.set_len(counts).await.map_err(|error| self.file_error(error))?;
        let (mut offset, mut chunk) = (0_u64, vec![0; READ_BYTES]);
        while offset < counts {
            let count = file.read(&mut chunk).await.map_err(|error| self.file_error(error))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            self.hasher.update(bytes);
            offset = offset.saturating_add(bytes.len() as u64);
        }
        file.seek(io::SeekFrom::Start(offset)).await.map_err(|error| self.file_error(error))?;
        self.counters.add_many("blob_bytes_resumed", offset);
        Ok((file, offset))
    }

    /// Asks for the bytes from `offset` on, or with a challenge, and checks what is announced.
    pub(super) async fn request<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        offset: u64,
        challenge: Option<Challenge>,
    ) -> Result<(), FetchError> {
        let BlobRef { hash, size: expected } = self.wanted.blob;
        let request = cbor::encode(&Request { hash, offset, within: self.wanted.within, challenge });
        frame::send(stream, &request).await.map_err(|error| self.interrupted(error))?;
        let answer = match timeout(self.silence_max, frame::read(stream, HEADER_BYTES_MAX)).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Err(self.interrupted(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => return Err(self.interrupted(io::Error::other(error))),
            Err(_elapsed) => return Err(self.interrupted(io::ErrorKind::TimedOut.into())),
        };
        let answer: Answer =
            cbor::decode(&answer, HEADER_BYTES_MAX).map_err(|error| self.interrupted(io::Error::other(error)))?;
        match answer.size {
            None => Err(FetchError::NotProvided { node: self.from, hash }),
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                self.counters.add("blob_wrong_size");
                Err(FetchError::WrongSize { hash, expected, found })
            }
        }
    }

    /// Receives the bytes from `offset` to the end, and writes what is verified.
    async fn receive<S>(&mut self, stream: &mut S, file: &mut File, mut offset: u64) -> Result<(), FetchError>
    where
        S: AsyncRead + Unpin,
    {
        let blob = self.wanted.blob;
        let (mut encoded, mut waits) = (vec![0; tree::ENCODED_BYTES_MAX], 0);
        while offset < blob.size {
            let length = match self.length(stream).await {
                Ok(WAIT) if waits < WAITS_MAX => {
                    waits += 1;
                    (self.on_bytes)(0);
                    continue;
                }
                Ok(DAMAGED) => return Err(FetchError::Damaged { node: self.from, hash: blob.hash }),
                Ok(length) => length,
                Err(error) => return Err(self.interrupted(error)),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(room) = encoded.get_mut(..length).filter(|room| !room.is_empty()) else {
                return Err(self.wrong(offset));
            };
            if let Err(error) = self.read_all(stream, room).await {
                return Err(self.interrupted(error));
            }
            let range = tree::segment(offset, blob.size);
            let bytes = tree::decode(blob, range.clone(), room);
            self.hasher.update(&bytes);
            self.keep(file, &bytes).await?;
            offset = offset.saturating_add(bytes.len() as u64);
            if offset != range.end {
                return Err(self.wrong(offset));
            }
        }
        Ok(())
    }

    /// Writes verified bytes out: what this returned for survives a kill.
    async fn keep(&self, file: &mut File, bytes: &[u8]) -> Result<(), FetchError> {
        file.write_all(bytes).await.map_err(|error| self.file_error(error))?;
        file.flush().await.map_err(|error| self.file_error(error))?;
        self.counters.add_many("blob_bytes_received", bytes.len() as u64);
        (self.on_bytes)(bytes.len() as u64);
        Ok(())
    }

    pub(super) async fn length<S: AsyncRead + Unpin>(&self, stream: &mut S) -> io::Result<u32> {
        let mut prefix = [0; 4];
        self.read_all(stream, &mut prefix).await?;
        Ok(u32::from_be_bytes(prefix))
    }

    /// Fills `room`, of which some must come again and again.
    pub(super) async fn read_all<S: AsyncRead + Unpin>(&self, stream: &mut S, room: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let count =
                timeout(self.silence_max, stream.read(rest)).await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += count;
        }
        Ok(())
    }

    /// Checks the hash of the whole and gives the file its name.
    async fn finish(self, file: File, is_resumed: bool) -> Result<(), FetchError> {
        let hash = self.wanted.blob.hash;
        if self.hasher.finalize().as_bytes() != hash.as_bytes() {
            drop(file);
            fs::remove_file(&self.part).await.map_err(|error| self.file_error(error))?;
            self.counters.add("blob_wrong_start");
            // Without a start, every byte was verified as it came, unless there was none to verify.
            return Err(if is_resumed { FetchError::WrongStart { hash } } else { self.wrong(0) });
        }
        file.sync_all().await.map_err(|error| self.file_error(error))?;
        drop(file);
        fs::rename(&self.part, self.into).await.map_err(|error| self.file_error(error))?;
        // The name is durable once the folder is.
        let folder = self.into.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).await.map_err(|error| self.file_error(error))?;
        folder.sync_all().await.map_err(|error| self.file_error(error))
    }

    fn wrong(&self, offset: u64) -> FetchError {
        self.counters.add("blob_wrong_bytes");
        FetchError::WrongBytes { node: self.from, hash: self.wanted.blob.hash, offset }
    }

    pub(super) fn interrupted(&self, source: io::Error) -> FetchError {
        FetchError::Interrupted { node: self.from, hash: self.wanted.blob.hash, source }
    }

    pub(super) fn file_error(&self, source: io::Error) -> FetchError {
        FetchError::File { hash: self.wanted.blob.hash, path: self.into.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests;
