//! The hashes inside of a blob's tree, computed once for each file that is sent, and kept for the next time.
//!
//! They are a thousandth of the file. Nothing here has to be right: what is sent is verified against the hash that was
//! asked for, so hashes that were damaged on disk are found out, deleted, and computed anew.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{CreateOutboard as _, ReadAt};
use jobmesh_protocol::Hash;
use tempfile::NamedTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tree;

/// Largest file whose hashes are not worth a file: they are computed in milliseconds.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of hashes that are computed in memory, those of 16 GiB.
const MEMORY_BYTES_MAX: u64 = 16 << 20;

/// Most bytes of hashes that are kept: those of 256 GiB.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// How much is read at a time while a file is hashed.
const READ_BYTES: usize = 1 << 20;

/// How the name of a file ends while hashes are written to it.
const DRAFT_SUFFIX: &str = ".new";

/// How long nothing is written to such a file before it is taken for left behind.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Files that are hashed at a time: a disk is read best by few.
const BUILDERS_MAX: usize = 2;

/// Where hashes are kept.
#[derive(Debug)]
pub(crate) struct Outboards {
    folder: PathBuf,
    builders: Arc<Semaphore>,
}

/// The hashes of one blob.
pub(super) type Outboard = PreOrderOutboard<Pairs>;

/// Pairs of hashes, in the order in which the tree is walked.
#[derive(Debug)]
pub(super) enum Pairs {
    Memory(Vec<u8>),
    File(File),
}

impl ReadAt for Pairs {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => bytes.read_at(position, into),
            Self::File(file) => file.read_at(position, into),
        }
    }
}

impl Outboards {
    /// Keeps them in this folder, which is made when it is needed.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, builders: Arc::new(Semaphore::new(BUILDERS_MAX)) }
    }

    /// The hashes of the blob in `file`. None if the file is another blob.
    ///
    /// A dropped call goes on hashing in the background.
    ///
    /// # Errors
    /// What the system says if the file can't be read, or many hashes not be kept.
    pub(super) async fn of(&self, hash: Hash, file: &Arc<File>, size: u64) -> io::Result<Option<Outboard>> {
        let (path, file) = (self.path_of(hash), Arc::clone(file));
        if size <= SMALL_BYTES_MAX {
            return tokio::task::spawn_blocking(move || small(hash, &file, size)).await.map_err(io::Error::other)?;
        }
        let place = path.clone();
        let looking = tokio::task::spawn_blocking(move || kept(&place, hash, size));
        if let Some(known) = looking.await.map_err(io::Error::other)? {
            return Ok(Some(known));
        }
        let permit = self.turn(size).await;
        let folder = self.folder.clone();
        let building = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Whoever had the permit before may have done it.
            match kept(&path, hash, size) {
                Some(known) => Ok(Some(known)),
                None => build(&folder, &path, hash, (&file, size)),
            }
        });
        building.await.map_err(io::Error::other)?
    }

    /// A turn at reading a whole file, if it is large. To be kept while it is read.
    pub(super) async fn turn(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        if size <= SMALL_BYTES_MAX { None } else { Arc::clone(&self.builders).acquire_owned().await.ok() }
    }

    /// Drops hashes that turned out to be wrong.
    pub(super) fn forget(&self, hash: Hash) {
        // If they stay, they are found out again.
        let _ = fs::remove_file(self.path_of(hash));
    }

    fn path_of(&self, hash: Hash) -> PathBuf {
        self.folder.join(hash.to_string())
    }
}

/// Tells whether hashes are those of a blob.
trait FilterRoot: Sized {
    fn filter_root(self, hash: Hash) -> Option<Self>;
}

impl FilterRoot for Outboard {
    fn filter_root(self, hash: Hash) -> Option<Self> {
        (self.root == tree::root(hash)).then_some(self)
    }
}

/// What is kept under this path, if it may be the hashes of a blob of this size.
fn kept(path: &Path, hash: Hash, size: u64) -> Option<Outboard> {
    let file = File::open(path).ok()?;
    let (tree, found) = (tree::of(size), file.metadata().ok()?);
    let outboard = PreOrderOutboard { root: tree::root(hash), tree, data: Pairs::File(file) };
    (found.is_file() && found.len() == tree.outboard_size()).then_some(outboard)
}

/// The hashes of a small file, computed now. None if the file is another blob.
pub(super) fn small(hash: Hash, file: &File, size: u64) -> io::Result<Option<Outboard>> {
    Ok(in_memory(file, size)?.filter_root(hash))
}

fn in_memory(file: &File, size: u64) -> io::Result<Outboard> {
    let mut outboard = PreOrderOutboard { tree: tree::of(size), ..PreOrderOutboard::<Vec<u8>>::default() };
    outboard.init_from(BufReader::with_capacity(READ_BYTES, FromStart { file, position: 0 }))?;
    let PreOrderOutboard { root, tree, data } = outboard;
    Ok(PreOrderOutboard { root, tree, data: Pairs::Memory(data) })
}

