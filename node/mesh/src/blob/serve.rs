//! The sender's side of a transfer.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bao_tree::io::EncodeError;
use futures::{AsyncWrite, AsyncWriteExt as _};
use jobmesh_keys::NodeId;
use jobmesh_protocol::{Hash, cbor};
use libp2p::{PeerId, Stream};
use rustix::fs::OFlags;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::outboard::{self, Outboard, Outboards};
use super::small::SMALL_BYTES_MAX;
use super::{Answer, DAMAGED, HEADER_BYTES_MAX, Request, SILENCE_MAX, WAIT, possession, tree};
use crate::context::Context;
use crate::event::Event;
use crate::frame;
use crate::peer_id::node_of;

/// How often the receiver is told that the file is still being hashed: well within [`SILENCE_MAX`].
pub(super) const WAIT_EVERY: Duration = Duration::from_secs(5);

/// How many bytes a peer must take within [`SILENCE_MAX`].
const WRITE_BYTES: usize = 64 << 10;

/// Serves one blob stream, to admitted members only.
pub(crate) async fn serve(context: Arc<Context>, peer: PeerId, mut stream: Stream) {
    let Some(node) = node_of(&peer).filter(|node| context.routes.contains(node)) else {
        context.counters.add("blob_from_stranger");
        return;
    };
    context.counters.add("blob_streams");
    if let Err(error) = answer(&context, node, &mut stream).await {
        context.counters.add("blob_broken");
        tracing::debug!(%node, %error, "blob was not served to its end");
    }
}

/// Answers one question after the other, until no more is asked.
async fn answer(context: &Context, from: NodeId, stream: &mut Stream) -> io::Result<()> {
    loop {
        let request = timeout(SILENCE_MAX, frame::read(stream, HEADER_BYTES_MAX)).await;
        let request = request.map_err(|_elapsed| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
        let Some(request) = request else { return stream.close().await };
        let request = cbor::decode(&request, HEADER_BYTES_MAX).map_err(io::Error::other)?;
        answer_one(context, from, stream, request).await?;
    }
}

async fn answer_one(context: &Context, from: NodeId, stream: &mut Stream, request: Request) -> io::Result<()> {
    let Request { hash, offset, within, challenge } = request;
    let (reply, path) = oneshot::channel();
    context.events.send(Event::BlobRequested { from, hash, within, reply }).await.map_err(io::Error::other)?;
    let path = timeout(SILENCE_MAX, path).await.ok().and_then(Result::ok).flatten();
    if path.is_none() {
        context.counters.add("blob_not_theirs");
    }
    // A file that went away since is as good as none, and what is no file must not be waited for.
    let opened = match path {
        Some(path) => tokio::task::spawn_blocking(move || open(&path)).await.map_err(io::Error::other)?.ok().flatten(),
        None => None,
    };
    let size = opened.as_ref().map(|(_, size)| *size);
    // Written with what follows it: a small file then takes one packet, not three.
    let mut announced = Vec::new();
    frame::put(&mut announced, &cbor::encode(&Answer { size }));
    let Some((file, size)) = opened.map(|(file, size)| (Arc::new(file), size)) else {
        return write_all(stream, &announced).await;
    };
    if let Some(challenge) = challenge {
        write_all(stream, &announced).await?;
        return possession::show(context, (from, challenge), stream, (file, size)).await;
    }
    let served = Served { context, hash, file, size };
    if offset == 0 && (1..=SMALL_BYTES_MAX).contains(&size) {
        return served.send_small(stream, announced).await;
    }
    write_all(stream, &announced).await?;
    served.send(stream, offset).await
}

/// Opens what is to be served, if it is a file. It may be a link or a pipe by now, which is neither followed nor waited for.
fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found.len())))
}

/// A file on its way out.
struct Served<'a> {
    context: &'a Context,
    hash: Hash,
    file: Arc<File>,
    size: u64,
}

