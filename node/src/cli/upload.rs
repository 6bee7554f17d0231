//! Files of this machine on their way to the node: hashed here, so that only those are sent that are not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jobmesh::api::{BLOBS_ASKED_MAX, Missing, MissingRequest};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{ENTRIES_MAX, Entry, Node, TREE_BYTES_MAX, Tree, check_path};
use tokio::io::{AsyncRead, ReadBuf};

use crate::cli::failure::{Failure, Kind};
use crate::cli::{output, words};
use crate::client::Client;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// An upload of more is told of while it goes on: it takes a second or so.
const TOLD_BYTES: u64 = 64 << 20;
/// Time between two words on that.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What is to be sent as one tree.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    entries: Vec<Entry>,
    /// Where the bytes are that may have to be sent.
    sources: BTreeMap<BlobRef, PathBuf>,
}

impl Upload {
    /// Adds a file or a directory under a name; an empty name is for what is in a directory. Whatever links a directory
    /// holds are kept as such.
    ///
    /// # Errors
    /// [`Failure`] names what can't be read or can't be in a tree.
    pub(crate) fn add(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        let found = fs::metadata(path).map_err(|error| unread(path, &error))?;
        if found.is_dir() {
            return self.add_directory(path, name, &found);
        }
        if name.is_empty() {
            return Err(Failure::new(Kind::File, format!("{} is no directory", path.display())));
        }
        self.add_file(path, name, &found)
    }

    /// Adds what is in a tree that the node has, below a name, or as it is for an empty one.
    ///
    /// # Errors
    /// [`Failure`] if it is not there, or no tree.
    pub(crate) async fn add_tree(&mut self, client: &Client, hash: Hash, name: &str) -> Result<(), Failure> {
        for entry in tree_of(client, hash).await?.entries() {
            let path = if name.is_empty() { entry.path.clone() } else { format!("{name}/{}", entry.path) };
            self.entries.push(Entry { path, node: entry.node.clone() });
        }
        Ok(())
    }

    /// Adds a blob that the node has, as a file.
    pub(crate) fn add_blob(&mut self, blob: BlobRef, name: String) {
        self.entries.push(Entry { path: name, node: Node::File { blob, mode: 0o644 } });
    }

    fn add_directory(&mut self, path: &Path, name: &str, found: &fs::Metadata) -> Result<(), Failure> {
        if !name.is_empty() {
            self.push(name, Node::Directory { mode: mode_of(found) })?;
        }
        let mut entries: Vec<_> =
            fs::read_dir(path).and_then(Iterator::collect).map_err(|error| unread(path, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let below = entry.path();
            let text = entry.file_name().into_string().map_err(|_| {
                let message = format!("{below:?} has a name that is no plain text (UTF-8), which a job can't be given");
                Failure::new(Kind::File, message).hint("rename it, or pack the directory into an archive")
            })?;
            let name = if name.is_empty() { text } else { format!("{name}/{text}") };
            check_path(&name).map_err(|error| Failure::of(Kind::File, &error))?;
            let found = fs::symlink_metadata(&below).map_err(|error| unread(&below, &error))?;
            if found.is_dir() {
                self.add_directory(&below, &name, &found)?;
            } else if found.is_symlink() {
                self.add_link(&below, &name)?;
            } else {
                self.add_file(&below, &name, &found)?;
            }
        }
        Ok(())
    }

    fn add_link(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        let target = fs::read_link(path).map_err(|error| unread(path, &error))?;
        let target = target.to_str().ok_or_else(|| Failure::new(Kind::File, format!("{path:?} is not UTF-8")))?;
        let parts: Vec<&str> = target.split('/').filter(|part| *part != ".").collect();
        self.push(name, Node::Link { target: parts.join("/") })
    }

    fn add_file(&mut self, path: &Path, name: &str, found: &fs::Metadata) -> Result<(), Failure> {
        let kind = found.file_type();
        if !kind.is_file() {
            let what = if kind.is_fifo() {
                "a named pipe"
            } else if kind.is_socket() {
                "a socket"
            } else {
                "a device"
            };
            return Err(Failure::new(Kind::File, format!("{} is {what}, which a job can't be given", path.display())));
        }
        let blob = hash_file(path).map_err(|error| unread(path, &error))?;
        self.sources.insert(blob, path.to_owned());
        self.push(name, Node::File { blob, mode: mode_of(found) })
    }

    fn push(&mut self, name: &str, node: Node) -> Result<(), Failure> {
        if self.entries.len() >= ENTRIES_MAX {
            let message = format!("there are more than {ENTRIES_MAX} files; pack them into an archive");
            return Err(Failure::new(Kind::File, message));
        }
        self.entries.push(Entry { path: name.to_owned(), node });
        Ok(())
    }

    /// Sends what the node lacks, and the list of it all. Returns the name of that.
    ///
    /// # Errors
    /// [`Failure`] if the paths make no tree, a file has changed meanwhile, or the node refuses.
    pub(crate) async fn send(self, client: &Client) -> Result<BlobRef, Failure> {
        let tree = Tree::new(self.entries).map_err(|error| Failure::of(Kind::File, &error))?.encode();
        let mut missing = Vec::new();
        let all: Vec<BlobRef> = self.sources.keys().copied().collect();
        for blobs in all.chunks(BLOBS_ASKED_MAX) {
            let request = MissingRequest { blobs: blobs.to_vec() };
            let answer: Missing = client.post("/v1/blobs/missing", &request).await?;
            missing.extend(answer.missing);
        }
        let mut progress = Progress::of(missing.iter().map(|blob| blob.size).sum());
        for blob in missing {
            if let Some(path) = self.sources.get(&blob) {
                send_file(client, path, blob, &mut progress).await?;
            }
        }
        progress.end();
        Ok(client.upload(io::Cursor::new(tree)).await?)
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

async fn send_file(client: &Client, path: &Path, blob: BlobRef, progress: &mut Progress) -> Result<(), Failure> {
    let file = tokio::fs::File::open(path).await.map_err(|error| unread(path, &error))?;
    let told = progress.clone();
    let sent = client.upload(Counted { file, progress: told }).await?;
    progress.done += blob.size;
    if sent == blob {
        return Ok(());
    }
    Err(Failure::new(Kind::File, format!("{} has changed while it was read; try again", path.display())))
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

fn mode_of(found: &fs::Metadata) -> u16 {
    u16::try_from(found.permissions().mode() & 0o777).unwrap_or_default()
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()))
}

fn hash_file(path: &Path) -> io::Result<BlobRef> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0_u64);
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(chunk.get(..count).unwrap_or_default());
        size += count as u64;
    }
    Ok(BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size })
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