/// Computes the hashes and keeps them, if there is room for that.
fn build(folder: &Path, path: &Path, hash: Hash, (file, size): (&File, u64)) -> io::Result<Option<Outboard>> {
    fs::create_dir_all(folder)?;
    // A name of its own: the same blob may be hashed twice at once, by two who found nothing kept.
    let draft = NamedTempFile::with_suffix_in(DRAFT_SUFFIX, folder);
    let tree = tree::of(size);
    let (outboard, draft) = if tree.outboard_size() <= MEMORY_BYTES_MAX {
        let outboard = in_memory(file, size)?;
        let Pairs::Memory(bytes) = &outboard.data else { return Ok(outboard.filter_root(hash)) };
        // A full disk must not stop what can be sent without it.
        let written = draft.and_then(|mut draft| draft.write_all(bytes).map(|()| draft));
        match written {
            Ok(draft) => (outboard, draft),
            Err(error) => {
                tracing::debug!(%error, "hashes of a blob are not kept");
                return Ok(outboard.filter_root(hash));
            }
        }
    } else {
        let draft = draft?;
        let mut outboard = PreOrderOutboard { root: tree::root(hash), tree, data: draft.reopen()? };
        outboard.init_from(BufReader::with_capacity(READ_BYTES, FromStart { file, position: 0 }))?;
        (PreOrderOutboard { root: outboard.root, tree, data: Pairs::File(outboard.data) }, draft)
    };
    if outboard.root == tree::root(hash) {
        match draft.persist(path) {
            Ok(_) => make_room(folder, path),
            Err(error) => tracing::debug!(%error, "hashes of a blob are not kept"),
        }
    }
    Ok(outboard.filter_root(hash))
}

/// Deletes the oldest of what is kept, but `newest`, until the rest is not too much.
fn make_room(folder: &Path, newest: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let (found, path) = (entry.metadata().ok()?, entry.path());
            let modified = found.modified().ok()?;
            // One that is being written is let be, unless whoever wrote it has died.
            let is_draft = path.as_os_str().as_encoded_bytes().ends_with(DRAFT_SUFFIX.as_bytes());
            let is_left = modified.elapsed().is_ok_and(|age| age >= DRAFT_AGE_MAX);
            (!is_draft || is_left).then_some((modified, found.len(), path))
        })
        .collect();
    all.sort_unstable();
    let mut bytes: u64 = all.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in all.iter().filter(|(_, _, path)| path != newest) {
        if bytes <= KEPT_BYTES_MAX {
            return;
        }
        if fs::remove_file(path).is_ok() {
            bytes = bytes.saturating_sub(*size);
        }
    }
}

/// Reads a file from its start without moving the place that others read it at.
struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl io::Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.position, into)?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::BlobRef;

    use super::*;

    #[tokio::test]
    async fn hashes_are_computed_once_and_wrong_ones_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![7; 5 << 20];
        fs::write(&path, &bytes).unwrap();
        let (file, blob) = (Arc::new(File::open(&path).unwrap()), BlobRef::of(&bytes));
        let outboards = Outboards::new(folder.path().join("outboards"));
        let other = outboards.of(Hash::of(b"another"), &file, blob.size).await.unwrap();
        assert!(other.is_none() && fs::read_dir(folder.path().join("outboards")).unwrap().count() == 0);
        assert!(outboards.of(blob.hash, &file, blob.size).await.unwrap().is_some());
        let kept = outboards.path_of(blob.hash);
        let written = fs::metadata(&kept).unwrap().modified().unwrap();
        let again = outboards.of(blob.hash, &file, blob.size).await.unwrap().unwrap();
        assert!(matches!(again.data, Pairs::File(_)));
        assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), written);
        let range = tree::segment(0, blob.size);
        assert!(tree::encode(&*file, &again, range.clone()).is_ok());
        fs::write(&kept, vec![1; usize::try_from(tree::of(blob.size).outboard_size()).unwrap()]).unwrap();
        let wrong = outboards.of(blob.hash, &file, blob.size).await.unwrap().unwrap();
        assert!(tree::encode(&*file, &wrong, range).is_err());
        outboards.forget(blob.hash);
        assert!(!kept.exists());
    }

    #[tokio::test]
    async fn the_same_blob_may_be_hashed_by_two_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![3; 8 << 20];
        fs::write(&path, &bytes).unwrap();
        let (file, blob) = (Arc::new(File::open(&path).unwrap()), BlobRef::of(&bytes));
        let outboards = Outboards::new(folder.path().join("outboards"));
        let of = || outboards.of(blob.hash, &file, blob.size);
        let both = tokio::join!(of(), of());
        assert!(both.0.unwrap().is_some() && both.1.unwrap().is_some());
        let kept: Vec<_> = fs::read_dir(folder.path().join("outboards")).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
    }

    #[test]
    fn the_oldest_hashes_make_room_for_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, newest] = ["old", "new", "newest"].map(|name| folder.path().join(name));
        for (path, age) in [(&old, 300), (&new, 200), (&newest, 400)] {
            let file = File::create(path).unwrap();
            file.set_len(KEPT_BYTES_MAX / 2).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        make_room(folder.path(), &newest);
        assert!(!old.exists() && new.exists() && newest.exists());
    }
}
