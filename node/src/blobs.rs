//! Bytes by their hash: inputs that were uploaded, inputs and outputs fetched from peers, outputs that were kept.
//!
//! The files themselves, and how many there may be, are the business of [`Shelf`], which the executors use too. Here is
//! what those need who must not wait for a disk: what takes long runs on a thread of its own, fed piece by piece.

mod many;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use jobmesh_executors::{PatternError, Room, Shelf, ShelfError, TreeReadError, Written, check_patterns};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BlobRef, JobSpec};
use tokio::sync::mpsc;

pub use jobmesh_executors::BLOB_BYTES_MAX;

/// Pieces of an upload that wait for the disk. With more the sender waits.
const PIECES_MAX: usize = 8;

/// Most bytes that are read of what is not kept: a second or so.
const READ_OUT_BYTES_MAX: usize = 1 << 30;

/// The folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    shelf: Shelf,
}

/// Why bytes could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk, the quota or the bounds of a blob.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The sender stopped in the middle.
    #[error("the upload ended early: {reason}")]
    Cut {
        /// What is known of it.
        reason: String,
    },
    /// What was sent is not what it should be.
    #[error("the upload can't be used: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// The thread that wrote is gone.
    #[error("the thread that wrote the blob ended by a panic; this is a bug")]
    Panicked,
}

/// Why the files that a job names can't be used, as inputs or as outputs.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// What its task reads.
    #[error("the input {} is not on this node", hash.short())]
    Blob {
        /// Its hash.
        hash: Hash,
    },
    /// Which of its files are kept.
    #[error(transparent)]
    Patterns(#[from] PatternError),
    /// The list of them.
    #[error("the inputs can't be used")]
    List(#[source] TreeReadError),
    /// One of them.
    #[error("the input {path:?} ({hash}) is not on this node")]
    File {
        /// Its path.
        path: String,
        /// Its hash.
        hash: Hash,
    },
    /// The thread that looked is gone.
    #[error("the thread that looked for the inputs ended by a panic; this is a bug")]
    Panicked,
}

impl InputError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Blob { .. } | Self::List(_) | Self::File { .. } => Some("upload it first: POST /v1/blobs"),
            Self::Patterns(_) => Some("such as out/*.png or logs/**"),
            Self::Panicked => None,
        }
    }
}

/// What a stream is fed to the disk as.
enum Piece {
    Bytes(Bytes),
    /// All of it has come.
    End,
}

