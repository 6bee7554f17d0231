//! The handle that the rest of the node holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jobmesh_keys::{Membership, NodeId};
use jobmesh_protocol::Hash;
use jobmesh_protocol::secret::{Answer, Request};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour::PROVIDED_KEYS_MAX;
use crate::blob::{self, FetchError, Requested};
use crate::config::Config;
use crate::context::Context;
use crate::driver::gossip::DIGEST_BYTES_MAX;
use crate::event::Event;
use crate::log::{self, LogError, LogReader, LogRequest};
use crate::secret::{self, SecretsError};
use crate::session::FRAME_BYTES_MAX;
use crate::supervisor::{self, StartError};

/// How long [`Mesh::stop`] waits: one second for the connections to close, and room.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Talks to the mesh. Clones are cheap and equal; the mesh ends with [`Self::stop`] or the last of them.
#[derive(Clone)]
pub struct Mesh {
    pub(crate) context: Arc<Context>,
    /// 256 commands: more than the driver lets wait in any one turn. When it is full, they are dropped and counted;
    /// each of them is a wish that can be had again.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

/// What the handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Look for the providers of a key.
    Find(Hash),
    /// Connect to a node.
    Dial { node: NodeId, addresses: Vec<String> },
    /// Gossip this once.
    Shout(Vec<u8>),
    /// Say hello again to everyone, with new credentials.
    Renewed,
    /// Part from everyone whose certificate no longer counts.
    Revoked,
    /// Fail as a bug would.
    #[cfg(test)]
    Panic,
}

/// Says why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is not admitted.
    #[error("node is not connected")]
    NotConnected,
    /// Too much waits for the peer already.
    #[error("queue to the node is full; wait for it to catch up")]
    Full,
    /// The frame is longer than frames may be.
    #[error("frame exceeds the limit of {FRAME_BYTES_MAX} bytes; send a blob instead")]
    TooLong,
}

