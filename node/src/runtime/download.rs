//! Bringing blobs and trees here from peers.
//!
//! A blob that is here is not fetched, nor is one that is on its way: whoever else wants it waits for that transfer, and
//! tries by itself only if it fails. But that it is here is no reason to believe that the peer has it: one that names it
//! and has only heard of it would get at ours, by a job that prints its input. So the peer must show that it has the
//! bytes, once; of one that can't, the blob is fetched as if it was not here. A tree is its list first, which says how
//! much is to come; then its files, a few at a time. No peer takes more than its share of the line. **The hard case** is the disk: what can't fit is refused before its first byte, and what did not fit after all
//! fails what it was for, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use jobmesh_engine::{BlobKind, Input, Remedy, Wanted};
use jobmesh_executors::TreeReadError;
use jobmesh_mesh::{FetchError, Mesh, part_path};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::TREE_BYTES_MAX;
use jobmesh_protocol::{BlobRef, NodeId};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::handle::Handle;
use crate::blobs::BLOB_BYTES_MAX;
use crate::causes::causes;

/// Most transfers at once: enough to fill a line, few enough to leave each a share of it.
const TRANSFERS_MAX: usize = 16;
/// Most of them from one peer, however slowly it sends what others wait for.
const SHARE_MAX: usize = 6;
/// Most files of one tree at once, so that another job's blob of that peer need not wait for a large tree.
const FILES_MAX: usize = 4;
/// How often the engine is told that something comes: far more often than its patience with what does not.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often it is told so of what waits in line behind other transfers.
const IN_LINE: Duration = Duration::from_secs(20);
/// What a transfer leaves free on the disk, beside its own bytes: room for the database to go on.
const ROOM_LEFT: u64 = 4 << 20;

/// Most blobs of which it is known for now which peer has them. Of what is forgotten the peer is asked again.
const SHOWN_MAX: usize = 16_384;

/// How long a part is kept that nobody goes on with: longer than a node is away over night.
const PART_KEPT: Duration = Duration::from_secs(86_400);
/// How often old parts are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The transfers to this node.
pub(super) struct Downloads {
    transfers: Semaphore,
    /// What each peer may have of them, while something of it is on its way.
    shares: Mutex<BTreeMap<NodeId, Weak<Semaphore>>>,
    /// When old parts were last looked for.
    swept: Mutex<Option<Instant>>,
    /// Blobs that are on their way: whoever has the lock fetches it.
    under_way: Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>,
    shown: Mutex<Shown>,
}

/// What peers have sent or have shown that they have; the newest last. A tree stands for all of its files.
#[derive(Default)]
struct Shown {
    known: BTreeSet<Wanted>,
    order: VecDeque<Wanted>,
}

impl Shown {
    fn add(&mut self, wanted: Wanted) {
        if self.known.insert(wanted) {
            self.order.push_back(wanted);
        }
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
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
            FetchError::File { source, .. } if is_full(&source) => Self::for_good("the disk is full"),
            // What is told to a peer names no path of this machine; the log does.
            FetchError::File { source, .. } => {
                tracing::error!(%reason, "a blob of a peer can't be written");
                Self::for_now(format!("it can't be written to disk: {source}"))
            }
            FetchError::NotConnected { .. }
            | FetchError::NotProvided { .. }
            | FetchError::NotShown { .. }
            | FetchError::Damaged { .. }
            | FetchError::WrongBytes { .. }
            | FetchError::WrongStart { .. }
            | FetchError::Interrupted { .. } => Self::for_now(reason),
        }
    }
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            transfers: Semaphore::new(TRANSFERS_MAX),
            shares: Mutex::default(),
            swept: Mutex::default(),
            under_way: Mutex::default(),
            shown: Mutex::default(),
        }
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
    downloads: &'a Arc<Downloads>,
    from: NodeId,
    /// Told of every step forward.
    step: &'a S,
}

