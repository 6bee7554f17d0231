//! Whose turn it is: which blobs are on their way, what each peer may take of the line, and what it has shown to have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jobmesh_engine::Wanted;
use jobmesh_protocol::NodeId;
use jobmesh_protocol::id::Hash;
use tokio::sync::Semaphore;

/// Most transfers at once: enough to fill a line, few enough to leave each a share of it.
const TRANSFERS_MAX: usize = 16;
/// Most of them from one peer, however slowly it sends what others wait for.
const SHARE_MAX: usize = 6;
/// Most blobs of which it is known for now which peer has them. Of what is forgotten the peer is asked again.
const SHOWN_MAX: usize = 16_384;
/// How long a part is kept that nobody goes on with: longer than a node is away over night.
const PART_KEPT: Duration = Duration::from_secs(86_400);

/// The transfers to this node.
#[derive(Debug)]
pub(in crate::runtime) struct Downloads {
    pub(super) transfers: Semaphore,
    /// What each peer may have of them, while something of it is on its way.
    shares: Mutex<BTreeMap<NodeId, Weak<Semaphore>>>,
    /// Blobs that are on their way: whoever has the lock fetches it.
    under_way: Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>,
    shown: Mutex<Shown>,
}

/// What peers have sent or have shown that they have; the newest last. A tree stands for all of its files.
#[derive(Debug, Default)]
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

impl Default for Downloads {
    fn default() -> Self {
        Self {
            transfers: Semaphore::new(TRANSFERS_MAX),
            shares: Mutex::default(),
            under_way: Mutex::default(),
            shown: Mutex::default(),
        }
    }
}

impl Downloads {
    pub(super) fn lock_of(&self, hash: Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = under_way.get(&hash).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        under_way.insert(hash, Arc::downgrade(&lock));
        lock
    }

    pub(super) fn is_shown(&self, wanted: Wanted) -> bool {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&wanted)
    }

    pub(super) fn show(&self, wanted: Wanted) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).add(wanted);
    }

    pub(super) fn share_of(&self, peer: NodeId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Semaphore::new(SHARE_MAX));
        shares.insert(peer, Arc::downgrade(&share));
        share
    }

    /// Deletes the parts that nobody has gone on with for a day. Returns how many.
    pub(in crate::runtime) fn sweep_old_parts(&self, folder: &Path) -> u64 {
        self.sweep(folder, PART_KEPT)
    }

    /// Deletes the parts that nobody waits for, because the disk has no room.
    pub(super) fn sweep_all_parts(&self, folder: &Path) {
        self.sweep(folder, Duration::ZERO);
    }

    /// Deletes the parts that nobody has written to for so long, and that nobody waits for.
    fn sweep(&self, folder: &Path, age: Duration) -> u64 {
        let mut swept = 0;
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.strip_suffix(".part")?.split_once('.')?.0.parse().ok());
            let Some(hash) = hash else { continue };
            let since = entry.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
            // Held while it is deleted, so that nobody begins to go on with it.
            let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let is_wanted = under_way.get(&hash).is_some_and(|lock| lock.strong_count() > 0);
            let is_left = !is_wanted && since.is_some_and(|since| since >= age);
            if is_left && std::fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
        swept
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_engine::BlobKind;
    use jobmesh_mesh::part_path;
    use jobmesh_protocol::BlobRef;

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
        assert_eq!(downloads.sweep_old_parts(folder.path()), 0);
        assert!(part(left).exists());
        downloads.sweep_all_parts(folder.path());
        assert!(part(wanted).exists() && !part(left).exists() && folder.path().join("other.part").exists());
    }
}
