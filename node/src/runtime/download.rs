//! Bringing blobs and trees here from peers.
//!
//! A blob that is here is not fetched, nor is one that is on its way: whoever else wants it waits for that transfer, and
//! tries by itself only if it fails. A tree is its list first, which says how much is to come; then its files, a few at
//! a time. **The hard case** is the disk: what can't fit is refused before its first byte, and what did not fit after all
//! fails what it was for, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jobmesh_engine::{BlobKind, Input, Remedy, Wanted};
use jobmesh_mesh::FetchError;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{TREE_BYTES_MAX, Tree};
use jobmesh_protocol::{BlobRef, NodeId};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::handle::Handle;
use crate::blobs::BLOB_BYTES_MAX;
use crate::causes::causes;

/// Most transfers at once: enough to fill a line, few enough to leave each a share of it.
const TRANSFERS_MAX: usize = 8;
/// Most files of one tree at once: half of all, so that another job's blob need not wait for a large tree.
const FILES_MAX: usize = 4;
/// How often the engine is told that something comes: far more often than its patience with what does not.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often it is told so of what waits in line behind other transfers.
const IN_LINE: Duration = Duration::from_secs(20);
/// What a transfer leaves free on the disk, beside its own bytes: room for the database to go on.
const ROOM_LEFT: u64 = 4 << 20;

/// The transfers to this node.
pub(super) struct Downloads {
    transfers: Semaphore,
    /// Blobs that are on their way: whoever has the lock fetches it.
    under_way: Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>,
}

/// Why something could not be had.
#[derive(Debug)]
pub(super) struct Failure {
    reason: String,
    remedy: Remedy,
}

impl Failure {
    fn for_good(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: Remedy::None }
    }

    fn for_now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: Remedy::Again }
    }

    /// What the engine is told.
    pub(super) fn into_input(self, wanted: Wanted) -> Input {
        Input::FetchFailed { wanted, reason: self.reason, remedy: self.remedy }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let reason = causes(&error);
        match error {
            FetchError::WrongSize { .. } => Self::for_good(reason),
            FetchError::File { path, source, .. } if is_full(&source) => Self::for_good(full(&path)),
            FetchError::File { .. }
            | FetchError::NotConnected { .. }
            | FetchError::NotProvided { .. }
            | FetchError::Damaged { .. }
            | FetchError::WrongBytes { .. }
            | FetchError::WrongStart { .. }
            | FetchError::Interrupted { .. } => Self::for_now(reason),
        }
    }
}

impl Default for Downloads {
    fn default() -> Self {
        Self { transfers: Semaphore::new(TRANSFERS_MAX), under_way: Mutex::default() }
    }
}

/// Brings what is wanted here, and tells the engine how that goes. Dropped, it keeps what has come.
pub(super) async fn bring(handle: Handle, downloads: Arc<Downloads>, wanted: Wanted) {
    let (steps, mut told) = watch::channel(0_u64);
    let step = || steps.send_modify(|count| *count += 1);
    let bringing = async {
        let bring = Bring { handle: &handle, downloads: &downloads, from: wanted.from, step: &step };
        match wanted.kind {
            BlobKind::File => bring.file(wanted.blob, None).await,
            BlobKind::Tree => bring.tree(wanted.blob).await,
        }
    };
    let telling = async {
        while told.changed().await.is_ok() {
            handle.tell(Input::FetchProgress(wanted)).await;
            sleep(PROGRESS_EVERY).await;
        }
        std::future::pending::<()>().await;
    };
    let brought = tokio::select! {
        biased;
        brought = bringing => brought,
        () = telling => return,
    };
    let input = match brought {
        Ok(()) => Input::Fetched(wanted),
        Err(failure) => failure.into_input(wanted),
    };
    handle.tell(input).await;
}

/// One blob or tree on its way.
struct Bring<'a, S> {
    handle: &'a Handle,
    downloads: &'a Downloads,
    from: NodeId,
    /// Told of every step forward.
    step: &'a S,
}

