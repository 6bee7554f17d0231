//! Possession: a member shows that it has a blob, and not only the name of it, without sending it.
//!
//! A hash is no secret: receipts and logs have it. Whoever has a blob already and takes a peer's word that it was to be
//! had there, would hand out its own copy to whoever names it. So it asks with a fresh random challenge, and the peer
//! answers with the BLAKE3 hash of the bytes under a key that is made of the challenge. Nothing but the bytes gives the
//! answer, and the answer tells nothing of them to anybody else.
//!
//! **The hard case** is a peer in the middle, which has the same question answered by a third node that has the blob.
//! Both nodes are part of the key, and each knows by the connection who the other is. So an answer counts for the one
//! that gave it, and for the one that asked.
//!
//! Anything that goes wrong means that nothing was shown: the blob is then fetched as if it was not here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use futures::{AsyncRead, AsyncWrite};
use jobmesh_keys::NodeId;
use libp2p::Stream;
use tokio::time::timeout;

use super::receive::Transfer;
use super::serve::{WAIT_EVERY, write, write_all};
use super::{Challenge, FetchError, PROTOCOL, Requested, SILENCE_MAX, WAIT};
use crate::context::Context;
use crate::peer_id::{node_of, peer_of};

/// What keys are made for here and nowhere else.
const PURPOSE: &str = "jobmesh 2026-11 possession of a blob";

/// Bytes of an answer.
const ANSWER_BYTES: u32 = 32;

/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;

/// How often the peer may say that it still reads: every five seconds for ten minutes.
const WAITS_MAX: u32 = 120;

/// What the bytes are hashed with.
#[derive(Clone, Copy)]
struct Key([u8; blake3::KEY_LEN]);

impl Key {
    fn new(challenge: &Challenge, asker: NodeId, holder: NodeId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(PURPOSE);
        hasher.update(challenge.as_ref()).update(asker.as_bytes()).update(holder.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The hash of so many bytes, while somebody wants it.
    fn digest(self, mut file: impl Read, size: u64, wish: &Weak<()>) -> io::Result<blake3::Hash> {
        let (mut hasher, mut chunk) = (blake3::Hasher::new_keyed(&self.0), vec![0; READ_BYTES]);
        loop {
            if wish.strong_count() == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = match file.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            if hasher.count() > size {
                break;
            }
        }
        if hasher.count() == size { Ok(hasher.finalize()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// The hash of a file under a key, computed where a disk may be waited for. A dropped call ends it.
async fn digest(key: Key, open: impl FnOnce() -> io::Result<File> + Send + 'static, size: u64) -> io::Result<[u8; 32]> {
    let wish = Arc::new(());
    let wished = Arc::downgrade(&wish);
    let computing = tokio::task::spawn_blocking(move || key.digest(open()?, size, &wished));
    let computed = computing.await.map_err(io::Error::other)?;
    drop(wish);
    Ok(*computed?.as_bytes())
}

/// Has the admitted member `from` show that it has a blob of which `copy` is here. `on_step` hears that it goes on.
///
/// # Errors
/// [`FetchError::NotShown`], or what kept it from being asked.
pub(crate) async fn verify(
    context: &Context,
    from: NodeId,
    wanted: Requested,
    copy: &Path,
    on_step: impl Fn() + Send + Sync,
) -> Result<(), FetchError> {
    let not_connected = FetchError::NotConnected { node: from };
    if !context.routes.contains(&from) {
        return Err(not_connected);
    }
    let (Some(peer), Some(mut control)) = (peer_of(&from), context.control()) else { return Err(not_connected) };
    let Some(me) = node_of(&context.key.public().to_peer_id()) else { return Err(not_connected) };
    let (step, counters) = (|_| on_step(), &context.counters);
    let transfer = Transfer::new((from, wanted), copy, counters, step);
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| transfer.interrupted(io::Error::other(error)))?;
    let asked = Asked { transfer, challenge: Challenge::new(bytes), me };
    let shown = async {
        let mut stream: Stream = match timeout(SILENCE_MAX, control.open_stream(peer, PROTOCOL)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(asked.transfer.interrupted(io::Error::other(error))),
            Err(_elapsed) => return Err(asked.transfer.interrupted(io::ErrorKind::TimedOut.into())),
        };
        asked.answered(&mut stream, copy.to_owned()).await
    };
    let shown = shown.await;
    counters.add(if shown.is_ok() { "blob_shown" } else { "blob_not_shown" });
    shown
}

/// A question that is being answered.
struct Asked<'a, P> {
    transfer: Transfer<'a, P>,
    challenge: Challenge,
    me: NodeId,
}

impl<P: Fn(u64) + Send + Sync> Asked<'_, P> {
    /// Asks on a stream, and computes meanwhile what the answer must be.
    async fn answered<S>(&self, stream: &mut S, copy: PathBuf) -> Result<(), FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let transfer = &self.transfer;
        transfer.request(stream, 0, Some(self.challenge)).await?;
        let (from, blob) = (transfer.from, transfer.wanted.blob);
        let key = Key::new(&self.challenge, self.me, from);
        let ours = async {
            let digest = digest(key, || File::open(copy), blob.size).await;
            digest.map_err(|error| transfer.file_error(error))
        };
        let (theirs, ours) = futures::future::try_join(self.answer(stream), ours).await?;
        // The comparison of hashes takes the same time wherever they differ.
        let is_shown = blake3::Hash::from_bytes(theirs) == blake3::Hash::from_bytes(ours);
        if is_shown { Ok(()) } else { Err(self.not_shown()) }
    }

    async fn answer<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<[u8; 32], FetchError> {
        let mut waits = 0;
        loop {
            match self.transfer.length(stream).await {
                Ok(WAIT) if waits < WAITS_MAX => {
                    waits += 1;
                    (self.transfer.on_bytes)(0);
                }
                Ok(ANSWER_BYTES) => break,
                Ok(_) => return Err(self.not_shown()),
                Err(error) => return Err(self.transfer.interrupted(error)),
            }
        }
        let mut answer = [0; 32];
        self.transfer.read_all(stream, &mut answer).await.map_err(|error| self.transfer.interrupted(error))?;
        Ok(answer)
    }

    fn not_shown(&self) -> FetchError {
        FetchError::NotShown { node: self.transfer.from, hash: self.transfer.wanted.blob.hash }
    }
}

/// Answers the question of `asker` about a file that it may have. It is told that the answer takes a while.
pub(super) async fn show<S: AsyncWrite + Unpin>(
    context: &Context,
    (asker, challenge): (NodeId, Challenge),
    stream: &mut S,
    (file, size): (Arc<File>, u64),
) -> io::Result<()> {
    let me = node_of(&context.key.public().to_peer_id()).ok_or(io::ErrorKind::InvalidData)?;
    let key = Key::new(&challenge, asker, me);
    let answer = async {
        let _turn = context.outboards.turn(size).await;
        digest(key, move || file.try_clone(), size).await
    };
    let mut answer = Box::pin(answer);
    let answer = loop {
        match timeout(WAIT_EVERY, &mut answer).await {
            Ok(answer) => break answer?,
            Err(_elapsed) => write_all(stream, &WAIT.to_be_bytes()).await?,
        }
    };
    context.counters.add("blob_possession_answered");
    write(stream, &answer).await
}

#[cfg(test)]
mod tests;