impl Blobs {
    /// Opens the folder, which must exist, and removes what a crash has left unfinished.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        Ok(Self { shelf: Shelf::open(folder)? })
    }

    /// The same for those who may wait for a disk.
    #[must_use]
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Where the blob is, or will be once it is whole.
    #[must_use]
    pub fn path_of(&self, hash: Hash) -> PathBuf {
        self.shelf.path_of(hash)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.shelf.folder()
    }

    /// Whether the whole blob is here. It counts as new from now on.
    #[must_use]
    pub fn has(&self, blob: BlobRef) -> bool {
        self.shelf.has(blob)
    }

    /// Those of these blobs that are not here. The others count as new from now on.
    pub async fn missing(&self, mut blobs: Vec<BlobRef>) -> Vec<BlobRef> {
        let (shelf, all) = (self.shelf.clone(), blobs.clone());
        let look = move || {
            blobs.retain(|blob| !shelf.has(*blob));
            blobs
        };
        // What nobody knows of is missing.
        tokio::task::spawn_blocking(look).await.unwrap_or(all)
    }

    /// Room for a blob that somebody else is about to put into the folder. What nobody needs goes first. To be kept until the
    /// blob is there.
    ///
    /// # Errors
    /// [`WriteError::Shelf`] if there is none.
    pub async fn room(&self, bytes: u64) -> Result<Room, WriteError> {
        let shelf = self.shelf.clone();
        let taking = tokio::task::spawn_blocking(move || shelf.room(bytes));
        Ok(taking.await.map_err(|_| WriteError::Panicked)??)
    }

    /// Checks what the engine takes for granted of the files that a job names: that its inputs are here, all of their
    /// files, since nobody could bring them later, and that what chooses its outputs are patterns. What is here counts as
    /// new from now on. Of the trees in `known` that is known; the one of this job is added to them.
    ///
    /// # Errors
    /// [`InputError`] names what is missing or wrong.
    pub async fn check(&self, spec: &JobSpec, known: &mut BTreeSet<Hash>) -> Result<(), InputError> {
        check_patterns(&spec.outputs)?;
        let blobs: Vec<BlobRef> = spec.blobs().collect();
        if blobs.is_empty() {
            return Ok(());
        }
        let (this, tree) = (self.clone(), spec.inputs.filter(|tree| known.insert(tree.hash)));
        let looking = tokio::task::spawn_blocking(move || {
            if let Some(missing) = blobs.iter().find(|blob| !this.has(**blob)) {
                return Err(InputError::Blob { hash: missing.hash });
            }
            tree.map_or(Ok(()), |tree| this.check_inputs(tree))
        });
        looking.await.map_err(|_| InputError::Panicked)?
    }

    /// Checks that every file of a tree is here. May wait for the disk.
    fn check_inputs(&self, tree: BlobRef) -> Result<(), InputError> {
        use jobmesh_protocol::tree::Node;
        let tree = self.shelf.tree(tree.hash).map_err(InputError::List)?;
        for entry in tree.entries() {
            match &entry.node {
                Node::File { blob, .. } if !self.shelf.has(*blob) => {
                    return Err(InputError::File { path: entry.path.clone(), hash: blob.hash });
                }
                Node::File { .. } | Node::Link { .. } | Node::Directory { .. } => {}
            }
        }
        Ok(())
    }

    /// Keeps a stream of bytes under their hash, durably. A dropped call leaves nothing.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is kept then.
    pub async fn write<S, E>(&self, mut stream: S) -> Result<BlobRef, WriteError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let shelf = self.shelf.clone();
        let (pieces, incoming) = mpsc::channel(PIECES_MAX);
        let writing = tokio::task::spawn_blocking(move || write_pieces(&shelf, incoming));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| WriteError::Cut { reason: error.to_string() })?;
            if pieces.send(Piece::Bytes(chunk)).await.is_err() {
                read_out(&mut stream).await;
                break;
            }
        }
        // Whoever has stopped listening has failed, and says why.
        let _ = pieces.send(Piece::End).await;
        let written = writing.await.map_err(|_| WriteError::Panicked)??;
        written.ok_or_else(|| WriteError::Cut { reason: "it was given up".to_owned() })
    }

    /// Keeps every one of the small blobs that come, durably, and has the disk sync all of them at once when no more come.
    /// Returns them in their order. A call that is dropped keeps what came until then.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of them is kept then, unless it was the last step that failed.
    pub async fn write_each(&self, blobs: mpsc::Receiver<Vec<u8>>) -> Result<Vec<BlobRef>, WriteError> {
        let shelf = self.shelf.clone();
        let writing = tokio::task::spawn_blocking(move || write_each(&shelf, blobs));
        Ok(writing.await.map_err(|_| WriteError::Panicked)??)
    }
}

/// Reads on where nothing is kept any more: who is cut off in the middle of what it says does not hear why.
async fn read_out<S, E>(stream: &mut S)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut read = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        read += chunk.len();
        if read > READ_OUT_BYTES_MAX {
            return;
        }
    }
}

/// Writes what comes, on a thread that may wait. None if the sender went away before the end.
fn write_pieces(shelf: &Shelf, mut pieces: mpsc::Receiver<Piece>) -> Result<Option<BlobRef>, ShelfError> {
    let mut draft = shelf.begin()?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => draft.write(&bytes)?,
            Some(Piece::End) => return draft.finish().map(Some),
            None => return Ok(None),
        }
    }
}

