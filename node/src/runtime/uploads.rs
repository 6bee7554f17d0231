//! Which files a peer may have: the input of a job that it was awarded, the output of a job that it gave us.
//!
//! A hash is no secret, so knowing it is no right. Nothing else is ever handed out.

use std::path::PathBuf;

use jobmesh_executors::{Stream, log_path, result_path};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BlobRef, NodeId, RunId};
use jobmesh_store::{StoreError, View};

use super::handle::Handle;

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
            tracing::warn!(peer = %peer.short(), blob = hash.short(), "a peer asked for a file that is none of its business");
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