impl<S: Fn() + Send + Sync> Bring<'_, S> {
    async fn file(&self, blob: BlobRef, within: Option<Hash>) -> Result<(), Failure> {
        if self.handle.blobs().has(blob) {
            return Ok(());
        }
        if blob.size > BLOB_BYTES_MAX {
            let (hash, size) = (blob.hash.short(), blob.size);
            return Err(Failure::for_good(format!("blob {hash} has {size} bytes; this node takes {BLOB_BYTES_MAX}")));
        }
        let lock = self.downloads.lock_of(blob.hash);
        let _alone = self.in_line(lock.lock()).await;
        if self.handle.blobs().has(blob) {
            return Ok(());
        }
        let _permit = self.in_line(self.downloads.transfers.acquire()).await;
        let path = self.handle.blobs().path_of(blob.hash);
        room_for(self.handle.blobs().folder(), blob.size)?;
        // A node that keeps as much as it may takes no more, not even from those that it works for.
        let room = self.handle.blobs().room(blob.size).await.map_err(|error| Failure::for_good(causes(&error)))?;
        let link = &self.handle.shared().link;
        let mesh = link.mesh().ok_or_else(|| Failure::for_now("this node is not connected to its mesh"))?;
        let wanted = jobmesh_mesh::Wanted { blob, within };
        mesh.fetch(self.from, wanted, &path, |_| (self.step)()).await?;
        room.keep();
        Ok(())
    }

    async fn tree(&self, list: BlobRef) -> Result<(), Failure> {
        if list.size > TREE_BYTES_MAX as u64 {
            let (hash, size) = (list.hash.short(), list.size);
            let reason = format!("the list of tree {hash} has {size} bytes; the limit is {TREE_BYTES_MAX}");
            return Err(Failure::for_good(reason));
        }
        self.file(list, None).await?;
        let (blobs, path) = (self.handle.blobs().clone(), self.handle.blobs().path_of(list.hash));
        let reading = tokio::task::spawn_blocking(move || {
            let bytes =
                std::fs::read(&path).map_err(|error| Failure::for_now(format!("{}: {error}", path.display())))?;
            let tree = Tree::decode(&bytes).map_err(|error| Failure::for_good(error.to_string()))?;
            let all: BTreeSet<BlobRef> = tree.blobs().collect();
            Ok::<_, Failure>(all.into_iter().filter(|blob| !blobs.has(*blob)).collect::<Vec<BlobRef>>())
        });
        let missing = reading.await.map_err(|error| Failure::for_now(error.to_string()))??;
        let bytes = missing.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        room_for(self.handle.blobs().folder(), bytes)?;
        futures::stream::iter(missing)
            .map(|blob| self.file(blob, Some(list.hash)))
            .buffer_unordered(FILES_MAX)
            .try_collect()
            .await
    }

    /// Waits for a turn, which is a step forward as well: whoever is in front has to make some.
    async fn in_line<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = Box::pin(turn);
        loop {
            match timeout(IN_LINE, &mut turn).await {
                Ok(turn) => return turn,
                Err(_elapsed) => (self.step)(),
            }
        }
    }
}

impl Downloads {
    fn lock_of(&self, hash: Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = under_way.get(&hash).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        under_way.insert(hash, Arc::downgrade(&lock));
        lock
    }
}

/// Refuses what the disk has no room for. Where the system does not say, the transfer finds out.
fn room_for(folder: &Path, bytes: u64) -> Result<(), Failure> {
    let Ok(found) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes.saturating_add(ROOM_LEFT) {
        return Ok(());
    }
    Err(Failure::for_good(format!("{}: {bytes} bytes were to come, and {free} are free", full(folder))))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn full(path: &Path) -> String {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    format!("the disk that holds {} is full", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_blob_has_one_lock_as_long_as_somebody_wants_it() {
        let downloads = Downloads::default();
        let (one, two) = (Hash::of(b"one"), Hash::of(b"two"));
        let lock = downloads.lock_of(one);
        assert!(Arc::ptr_eq(&lock, &downloads.lock_of(one)));
        assert!(!Arc::ptr_eq(&lock, &downloads.lock_of(two)));
        drop(lock);
        let _two = downloads.lock_of(two);
        assert_eq!(downloads.under_way.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_with_the_place() {
        let folder = std::env::temp_dir();
        assert!(room_for(&folder, 0).is_ok());
        let refused = room_for(&folder, u64::MAX).err();
        assert!(refused.is_some_and(|failure| {
            failure.remedy == Remedy::None && failure.reason.starts_with("the disk that holds ")
        }));
    }
}
