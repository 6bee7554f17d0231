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
use tokio::time::timeout;

use super::incoming::Incoming;
use super::serve::{WAIT_EVERY, write, write_all};
use super::small::Line;
use super::{Challenge, FetchError, Requested, WAIT};
use crate::context::Context;
use crate::peer_id::node_of;

/// What keys are made for here and nowhere else.
const PURPOSE: &str = "jobmesh 2026-11 possession of a blob";

/// Bytes of an answer.
const ANSWER_BYTES: u32 = 32;

/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;

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
    if !context.routes.contains(&from) {
        return Err(FetchError::NotConnected { node: from });
    }
    let shown = async {
        let mut asked = Asked::new(context, (from, wanted), |_| on_step())?;
        let line = Line::open(context, from, std::iter::once(asked.question())).await;
        let mut line = line.map_err(|error| asked.incoming.unanswered(error))?;
        let shown = asked.answered(&mut line, copy.to_owned()).await;
        line.close().await;
        shown
    };
    let shown = shown.await;
    context.counters.add(if shown.is_ok() { "blob_shown" } else { "blob_not_shown" });
    shown
}

/// Has the admitted member `from` show which of these blobs it has, of each of which there is a copy here, on one stream.
/// Returns those that it has shown, in their order. `on_step` hears of each.
pub(crate) async fn verify_small(
    context: &Context,
    from: NodeId,
    wanted: &[(Requested, PathBuf)],
    on_step: impl Fn() + Send + Sync,
) -> Vec<Requested> {
    let mut shown = Vec::new();
    if let Err(error) = verify_each(context, from, (wanted, &mut shown), &on_step).await {
        tracing::debug!(%error, "a peer has not shown all that it was asked for");
    }
    context.counters.add_many("blob_shown", shown.len() as u64);
    context.counters.add_many("blob_not_shown", wanted.len().saturating_sub(shown.len()) as u64);
    shown
}

async fn verify_each(
    context: &Context,
    from: NodeId,
    (wanted, shown): (&[(Requested, PathBuf)], &mut Vec<Requested>),
    on_step: &(impl Fn() + Send + Sync),
) -> Result<(), FetchError> {
    let asked = wanted.iter().map(|(wanted, _)| Asked::new(context, (from, *wanted), |_| on_step()));
    let mut asked = asked.collect::<Result<Vec<_>, FetchError>>()?;
    let questions: Vec<Vec<u8>> = asked.iter().map(Asked::question).collect();
    let Some(first) = asked.first() else { return Ok(()) };
    let line = Line::open(context, from, questions.into_iter()).await;
    let mut line = line.map_err(|error| first.incoming.unanswered(error))?;
    for (asked, (wanted, copy)) in asked.iter_mut().zip(wanted) {
        match asked.answered(&mut line, copy.clone()).await {
            Ok(()) => shown.push(*wanted),
            // Whatever was said of this one, all of it was read.
            Err(error) if error.is_whole_answer() => tracing::debug!(%error, "a peer has not shown a blob"),
            Err(error) => return Err(error),
        }
        on_step();
    }
    line.close().await;
    Ok(())
}

/// A question that is being answered.
struct Asked<'a, P> {
    incoming: Incoming<'a, P>,
    challenge: Challenge,
    me: NodeId,
}

impl<'a, P: Fn(u64) + Send + Sync> Asked<'a, P> {
    fn new(context: &'a Context, (from, wanted): (NodeId, Requested), on_bytes: P) -> Result<Self, FetchError> {
        let not_connected = FetchError::NotConnected { node: from };
        let me = node_of(&context.key.public().to_peer_id()).ok_or(not_connected)?;
        let incoming = Incoming::new((from, wanted), &context.counters, on_bytes);
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| incoming.interrupted(io::Error::other(error)))?;
        Ok(Self { incoming, challenge: Challenge::new(bytes), me })
    }

    fn question(&self) -> Vec<u8> {
        self.incoming.question(0, Some(self.challenge))
    }

    /// Reads the answer, and computes meanwhile what it must be.
    async fn answered<S, Q>(&mut self, line: &mut Line<S, Q>, copy: PathBuf) -> Result<(), FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        Q: Iterator<Item = Vec<u8>>,
    {
        let announced = line.answer().await.map_err(|error| self.incoming.interrupted(error))?;
        self.incoming.check(&announced)?;
        let (from, blob) = (self.incoming.from, self.incoming.wanted.blob);
        let (key, path) = (Key::new(&self.challenge, self.me, from), copy.clone());
        let ours = digest(key, || File::open(copy), blob.size);
        // Both are waited for: what comes next on the stream answers the next question.
        let (theirs, ours) = futures::future::join(self.answer(&mut line.stream), ours).await;
        let theirs = theirs?;
        let ours = ours.map_err(|source| FetchError::File { hash: blob.hash, path, source })?;
        // The comparison of hashes takes the same time wherever they differ.
        let is_shown = blake3::Hash::from_bytes(theirs) == blake3::Hash::from_bytes(ours);
        if is_shown { Ok(()) } else { Err(self.not_shown()) }
    }

    async fn answer<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<[u8; 32], FetchError> {
        if self.incoming.length(stream).await? != ANSWER_BYTES {
            return Err(self.malformed());
        }
        let mut answer = [0; 32];
        self.incoming.read_all(stream, &mut answer).await?;
        Ok(answer)
    }

    fn not_shown(&self) -> FetchError {
        FetchError::NotShown { node: self.incoming.from, hash: self.incoming.wanted.blob.hash }
    }

    /// What was said is no proof, and where the next answer begins nobody can tell.
    fn malformed(&self) -> FetchError {
        self.incoming.interrupted(io::ErrorKind::InvalidData.into())
    }
}

impl FetchError {
    /// Whether the peer said all that it had to say of the blob, so that what follows is about the next one.
    const fn is_whole_answer(&self) -> bool {
        match self {
            Self::NotProvided { .. } | Self::NotShown { .. } | Self::WrongSize { .. } | Self::File { .. } => true,
            Self::NotConnected { .. }
            | Self::Damaged { .. }
            | Self::WrongBytes { .. }
            | Self::WrongStart { .. }
            | Self::Interrupted { .. } => false,
        }
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
