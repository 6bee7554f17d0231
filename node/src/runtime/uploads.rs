//! Which files a peer may have: the input of a job that it was awarded, the output of a job that it gave us.
//!
//! A hash is no secret, so knowing it is no right. Nothing else is ever handed out. **The hard case** is a tree: its
//! files may be had by whoever may have it, but only if it is one to us too. Bytes that happen to read like a tree, such
//! as somebody's input, give no right to anything.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jobmesh_executors::{Stream, log_path, result_path};
use jobmesh_protocol::id::Hash;

use jobmesh_protocol::{BlobRef, NodeId, RunId};
use jobmesh_store::{StoreError, View};

use super::handle::Handle;

/// Most trees whose lists are kept: each may be 3 MiB here, and a peer brings its trees one after the other.
const TREES_MAX: usize = 4;

/// The lists of the trees that were asked for last, as the hashes of their files.
#[derive(Debug, Default)]
pub(super) struct Trees(Mutex<VecDeque<(Hash, Arc<BTreeSet<Hash>>)>>);

impl Trees {
    /// The file of a tree for `peer`, if it may have the tree, and both are here.
    pub(super) async fn path_for(&self, handle: &Handle, peer: NodeId, (tree, hash): (Hash, Hash)) -> Option<PathBuf> {
        let me = handle.node();
        let may = handle.read(move |view| may_have_tree(view, me, peer, tree)).await;
        match may {
            Ok(true) => {}
            Ok(false) => {
                warn_of(peer, tree);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, "could not find out whether a peer may have a tree");
                return None;
            }
        }
        if !self.files_of(handle, tree).await?.contains(&hash) {
            warn_of(peer, hash);
            return None;
        }
        let path = handle.blobs().path_of(hash);
        tokio::fs::try_exists(&path).await.unwrap_or(false).then_some(path)
    }

    async fn files_of(&self, handle: &Handle, tree: Hash) -> Option<Arc<BTreeSet<Hash>>> {
        if let Some(known) = self.known(tree) {
            return Some(known);
        }
        let blobs = handle.blobs().clone();
        let reading = tokio::task::spawn_blocking(move || {
            let tree = blobs.shelf().tree(tree).ok()?;
            Some(Arc::new(tree.blobs().map(|blob| blob.hash).collect::<BTreeSet<Hash>>()))
        });
        let files = reading.await.ok().flatten()?;
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|(known, _)| *known != tree);
        trees.truncate(TREES_MAX - 1);
        trees.push_front((tree, Arc::clone(&files)));
        Some(files)
    }

    fn known(&self, tree: Hash) -> Option<Arc<BTreeSet<Hash>>> {
        let trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.iter().find(|(known, _)| *known == tree).map(|(_, files)| Arc::clone(files))
    }
}

/// Whether a peer may have a tree: the inputs of a job that it was awarded, the files of one that it gave us.
fn may_have_tree(view: View<'_>, me: NodeId, peer: NodeId, tree: Hash) -> Result<bool, StoreError> {
    let is = |blob: Option<BlobRef>| blob.is_some_and(|blob| blob.hash == tree);
    for attempt in view.attempts_that_wrote(tree)? {
        let is_theirs = || Ok::<_, StoreError>(view.job(attempt.job)?.is_some_and(|job| job.origin == Some(peer)));
        if attempt.node == me && is(attempt.outputs.files) && is_theirs()? {
            return Ok(true);
        }
    }
    for job in view.jobs_awarded_to(peer)? {
        if view.job(job)?.is_some_and(|job| is(job.spec.inputs)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn warn_of(peer: NodeId, hash: Hash) {
    tracing::debug!(peer = %peer.short(), blob = hash.short(), "a peer asked for a file that is none of its business");
}

/// Where a file is that `peer` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An input, among the blobs.
    Blob,
    /// An output, in the directory of its run.
    Output(RunId, Output),
}

/// What a run leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Log(Stream),
    Result,
    /// The tree of its files, which is among the blobs.
    Files,
}

/// The file for `peer`, if it may have it and it is here.
pub(super) async fn path_for(handle: &Handle, peer: NodeId, hash: Hash) -> Option<PathBuf> {
    let me = handle.node();
    let place = handle.read(move |view| place_for(view, me, peer, hash)).await;
    let path = match place {
        Ok(Some(Place::Blob)) => handle.blobs().path_of(hash),
        Ok(Some(Place::Output(run, Output::Log(stream)))) => log_path(&handle.home().run(run), stream),
        Ok(Some(Place::Output(run, Output::Result))) => result_path(&handle.home().run(run)),
        Ok(Some(Place::Output(_, Output::Files))) => handle.blobs().path_of(hash),
        Ok(None) => {
            warn_of(peer, hash);
            return None;
        }
        Err(error) => {
            tracing::error!(%error, "could not find out whether a peer may have a file");
            return None;
        }
    };
    tokio::fs::try_exists(&path).await.unwrap_or(false).then_some(path)
}

fn place_for(view: View<'_>, me: NodeId, peer: NodeId, hash: Hash) -> Result<Option<Place>, StoreError> {
    for attempt in view.attempts_that_wrote(hash)? {
        let is_theirs = view.job(attempt.job)?.is_some_and(|job| job.origin == Some(peer));
        if attempt.node == me && is_theirs {
            let is = |output: Option<BlobRef>| output.is_some_and(|blob| blob.hash == hash);
            let output = if is(attempt.outputs.stdout) {
                Output::Log(Stream::Stdout)
            } else if is(attempt.outputs.stderr) {
                Output::Log(Stream::Stderr)
            } else if is(attempt.outputs.files) {
                Output::Files
            } else {
                Output::Result
            };
            return Ok(Some(Place::Output(RunId { job: attempt.job, epoch: attempt.epoch }, output)));
        }
    }
    for job in view.jobs_awarded_to(peer)? {
        if view.job(job)?.is_some_and(|job| job.spec.blobs().any(|blob| blob.hash == hash)) {
            return Ok(Some(Place::Blob));
        }
    }
    Ok(None)
}