impl Mesh {
    /// Starts to listen and connect; returns once every address is listened on.
    ///
    /// Must run on a tokio runtime with time and I/O. Dropping the future before it ends stops what was started.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the configuration or which address can't be had.
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        supervisor::start(config).await
    }

    /// Queues `frame` for `to`. Never waits.
    ///
    /// Frames to one peer arrive in the order of the calls, if they arrive: those on their way when a stream
    /// breaks are lost.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] unless the peer is admitted, [`SendError::Full`] if 1024 frames or 16 MiB wait
    /// for it, [`SendError::TooLong`] above 256 KiB.
    pub fn send(&self, to: NodeId, frame: Vec<u8>) -> Result<(), SendError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        self.context.routes.send(&to, frame)
    }

    /// Gossips `digest`, of at most 8 KiB, to the mesh, now and whenever a peer appears, until the next call.
    ///
    /// It may be lost on the way, and arrive more than once.
    pub fn publish(&self, digest: Vec<u8>) {
        if digest.len() > DIGEST_BYTES_MAX {
            self.context.counters.add("digest_too_long");
            return;
        }
        self.context.digest.send_replace(Some(digest));
    }

    /// Gossips `message`, of at most 8 KiB, once. It may be lost, and arrives as a digest does.
    pub fn shout(&self, message: Vec<u8>) {
        if message.len() > DIGEST_BYTES_MAX {
            self.context.counters.add("digest_too_long");
        } else {
            self.command(Command::Shout(message));
        }
    }

    /// Announces that this node provides exactly `keys`, at most 512 of them, from now on.
    pub fn provide(&self, keys: BTreeSet<Hash>) {
        if keys.len() > PROVIDED_KEYS_MAX {
            self.context.counters.add("too_many_provided_keys");
        }
        self.context.keys.send_replace(keys.into_iter().take(PROVIDED_KEYS_MAX).collect());
    }

    /// Searches for providers of `key`, and connects to them. [`Event::Found`] brings the answer within seconds.
    pub fn find(&self, key: Hash) {
        self.command(Command::Find(key));
    }

    /// Connects to `node` at `addresses`, or where it was met before, or where Kademlia says.
    pub fn dial(&self, node: NodeId, addresses: Vec<String>) {
        self.command(Command::Dial { node, addresses });
    }

    /// Fetches a blob from the admitted member `from` into the file `into`, which appears whole or not at all.
    ///
    /// Every group of 64 KiB is verified before it is written. What arrives is kept in a `.part` file beside `into`,
    /// from which the next attempt resumes; so does one after a cancellation. Two fetches of one blob into one file must
    /// not run at once. `on_bytes` hears of every step forward with the number of bytes, 0 while the peer prepares.
    ///
    /// # Errors
    /// [`FetchError`] says whether to ask another peer or try again.
    pub async fn fetch(
        &self,
        from: NodeId,
        wanted: Requested,
        into: &Path,
        on_bytes: impl Fn(u64) + Send + Sync,
    ) -> Result<(), FetchError> {
        blob::fetch(&self.context, from, wanted, into, on_bytes).await
    }

    /// Fetches blobs of [`crate::SMALL_BYTES_MAX`] at most from the admitted member `from`, on one stream. Each is verified
    /// and handed on as its bytes, in the order of `wanted`; whoever takes them keeps them. With nobody who takes them any
    /// more it ends as if all had come. `on_bytes` hears of every step forward.
    ///
    /// # Errors
    /// [`FetchError`] of the first that could not be had; those before it were handed on.
    pub async fn fetch_small(
        &self,
        from: NodeId,
        wanted: &[Requested],
        into: &mpsc::Sender<Vec<u8>>,
        on_bytes: impl Fn(u64) + Send + Sync,
    ) -> Result<(), FetchError> {
        blob::fetch_small(&self.context, from, wanted, into, on_bytes).await
    }

    /// The same as [`Self::verify_possession`] of many small blobs, on one stream. Returns those that were shown.
    pub async fn verify_possession_small(
        &self,
        from: NodeId,
        wanted: &[(Requested, PathBuf)],
        on_step: impl Fn() + Send + Sync,
    ) -> Vec<Requested> {
        blob::verify_small(&self.context, from, wanted, on_step).await
    }

    /// Has the admitted member `from` show that it has a blob of which there is a `copy` here, and not only its name.
    ///
    /// `on_step` hears that the member still works on it.
    ///
    /// # Errors
    /// [`FetchError`] says what is missing; then the blob is to be fetched as if it was not here.
    pub async fn verify_possession(
        &self,
        from: NodeId,
        wanted: Requested,
        copy: &Path,
        on_step: impl Fn() + Send + Sync,
    ) -> Result<(), FetchError> {
        blob::verify(&self.context, from, wanted, copy, on_step).await
    }

    /// Asks the admitted member `from` for the output of a run that it has for this node.
    ///
    /// # Errors
    /// [`LogError`] says whether to try again.
    pub async fn read_log(&self, from: NodeId, request: LogRequest) -> Result<LogReader, LogError> {
        log::read(&self.context, from, request).await
    }

    /// Asks the admitted member `from` for the secrets of a job that it gave this node.
    ///
    /// # Errors
    /// [`SecretsError`]. A stream that nobody took was asked again already.
    pub async fn ask_secrets(&self, from: NodeId, request: Request) -> Result<Answer, SecretsError> {
        secret::ask(&self.context, from, request).await
    }

    /// Returns the addresses that this node listens on, with their real ports and without `/p2p`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.context.listening()
    }

    /// Returns what was dropped, refused or broken so far, by name.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.context.counters.all()
    }

    /// Shows `membership` to peers from now on, also to those connected.
    pub fn renew(&self, membership: Membership) {
        self.context.credentials.write().unwrap_or_else(PoisonError::into_inner).membership = membership;
        self.command(Command::Renewed);
    }

    /// Refuses exactly the `nodes`, and whom they let in, from now on; those connected are disconnected.
    pub fn revoke(&self, nodes: BTreeSet<NodeId>) {
        self.context.credentials.write().unwrap_or_else(PoisonError::into_inner).revoked = nodes;
        self.command(Command::Revoked);
    }

    /// Closes all connections and ends all tasks; returns after three seconds at the latest.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        if timeout(STOP_DEADLINE, self.tracker.wait()).await.is_err() {
            tracing::warn!("mesh did not stop in time");
        }
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.context.counters.add("command_dropped");
        }
    }
}
