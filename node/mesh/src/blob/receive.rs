//! The receiver's side of a transfer.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use futures::{AsyncRead, AsyncWriteExt as _};
use jobmesh_keys::NodeId;
use jobmesh_protocol::BlobRef;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::incoming::Incoming;
use super::{ANSWER_MAX, FetchError, HEADER_BYTES_MAX, PROTOCOL, Requested, tree};
use crate::context::Context;
use crate::counters::Counters;
use crate::frame;
use crate::question::{Question, ask};

/// Bytes read at a time of what is here already.
const READ_BYTES: usize = 256 << 10;

/// One transfer in progress.
struct Transfer<'a, P> {
    incoming: Incoming<'a, P>,
    into: &'a Path,
    part: PathBuf,
    /// Of what is in the part: the bytes from an earlier attempt, read back, and those received since.
    hasher: blake3::Hasher,
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
    if !context.routes.contains(&from) {
        return Err(FetchError::NotConnected { node: from });
    }
    let mut transfer = Transfer::new((from, wanted), into, &context.counters, on_bytes);
    let (mut file, offset) = transfer.open_part().await?;
    let mut frames = Vec::new();
    frame::put(&mut frames, &transfer.incoming.question(offset, None));
    let (answer_bytes_max, patience) = (HEADER_BYTES_MAX, ANSWER_MAX);
    let asked = Question { protocol: PROTOCOL, frames: &frames, answer_bytes_max, patience };
    let asked = ask(context, from, asked).await;
    let (mut stream, answer) = asked.map_err(|error| transfer.incoming.unanswered(error))?;
    // Nothing else is asked on this stream. If it is broken, that is noticed by reading.
    let _ = stream.close().await;
    transfer.incoming.check(&answer)?;
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
    fn new((from, wanted): (NodeId, Requested), into: &'a Path, counters: &'a Counters, on_bytes: P) -> Self {
        let (part, hasher) = (part_path(into, wanted.blob), blake3::Hasher::new());
        Self { incoming: Incoming::new((from, wanted), counters, on_bytes), into, part, hasher }
    }

    /// Opens the `.part` file and returns how much of it counts, hashed already. The rest is cut off.
    async fn open_part(&mut self) -> Result<(File, u64), FetchError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.part).await;
        let mut file = options.map_err(|error| self.file_error(error))?;
        let size = self.incoming.wanted.blob.size;
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
        self.incoming.counters.add_many("blob_bytes_resumed", offset);
        Ok((file, offset))
    }

    /// Receives the bytes from `offset` to the end, and writes what is verified.
    async fn receive<S>(&mut self, stream: &mut S, file: &mut File, mut offset: u64) -> Result<(), FetchError>
    where
        S: AsyncRead + Unpin,
    {
        let size = self.incoming.wanted.blob.size;
        let mut encoded = vec![0; tree::ENCODED_BYTES_MAX];
        while offset < size {
            let bytes = self.incoming.segment(stream, &mut encoded, offset).await?;
            self.hasher.update(&bytes);
            self.keep(file, &bytes).await?;
            let end = tree::segment(offset, size).end;
            offset = offset.saturating_add(bytes.len() as u64);
            if offset != end {
                return Err(self.incoming.wrong(offset));
            }
        }
        Ok(())
    }

    /// Writes verified bytes out: what this returned for survives a kill.
    async fn keep(&self, file: &mut File, bytes: &[u8]) -> Result<(), FetchError> {
        file.write_all(bytes).await.map_err(|error| self.file_error(error))?;
        file.flush().await.map_err(|error| self.file_error(error))?;
        (self.incoming.on_bytes)(bytes.len() as u64);
        Ok(())
    }

    /// Checks the hash of the whole and gives the file its name.
    async fn finish(self, file: File, is_resumed: bool) -> Result<(), FetchError> {
        let hash = self.incoming.wanted.blob.hash;
        if self.hasher.finalize().as_bytes() != hash.as_bytes() {
            drop(file);
            fs::remove_file(&self.part).await.map_err(|error| self.file_error(error))?;
            self.incoming.counters.add("blob_wrong_start");
            // Without a start, every byte was verified as it came, unless there was none to verify.
            return Err(if is_resumed { FetchError::WrongStart { hash } } else { self.incoming.wrong(0) });
        }
        file.sync_all().await.map_err(|error| self.file_error(error))?;
        drop(file);
        fs::rename(&self.part, self.into).await.map_err(|error| self.file_error(error))?;
        // The name is durable once the folder is.
        let folder = self.into.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).await.map_err(|error| self.file_error(error))?;
        folder.sync_all().await.map_err(|error| self.file_error(error))
    }

    fn file_error(&self, source: io::Error) -> FetchError {
        FetchError::File { hash: self.incoming.wanted.blob.hash, path: self.into.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests;