impl<S: Fn() + Send + Sync> Bring<'_, S> {
    async fn file(&self, blob: BlobRef, within: Option<Hash>) -> Result<(), Failure> {
        if self.has(blob) {
            return Ok(());
        }
        if blob.size > BLOB_BYTES_MAX {
            let (hash, size) = (blob.hash.short(), blob.size);
            return Err(Failure::for_good(format!("blob {hash} has {size} bytes; this node takes {BLOB_BYTES_MAX}")));
        }
        let lock = self.downloads.lock_of(blob.hash);
        let _alone = self.in_line(lock.lock()).await;
        let share = self.downloads.share_of(self.from);
        let _share = self.in_line(share.acquire()).await;
        let _permit = self.in_line(self.downloads.transfers.acquire()).await;
        let link = &self.handle.shared().link;
        let mesh = link.mesh().ok_or_else(|| Failure::for_now("this node is not connected to its mesh"))?;
        let wanted = jobmesh_mesh::Requested { blob, within };
        let path = self.handle.blobs().path_of(blob.hash);
        let is_here = self.handle.blobs().has(blob);
        if is_here && (self.has(blob) || self.is_shown(&mesh, wanted, &path).await) {
            return Ok(());
        }
        self.make_room(&[blob]).await?;
        // A node that keeps as much as it may takes no more, not even from those that it works for.
        let room = self.handle.blobs().room(blob.size).await.map_err(|error| Failure::for_good(causes(&error)))?;
        mesh.fetch(self.from, wanted, &path, |_| (self.step)()).await?;
        // What took the place of the same bytes needs no more room than they did.
        if !is_here {
            room.keep();
        }
        self.downloads.show(self.wanted(blob, BlobKind::File));
        Ok(())
    }

    /// Whether a blob is here, and the peer has it, too, as far as is known.
    fn has(&self, blob: BlobRef) -> bool {
        self.handle.blobs().has(blob) && self.downloads.is_shown(self.wanted(blob, BlobKind::File))
    }

    const fn wanted(&self, blob: BlobRef, kind: BlobKind) -> Wanted {
        Wanted { blob, kind, from: self.from }
    }

    /// Has the peer show that it has a blob that is here, at `path`.
    async fn is_shown(&self, mesh: &Mesh, wanted: jobmesh_mesh::Requested, path: &Path) -> bool {
        let showing = mesh.verify_possession(self.from, wanted, path, || (self.step)());
        match self.in_line(showing).await {
            Ok(()) => {
                self.downloads.show(self.wanted(wanted.blob, BlobKind::File));
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
        self.file(list, None).await?;
        let blobs = self.handle.blobs().clone();
        let tree = self.wanted(list, BlobKind::Tree);
        let is_shown = self.downloads.is_shown(tree);
        let reading = tokio::task::spawn_blocking(move || {
            let tree = blobs.shelf().tree(list.hash).map_err(|error| match error {
                TreeReadError::Tree(error) => Failure::for_good(error.to_string()),
                TreeReadError::Shelf(error) => {
                    tracing::error!(tree = %list.hash.short(), %error, "a tree of a peer can't be read");
                    Failure::for_now("its list can't be read from disk")
                }
            })?;
            let all: BTreeSet<BlobRef> = tree.blobs().collect();
            let (here, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|blob| blobs.has(*blob));
            Ok::<_, Failure>((if is_shown { Vec::new() } else { here }, missing))
        });
        let (here, missing) = reading.await.map_err(|error| Failure::for_now(error.to_string()))??;
        let (bytes, quota) = (missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add), self.quota());
        if bytes > quota {
            return Err(Failure::for_good(format!("its files have {bytes} bytes; this node keeps {quota} at most")));
        }
        self.make_room(&missing).await?;
        let files = futures::stream::iter(here.into_iter().chain(missing));
        let files = files.map(|blob| self.file(blob, Some(list.hash))).buffer_unordered(FILES_MAX);
        files.try_collect::<()>().await?;
        self.downloads.show(tree);
        Ok(())
    }

    fn quota(&self) -> u64 {
        self.handle.blobs().shelf().quota()
    }

    /// Refuses what there is no room for, even without the parts that nobody goes on with.
    async fn make_room(&self, blobs: &[BlobRef]) -> Result<(), Failure> {
        let (downloads, all, wanted) = (Arc::clone(self.downloads), self.handle.blobs().clone(), blobs.to_vec());
        let making = tokio::task::spawn_blocking(move || {
            if downloads.is_sweep_due() {
                downloads.sweep(all.folder(), PART_KEPT);
            }
            let rest = |blob: &BlobRef| {
                let part = std::fs::metadata(part_path(&all.path_of(blob.hash), *blob));
                blob.size.saturating_sub(part.map_or(0, |found| found.len()))
            };
            let bytes = wanted.iter().fold(0_u64, |sum, blob| sum.saturating_add(rest(blob)));
            room_for(all.folder(), bytes).or_else(|_| {
                downloads.sweep(all.folder(), Duration::ZERO);
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

    fn is_shown(&self, wanted: Wanted) -> bool {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&wanted)
    }

    fn show(&self, wanted: Wanted) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).add(wanted);
    }

    fn share_of(&self, peer: NodeId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Semaphore::new(SHARE_MAX));
        shares.insert(peer, Arc::downgrade(&share));
        share
    }

    fn is_sweep_due(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        if is_due {
            *swept = Some(Instant::now());
        }
        is_due
    }

    /// Deletes the parts that nobody has written to for so long, and that nobody waits for.
    fn sweep(&self, folder: &Path, age: Duration) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.strip_suffix(".part")?.split_once('.')?.0.parse().ok());
            let Some(hash) = hash else { continue };
            let since = entry.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
            // Held while it is deleted, so that nobody begins to go on with it.
            let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let is_wanted = under_way.get(&hash).is_some_and(|lock| lock.strong_count() > 0);
            if !is_wanted && since.is_some_and(|since| since >= age) {
                let _ = std::fs::remove_file(entry.path());
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
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_peer_has_its_share_and_leaves_the_rest_to_others() {
        let downloads = Downloads::default();
        let (slow, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let share = downloads.share_of(slow);
        let _taken: Vec<_> = (0..SHARE_MAX).map(|_| share.try_acquire().unwrap()).collect();
        assert!(downloads.share_of(slow).try_acquire().is_err());
        assert!(downloads.share_of(other).try_acquire().is_ok());
        // That of the other is forgotten with its last transfer.
        assert!(Arc::ptr_eq(&share, &downloads.share_of(slow)));
        assert_eq!(downloads.shares.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
    }

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
    fn the_oldest_of_what_was_shown_is_forgotten_first() {
        let mut shown = Shown::default();
        let from = NodeId::from_bytes([1; 32]);
        let wanted = |size| Wanted { blob: BlobRef { hash: Hash::of(b"x"), size }, kind: BlobKind::File, from };
        for size in 0..=SHOWN_MAX as u64 {
            shown.add(wanted(size));
            shown.add(wanted(size));
        }
        assert_eq!((shown.known.len(), shown.order.len()), (SHOWN_MAX, SHOWN_MAX));
        assert!(!shown.known.contains(&wanted(0)) && shown.known.contains(&wanted(1)));
    }

    #[test]
    fn parts_go_that_nobody_goes_on_with() {
        let Ok(folder) = tempfile::tempdir() else { panic!("no folder") };
        let downloads = Downloads::default();
        let [wanted, left] = [BlobRef::of(b"wanted"), BlobRef::of(b"left")];
        let part = |blob: BlobRef| part_path(&folder.path().join(blob.hash.to_string()), blob);
        for path in [part(wanted), part(left), folder.path().join("other.part")] {
            assert!(std::fs::write(path, b"x").is_ok());
        }
        let _lock = downloads.lock_of(wanted.hash);
        downloads.sweep(folder.path(), PART_KEPT);
        assert!(part(left).exists());
        downloads.sweep(folder.path(), Duration::ZERO);
        assert!(part(wanted).exists() && !part(left).exists() && folder.path().join("other.part").exists());
        assert!(downloads.is_sweep_due() && !downloads.is_sweep_due());
    }

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