/// Writes each of the blobs that come, on a thread that may wait, and keeps them together.
fn write_each(shelf: &Shelf, mut blobs: mpsc::Receiver<Vec<u8>>) -> Result<Vec<BlobRef>, ShelfError> {
    let mut written = Vec::new();
    while let Some(bytes) = blobs.blocking_recv() {
        let mut draft = shelf.begin()?;
        draft.write(&bytes)?;
        written.push(draft.close()?);
    }
    let blobs = written.iter().map(Written::blob).collect();
    shelf.keep(written)?;
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use jobmesh_protocol::task::Task;
    use jobmesh_protocol::tree::{Entry, Node, Tree};

    use super::*;

    fn parts(parts: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + Unpin + use<> {
        let owned: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
        futures::stream::iter(owned)
    }

    #[tokio::test]
    async fn what_is_written_is_found_under_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let blob = blobs.write(parts(&[b"hello ", b"", b"world"])).await.unwrap();
        assert_eq!(blob, BlobRef::of(b"hello world"));
        assert_eq!(fs::read(blobs.path_of(blob.hash)).unwrap(), b"hello world");
        assert_eq!(blobs.write(parts(&[b"hello world"])).await.unwrap(), blob);
        assert!(blobs.has(blob) && !blobs.has(BlobRef { size: 1, ..blob }));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = BlobRef::of(b"other");
        assert_eq!(blobs.missing(vec![blob, other]).await, [other]);
    }

    #[tokio::test]
    async fn many_are_kept_together_or_none_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let contents: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; usize::from(byte)]).collect();
        let send = async |contents: &[Vec<u8>]| {
            let (into, came) = mpsc::channel(1);
            let sending = async {
                for bytes in contents {
                    if into.send(bytes.clone()).await.is_err() {
                        break;
                    }
                }
                drop(into);
            };
            tokio::join!(blobs.write_each(came), sending).0
        };
        // The same twice is one file, and counts once.
        let twice = [contents.clone(), contents.clone()].concat();
        let kept = send(&twice).await.unwrap();
        assert_eq!(kept, twice.iter().map(|bytes| BlobRef::of(bytes)).collect::<Vec<_>>());
        assert_eq!(blobs.missing(kept).await, []);
        let bytes = contents.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        assert_eq!((blobs.shelf().used(), fs::read_dir(folder.path()).unwrap().count()), (bytes, 100));
        blobs.shelf().set_quota(bytes + 5);
        assert!(matches!(send(&[b"four".to_vec(), b"more".to_vec()]).await, Err(WriteError::Shelf(_))));
        assert_eq!((blobs.shelf().used(), fs::read_dir(folder.path()).unwrap().count()), (bytes, 100));
    }

    #[tokio::test]
    async fn an_upload_that_is_cut_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let cut = futures::stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]);
        let error = blobs.write(cut).await.unwrap_err().to_string();
        assert_eq!(error, "the upload ended early: gone");
        // The thread notices a moment later; the next upload shows that it holds up nobody.
        let whole = blobs.write(parts(&[b"whole"])).await.unwrap();
        assert!(blobs.has(whole));
    }

    #[tokio::test]
    async fn beyond_the_quota_an_upload_is_refused_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        blobs.shelf().set_quota(8);
        blobs.write(parts(&[b"12345"])).await.unwrap();
        let error = blobs.write(parts(&[b"abc", b"def"])).await.unwrap_err().to_string();
        assert!(error.contains("quota") && error.contains('8'), "{error}");
        assert!(blobs.room(4).await.is_err());
        let room = blobs.room(3).await.unwrap();
        assert_eq!(blobs.shelf().used(), 8);
        drop(room);
        assert_eq!(blobs.shelf().used(), 5);
    }

    #[tokio::test]
    async fn inputs_are_whole_or_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let missing = BlobRef::of(b"not here");
        let entry = Entry { path: "a/b".to_owned(), node: Node::File { blob: missing, mode: 0o644 } };
        let list = Bytes::from(Tree::new(vec![entry]).unwrap().encode());
        let tree = blobs.write(futures::stream::iter([Ok::<_, io::Error>(list)])).await.unwrap();
        let check = async |tree: BlobRef, outputs: &[&str]| {
            let mut spec = JobSpec::new("x", Task::Noop {});
            (spec.inputs, spec.outputs) = (Some(tree), outputs.iter().map(|text| (*text).to_owned()).collect());
            blobs.check(&spec, &mut BTreeSet::new()).await
        };
        let error = check(tree, &[]).await.unwrap_err().to_string();
        assert!(error.contains("\"a/b\"") && error.contains(&missing.hash.to_string()), "{error}");
        blobs.write(parts(&[b"not here"])).await.unwrap();
        check(tree, &["a/*"]).await.unwrap();
        assert!(matches!(check(tree, &["a/["]).await, Err(InputError::Patterns(_))));
        assert!(matches!(check(missing_tree(), &[]).await, Err(InputError::Blob { .. })));
        let junk = blobs.write(parts(&[b"junk"])).await.unwrap();
        assert!(matches!(check(junk, &[]).await, Err(InputError::List(_))));
    }

    fn missing_tree() -> BlobRef {
        BlobRef::of(b"no tree")
    }
}
