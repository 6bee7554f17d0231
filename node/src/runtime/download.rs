//! Bringing blobs and trees here from peers.
//!
//! A blob that is here is not fetched, nor is one that is on its way: whoever else wants it waits for that transfer, and
//! tries by itself only if it fails. But that it is here is no reason to believe that the peer has it: one that names it
//! and has only heard of it would get at ours, by a job that prints its input. So the peer must show that it has the
//! bytes, once; of one that can't, the blob is fetched as if it was not here. A tree is its list first, which says how
//! much is to come; then its files, the small ones many at a time (module `batch`). No peer takes more than its share of
//! the line (module `turns`).
//!
//! **The hard case** is the disk: what can't fit is refused before its first byte, and what did not fit after all fails
//! what it was for, and nothing else.

mod batch;
mod turns;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jobmesh_engine::{BlobKind, Input, Remedy, Wanted};
use jobmesh_executors::{ShelfError, TreeReadError};
use jobmesh_mesh::{FetchError, Mesh, SMALL_BYTES_MAX, part_path};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{TREE_BYTES_MAX, Tree};
use jobmesh_protocol::{BlobRef, NodeId};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, SemaphorePermit, watch};
use tokio::time::{sleep, timeout};

pub(super) use turns::Downloads;

use super::handle::Handle;
use crate::blobs::{BLOB_BYTES_MAX, WriteError};
use crate::causes::causes;

/// Most loads of one tree at once, so that another job's blob of that peer need not wait for a large tree.
const LOADS_MAX: usize = 4;
/// How often the engine is told that something comes: far more often than its patience with what does not.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often it is told so of what waits in line behind other transfers.
const IN_LINE: Duration = Duration::from_secs(20);
/// What a transfer leaves free on the disk, beside its own bytes: room for the database to go on.
const ROOM_LEFT: u64 = 4 << 20;

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
            // Of its own copy the peer says so itself: it has no other one.
            FetchError::Damaged { .. } => Self { reason, remedy: Remedy::Mending },
            FetchError::WrongSize { .. } => Self::for_good(reason),
            FetchError::File { source, .. } if is_full(&source) => Self::for_good("the disk is full"),
            // What is told to a peer names no path of this machine; the log does.
            FetchError::File { source, .. } => {
                tracing::error!(%reason, "a blob of a peer can't be written");
                Self::for_now(format!("it can't be written to disk: {source}"))
            }
            FetchError::NotConnected { .. }
            | FetchError::NotProvided { .. }
            | FetchError::NotShown { .. }
            | FetchError::WrongBytes { .. }
            | FetchError::WrongStart { .. }
            | FetchError::Interrupted { .. } => Self::for_now(reason),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let reason = causes(&error);
        match error {
            WriteError::Shelf(ShelfError::Full { .. }) => Self::for_good("the disk is full"),
            WriteError::Shelf(
                ShelfError::OverQuota { .. } | ShelfError::AboveQuota { .. } | ShelfError::TooLarge { .. },
            ) => Self::for_good(reason),
            // What is told to a peer names no path of this machine; the log does.
            WriteError::Shelf(ShelfError::File { source, .. }) => {
                tracing::error!(%reason, "blobs of a peer can't be written");
                Self::for_now(format!("it can't be written to disk: {source}"))
            }
            WriteError::Shelf(ShelfError::Missing { .. } | ShelfError::Damaged { .. } | ShelfError::Stopped)
            | WriteError::Cut { .. }
            | WriteError::Malformed { .. }
            | WriteError::Panicked => Self::for_now(reason),
        }
    }
}