impl Served<'_> {
    /// Sends everything from `offset` on, as long as the peer keeps taking it.
    async fn send<S: AsyncWrite + Unpin>(&self, stream: &mut S, offset: u64) -> io::Result<()> {
        let Some(outboard) = self.outboard(stream, &self.context.outboards).await? else {
            return self.refuse(stream).await;
        };
        let outboard = Arc::new(outboard);
        let mut offset = offset;
        while offset < self.size {
            let range = tree::segment(offset, self.size);
            let (file, hashes, part) = (Arc::clone(&self.file), Arc::clone(&outboard), range.clone());
            let encoding = tokio::task::spawn_blocking(move || tree::encode(&*file, &*hashes, part));
            match encoding.await.map_err(io::Error::other)? {
                Ok(encoded) => write(stream, &encoded).await?,
                Err(EncodeError::Io(error)) => return Err(error),
                Err(_damaged) => {
                    self.context.outboards.forget(self.hash);
                    return self.refuse(stream).await;
                }
            }
            self.context.counters.add_many("blob_bytes_sent", range.end.saturating_sub(range.start));
            offset = range.end;
        }
        Ok(())
    }

    /// Sends a file that is one segment, behind what announces it. It is hashed faster than its hashes are looked for.
    async fn send_small<S: AsyncWrite + Unpin>(&self, stream: &mut S, mut announced: Vec<u8>) -> io::Result<()> {
        let (file, hash, size) = (Arc::clone(&self.file), self.hash, self.size);
        let encoding = tokio::task::spawn_blocking(move || {
            let Some(outboard) = outboard::small(hash, &file, size)? else { return Ok(None) };
            match tree::encode(&*file, &outboard, 0..size) {
                Ok(encoded) => Ok(Some(encoded)),
                Err(EncodeError::Io(error)) => Err(error),
                Err(_damaged) => Ok(None),
            }
        });
        let Some(encoded) = encoding.await.map_err(io::Error::other)?? else {
            write_all(stream, &announced).await?;
            return self.refuse(stream).await;
        };
        frame::put(&mut announced, &encoded);
        for piece in announced.chunks(WRITE_BYTES) {
            write_all(stream, piece).await?;
        }
        self.context.counters.add_many("blob_bytes_sent", size);
        Ok(())
    }

    /// The hashes of the file. The peer is told that they take a while.
    async fn outboard<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        outboards: &Outboards,
    ) -> io::Result<Option<Outboard>> {
        let mut building = Box::pin(outboards.of(self.hash, &self.file, self.size));
        loop {
            match timeout(WAIT_EVERY, &mut building).await {
                Ok(built) => return built,
                Err(_elapsed) => write_all(stream, &WAIT.to_be_bytes()).await?,
            }
        }
    }

    async fn refuse<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        self.context.counters.add("blob_damaged");
        // Something is wrong with a disk, but how often that is said must not be up to whoever asks: all are counted.
        if self.context.damage_told.is_due() {
            let blob = self.hash.short();
            tracing::warn!(blob, "a file that a peer asked for is damaged, or its hashes were");
        }
        write_all(stream, &DAMAGED.to_be_bytes()).await
    }
}

/// Writes a segment or an answer behind its length.
pub(super) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, encoded: &[u8]) -> io::Result<()> {
    let length = u32::try_from(encoded.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    write_all(stream, &length.to_be_bytes()).await?;
    for piece in encoded.chunks(WRITE_BYTES) {
        write_all(stream, piece).await?;
    }
    Ok(())
}

pub(super) async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    let written = timeout(SILENCE_MAX, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    });
    written.await.map_err(|_elapsed| io::ErrorKind::TimedOut)?
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// A job put a pipe in the place of its log, and each request for it took a thread for good.
    #[test]
    fn neither_a_link_is_followed_nor_a_pipe_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| home.path().join(name));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(open(&file).unwrap().map(|(_, size)| size), Some(1));
        assert!(open(&link).is_err());
        assert!(open(&pipe).unwrap().is_none());
    }
}
