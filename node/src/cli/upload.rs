//! Files of this machine on their way to the node: hashed here, so that only those are sent that are not there.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jobmesh::api::{BLOBS_ASKED_MAX, BLOBS_TOGETHER_MAX, Missing, MissingRequest, SMALL_BLOB_BYTES_MAX, Uploaded};
use jobmesh::gather::{Gathered, hash_file};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{Node, TREE_BYTES_MAX, Tree};
use tokio::io::{AsyncRead, ReadBuf};

use crate::cli::failure::{Failure, Kind};
use crate::cli::{output, words};
use crate::client::Client;

/// An upload of more is told of while it goes on: it takes a second or so.
const TOLD_BYTES: u64 = 64 << 20;
/// Most bytes of small files that are sent in one body.
const TOGETHER_BYTES_MAX: u64 = 8 << 20;
/// Time between two words on that.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What is to be sent as one tree.
#[derive(Debug, Default)]
pub(crate) struct Upload(Gathered);

impl Upload {
    /// Adds a file or a directory under a name; an empty name is for what is in a directory. Whatever links a directory
    /// holds are kept as such.
    ///
    /// # Errors
    /// [`Failure`] names what can't be read or can't be in a tree.
    pub(crate) fn add(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        self.0.add(path, name).map_err(|error| Failure::of(Kind::File, &error))
    }

    /// Adds what is in a tree that the node has, below a name, or as it is for an empty one.
    ///
    /// # Errors
    /// [`Failure`] if it is not there, or no tree.
    pub(crate) async fn add_tree(&mut self, client: &Client, hash: Hash, name: &str) -> Result<(), Failure> {
        for entry in tree_of(client, hash).await?.entries() {
            let path = if name.is_empty() { entry.path.clone() } else { format!("{name}/{}", entry.path) };
            self.0.push(&path, entry.node.clone()).map_err(|error| Failure::of(Kind::File, &error))?;
        }
        Ok(())
    }

    /// Adds a blob that the node has, as a file.
    ///
    /// # Errors
    /// [`Failure`] if there are too many files.
    pub(crate) fn add_blob(&mut self, blob: BlobRef, name: &str) -> Result<(), Failure> {
        self.0.push(name, Node::File { blob, mode: 0o644 }).map_err(|error| Failure::of(Kind::File, &error))
    }

    /// Sends what the node lacks, and the list of it all. Returns the name of that.
    ///
    /// # Errors
    /// [`Failure`] if the paths make no tree, a file has changed meanwhile, or the node refuses.
    pub(crate) async fn send(self, client: &Client) -> Result<BlobRef, Failure> {
        let (tree, sources) = self.0.into_tree().map_err(|error| Failure::of(Kind::File, &error))?;
        let mut missing = Vec::new();
        let all: Vec<BlobRef> = sources.keys().copied().collect();
        for blobs in all.chunks(BLOBS_ASKED_MAX) {
            let request = MissingRequest { blobs: blobs.to_vec() };
            let answer: Missing = client.post("/v1/blobs/missing", &request).await?;
            missing.extend(answer.missing);
        }
        let mut progress = Progress::of(missing.iter().map(|blob| blob.size).sum());
        let files = missing.iter().filter_map(|blob| Some((*blob, sources.get(blob)?.as_path())));
        let (small, large): (Vec<_>, Vec<_>) = files.partition(|(blob, _)| blob.size <= SMALL_BLOB_BYTES_MAX as u64);
        for (blob, path) in large {
            send_file(client, path, blob, &mut progress).await?;
        }
        for files in batches(&small) {
            send_together(client, files, &mut progress).await?;
        }
        progress.end();
        Ok(client.upload(io::Cursor::new(tree.encode())).await?)
    }
}

/// Sends one file, whatever the node has.
///
/// # Errors
/// [`Failure`] if it can't be read, or the node refuses.
pub(crate) async fn send_one(client: &Client, path: &Path) -> Result<BlobRef, Failure> {
    let blob = hash_file(path).map_err(|error| unread(path, &error))?;
    let mut progress = Progress::of(blob.size);
    send_file(client, path, blob, &mut progress).await?;
    progress.end();
    Ok(blob)
}

/// Small files that are sent in one body each: so many, and so many bytes, as may well be in memory.
fn batches<'a>(mut files: &'a [(BlobRef, &'a Path)]) -> impl Iterator<Item = &'a [(BlobRef, &'a Path)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(blob, _): &&(BlobRef, &Path)| {
            bytes += blob.size;
            bytes <= TOGETHER_BYTES_MAX
        };
        let count = files.iter().take(BLOBS_TOGETHER_MAX).take_while(fits).count();
        let (batch, rest) = files.split_at_checked(count).filter(|(batch, _)| !batch.is_empty())?;
        files = rest;
        Some(batch)
    })
}