/// Brings what is wanted here, and tells the engine how that goes. Dropped, it keeps what has come.
pub(super) async fn bring(handle: Handle, wanted: Wanted) {
    let (steps, mut told) = watch::channel(0_u64);
    let step = || steps.send_modify(|count| *count += 1);
    let bringing = async {
        let bring = Bring { handle: &handle, from: wanted.from, step: &step };
        match wanted.kind {
            BlobKind::File => bring.load(Load::File(wanted.blob), None).await,
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
    from: NodeId,
    /// Told of every step forward.
    step: &'a S,
}

/// What is brought by one transfer.
enum Load {
    File(BlobRef),
    Batch(Vec<BlobRef>),
}

/// What a transfer holds while it goes on.
struct Turn<'a> {
    _alone: Vec<OwnedMutexGuard<()>>,
    _share: Option<OwnedSemaphorePermit>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl<S: Fn() + Send + Sync> Bring<'_, S> {
    async fn load(&self, load: Load, within: Option<Hash>) -> Result<(), Failure> {
        match load {
            Load::Batch(blobs) => self.batch(blobs, within).await,
            Load::File(blob) if blob.size <= SMALL_BYTES_MAX => self.batch(vec![blob], within).await,
            Load::File(blob) => self.file(blob, within).await,
        }
    }

    /// Brings a blob that is not small.
    async fn file(&self, blob: BlobRef, within: Option<Hash>) -> Result<(), Failure> {
        if blob.size > BLOB_BYTES_MAX {
            let (hash, size) = (blob.hash.short(), blob.size);
            return Err(Failure::for_good(format!("blob {hash} has {size} bytes; this node takes {BLOB_BYTES_MAX}")));
        }
        let is_shown = || self.downloads().is_shown(self.wanted(blob, BlobKind::File));
        if is_shown() && self.is_here(blob).await {
            return Ok(());
        }
        let _turn = self.turn(&[blob]).await;
        let mesh = self.mesh()?;
        let wanted = jobmesh_mesh::Requested { blob, within };
        let path = self.handle.blobs().path_of(blob.hash);
        let is_here = self.is_here(blob).await;
        if is_here && (is_shown() || self.shows(&mesh, wanted, &path).await) {
            return Ok(());
        }
        self.make_room(&[blob]).await?;
        // A node that keeps as much as it may takes no more, not even from those that it works for.
        let room = self.handle.blobs().room(blob.size).await?;
        mesh.fetch(self.from, wanted, &path, |_| (self.step)()).await?;
        // What took the place of the same bytes needs no more room than they did.
        if !is_here {
            room.keep();
        }
        self.downloads().show(self.wanted(blob, BlobKind::File));
        Ok(())
    }

    fn downloads(&self) -> &Downloads {
        &self.handle.shared().downloads
    }

    fn mesh(&self) -> Result<Mesh, Failure> {
        let mesh = self.handle.shared().link.mesh();
        mesh.ok_or_else(|| Failure::for_now("this node is not connected to its mesh"))
    }

    async fn is_here(&self, blob: BlobRef) -> bool {
        self.handle.blobs().missing(vec![blob]).await.is_empty()
    }

    const fn wanted(&self, blob: BlobRef, kind: BlobKind) -> Wanted {
        Wanted { blob, kind, from: self.from }
    }

    /// Waits until nobody else brings any of these blobs, and for room on the line.
    async fn turn(&self, blobs: &[BlobRef]) -> Turn<'_> {
        // In one order, so that no two wait for each other; and once each, since a peer may name a hash with two sizes.
        let hashes: BTreeSet<Hash> = blobs.iter().map(|blob| blob.hash).collect();
        let mut alone = Vec::with_capacity(hashes.len());
        for hash in hashes {
            alone.push(self.in_line(self.downloads().lock_of(hash).lock_owned()).await);
        }
        // Closed they never are; if they were, more would go on at once.
        let share = self.in_line(self.downloads().share_of(self.from).acquire_owned()).await.ok();
        let permit = self.in_line(self.downloads().transfers.acquire()).await.ok();
        Turn { _alone: alone, _share: share, _permit: permit }
    }

    /// Has the peer show that it has a blob that is here, at `path`.
    async fn shows(&self, mesh: &Mesh, wanted: jobmesh_mesh::Requested, path: &Path) -> bool {
        let showing = mesh.verify_possession(self.from, wanted, path, || (self.step)());
        match self.in_line(showing).await {
            Ok(()) => {
                self.downloads().show(self.wanted(wanted.blob, BlobKind::File));
                true
            }
            Err(error) => {
                let (peer, reason) = (self.from.short(), causes(&error));
                tracing::warn!(peer = %peer, %reason, "a peer named a blob of this node and has not shown that it has it");
                false
            }
        }
    }

    async fn tree(&self, list: BlobRef) -> Result<(), Failure> {
        if list.size > TREE_BYTES_MAX as u64 {
            let (hash, size) = (list.hash.short(), list.size);
            let reason = format!("the list of tree {hash} has {size} bytes; the limit is {TREE_BYTES_MAX}");
            return Err(Failure::for_good(reason));
        }
        self.load(Load::File(list), None).await?;
        let tree = self.wanted(list, BlobKind::Tree);
        let (here, missing) = self.files_of(list).await?;
        let (bytes, quota) = (missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add), self.quota());
        if bytes > quota {
            return Err(Failure::for_good(format!("its files have {bytes} bytes; this node keeps {quota} at most")));
        }
        self.make_room(&missing).await?;
        // Of a tree that the peer has, it has the files.
        let mut wanted: BTreeSet<BlobRef> = missing.into_iter().collect();
        if !self.downloads().is_shown(tree) {
            wanted.extend(here);
        }
        let loads = futures::stream::iter(batch::loads(wanted));
        let loads = loads.map(|load| self.load(load, Some(list.hash))).buffer_unordered(LOADS_MAX);
        loads.try_collect::<()>().await?;
        self.downloads().show(tree);
        Ok(())
    }

    /// The files of a tree whose list is here: those that are here, too, and those that are not.
    async fn files_of(&self, list: BlobRef) -> Result<(Vec<BlobRef>, Vec<BlobRef>), Failure> {
        let blobs = self.handle.blobs().clone();
        let reading = tokio::task::spawn_blocking(move || {
            let tree: Tree = blobs.shelf().tree(list.hash).map_err(|error| match error {
                TreeReadError::Tree(error) => Failure::for_good(error.to_string()),
                TreeReadError::Shelf(error) => {
                    tracing::error!(tree = %list.hash.short(), %error, "a tree of a peer can't be read");
                    Failure::for_now("its list can't be read from disk")
                }
            })?;
            let all: BTreeSet<BlobRef> = tree.blobs().collect();
            Ok(all.into_iter().partition(|blob| blobs.has(*blob)))
        });
        reading.await.map_err(|error| Failure::for_now(error.to_string()))?
    }

    fn quota(&self) -> u64 {
        self.handle.blobs().shelf().quota()
    }

    /// Refuses what there is no room for, even without the parts that nobody goes on with.
    async fn make_room(&self, blobs: &[BlobRef]) -> Result<(), Failure> {
        let (handle, wanted) = (self.handle.clone(), blobs.to_vec());
        let making = tokio::task::spawn_blocking(move || {
            let all = handle.blobs();
            let rest = |blob: &BlobRef| {
                let part = std::fs::metadata(part_path(&all.path_of(blob.hash), *blob));
                blob.size.saturating_sub(part.map_or(0, |found| found.len()))
            };
            let bytes = wanted.iter().fold(0_u64, |sum, blob| sum.saturating_add(rest(blob)));
            room_for(all.folder(), bytes).or_else(|_| {
                handle.shared().downloads.sweep_all_parts(all.folder());
                room_for(all.folder(), bytes)
            })
        });
        making.await.map_err(|error| Failure::for_now(error.to_string()))?
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

/// Refuses what the disk has no room for. Where the system does not say, the transfer finds out.
fn room_for(folder: &Path, bytes: u64) -> Result<(), Failure> {
    let Ok(found) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes.saturating_add(ROOM_LEFT) {
        return Ok(());
    }
    Err(Failure::for_good(format!("the disk has no room for it: {bytes} bytes were to come, and {free} are free")))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let folder = std::env::temp_dir();
        assert!(room_for(&folder, 0).is_ok());
        let refused = room_for(&folder, u64::MAX).err();
        assert!(refused.is_some_and(|failure| {
            failure.remedy == Remedy::None && failure.reason.starts_with("the disk has no room")
        }));
    }
}