async fn send_together(client: &Client, files: &[(BlobRef, &Path)], progress: &mut Progress) -> Result<(), Failure> {
    let mut body = Vec::new();
    for (blob, path) in files {
        let bytes = tokio::fs::read(path).await.map_err(|error| unread(path, &error))?;
        // One that has become too long would not be taken.
        let length = u32::try_from(bytes.len()).ok().filter(|length| u64::from(*length) == blob.size);
        body.extend_from_slice(&length.ok_or_else(|| changed(path))?.to_be_bytes());
        body.extend_from_slice(&bytes);
    }
    let sent: Uploaded = client.post_bytes("/v1/blobs/many", body.into()).await?;
    for (number, (blob, path)) in files.iter().enumerate() {
        if sent.blobs.get(number) != Some(blob) {
            return Err(changed(path));
        }
        progress.add(blob.size);
    }
    Ok(())
}

async fn send_file(client: &Client, path: &Path, blob: BlobRef, progress: &mut Progress) -> Result<(), Failure> {
    let file = tokio::fs::File::open(path).await.map_err(|error| unread(path, &error))?;
    let told = progress.clone();
    let sent = client.upload(Counted { file, progress: told }).await?;
    progress.done += blob.size;
    if sent == blob {
        return Ok(());
    }
    Err(changed(path))
}

fn changed(path: &Path) -> Failure {
    Failure::new(Kind::File, format!("{} has changed while it was read; try again", path.display()))
}

/// A tree that the node has, checked against its hash.
///
/// # Errors
/// [`Failure`] if it is not there, or no tree.
pub(crate) async fn tree_of(client: &Client, hash: Hash) -> Result<Tree, Failure> {
    let mut answer = client.bytes(&format!("/v1/blobs/{hash}")).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > TREE_BYTES_MAX {
            break;
        }
    }
    let wrong = |error: &dyn std::error::Error| {
        let failure = Failure::of(Kind::NotFound, error);
        failure.hint(format!("a single file needs a name behind its hash, as in {}:NAME", hash.short()))
    };
    if Hash::of(&bytes) != hash && bytes.len() <= TREE_BYTES_MAX {
        return Err(Failure::new(Kind::Internal, format!("the blob {hash} is damaged on the node")));
    }
    Tree::decode(&bytes).map_err(|error| wrong(&error))
}

/// The blob of this hash on the node.
///
/// # Errors
/// [`Failure`] if it is not there.
pub(crate) async fn blob_of(client: &Client, hash: Hash) -> Result<BlobRef, Failure> {
    let answer = client.bytes(&format!("/v1/blobs/{hash}")).await?;
    let size = answer.header("content-length").and_then(|length| length.parse().ok());
    let unknown = || Failure::new(Kind::Internal, format!("the node does not say how long the blob {hash} is"));
    Ok(BlobRef { hash, size: size.ok_or_else(unknown)? })
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()))
}

/// Says on a terminal how far a long transfer has come.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    total: u64,
    done: u64,
    told: Option<Instant>,
    is_told: bool,
}

impl Progress {
    /// Of so many bytes.
    pub(crate) fn of(total: u64) -> Self {
        Self { total, done: 0, told: None, is_told: total >= TOLD_BYTES && io::stderr().is_terminal() }
    }

    /// Some more has been done.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        if !self.is_told || self.told.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let line = format!("\r\u{1b}[K{} of {}", words::size(self.done), words::size(self.total));
        // Nobody who reads it is nobody to tell.
        let _ = output::error_bytes(line.as_bytes());
    }

    /// It is over.
    pub(crate) fn end(&self) {
        if self.is_told {
            let _ = output::error_bytes(b"\r\x1b[K");
        }
    }
}

/// A file that says how far it was read.
struct Counted {
    file: tokio::fs::File,
    progress: Progress,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.file).poll_read(context, buffer);
        let count = buffer.filled().len().saturating_sub(before) as u64;
        self.progress.add(count);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_go_in_bodies_of_bounded_size_and_none_is_left_out() {
        let of = |count: u64, size: u64| -> Vec<(BlobRef, &Path)> {
            let blob = |number: u64| BlobRef { hash: Hash::of(&number.to_le_bytes()), size };
            (0..count).map(|number| (blob(number), Path::new("x"))).collect()
        };
        for (files, bodies) in [(of(0, 0), 0), (of(5000, 10), 1), (of(5001, 10), 2), (of(100, 256 << 10), 4)] {
            let all: Vec<_> = batches(&files).collect();
            assert_eq!((all.len(), all.concat() == files), (bodies, true));
        }
    }
}
