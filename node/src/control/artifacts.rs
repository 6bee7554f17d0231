//! The files that a job left, by path. Their bytes are asked for by hash.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_executors::{ShelfError, TreeReadError};
use jobmesh_protocol::tree::{Entry, Node, Tree};
use jobmesh_protocol::{BlobRef, Epoch, JobState, RunId};
use jobmesh_store::{Job, View};

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::jobs::JobKey;
use super::view::{self, DetailRow};
use crate::api::{
    Artifact, ArtifactKind, Artifacts, ErrorCode, FILES_TOLD_MAX, FileCount, JobDetail, ResultQuery, number_parts,
};

pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<ResultQuery>,
) -> Answer<Json<Artifacts>> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    let (last, asked, state) = (RunId { job: job.id, epoch: job.epoch }, query.attempt, job.state);
    let read = move |view: View<'_>| match asked {
        Some(epoch) => view.attempt(RunId { epoch, ..last }),
        None => view.telling_attempt(last, state),
    };
    let attempt = control.handle.read(read).await?.ok_or_else(|| missing(&job, asked))?;
    let files = attempt.outputs.files;
    let tree = match files {
        Some(files) => tree_of(&control, files).await?,
        None if attempt.epoch == job.epoch && job.state == JobState::Running => return Err(missing(&job, None)),
        None => Tree::default(),
    };
    let (number, task) = number_parts(job.number);
    Ok(Json(Artifacts {
        number,
        task,
        attempt: attempt.epoch,
        node: view::name(&control.handle, attempt.node),
        outcome: attempt.outcome,
        message: attempt.message,
        tree: files,
        bytes: tree.file_bytes(),
        artifacts: tree.entries().iter().map(artifact).collect(),
    }))
}

/// A job in full, with the files that it left.
pub(super) async fn detail(control: &Control, row: DetailRow) -> JobDetail {
    let mut detail = view::detail(&control.handle, row);
    if let Some(files) = detail.telling_attempt().and_then(|attempt| attempt.outputs.files)
        && let Ok(tree) = tree_of(control, files).await
    {
        detail.files = Some(count(&tree));
    }
    detail
}

fn count(tree: &Tree) -> FileCount {
    FileCount {
        count: tree.entries().iter().filter(|entry| matches!(entry.node, Node::File { .. })).count(),
        bytes: tree.file_bytes(),
        first: tree.entries().iter().take(FILES_TOLD_MAX).map(artifact).collect(),
    }
}

/// Why there are no files; of an attempt that was `asked` for, because there is none of that number.
fn missing(job: &Job, asked: Option<Epoch>) -> Failure {
    let number = job.number;
    if job.plan.is_group {
        let hint = format!("its tasks have files of their own: `jobmesh artifacts {number}.1`");
        return Failure::new(ErrorCode::NotFound, format!("job {number} is a group, and leaves nothing itself"))
            .hint(hint);
    }
    if let Some(epoch) = asked {
        let hint = format!("`jobmesh show {number}` lists its attempts");
        return Failure::new(ErrorCode::NotFound, format!("job {number} has no attempt {epoch}")).hint(hint);
    }
    if job.state.is_final() {
        let message = format!("job {number} is {} and never ran, so nothing was kept of it", job.state);
        return Failure::new(ErrorCode::NotFound, message);
    }
    let message = format!("job {number} is {} and has left no files yet", job.state);
    Failure::new(ErrorCode::NotFound, message).hint(format!("`jobmesh wait {number}` waits for its end"))
}

async fn tree_of(control: &Control, files: BlobRef) -> Answer<Tree> {
    let shelf = control.handle.blobs().shelf().clone();
    let reading = tokio::task::spawn_blocking(move || shelf.tree(files.hash));
    reading.await.map_err(|_| Failure::unexpected())?.map_err(|error| match error {
        TreeReadError::Shelf(error @ (ShelfError::Missing { .. } | ShelfError::Damaged { .. })) => error.into(),
        error @ (TreeReadError::Shelf(_) | TreeReadError::Tree(_)) => Failure::internal(&error),
    })
}

fn artifact(entry: &Entry) -> Artifact {
    let octal = |mode: u16| Some(format!("{mode:o}"));
    let path = entry.path.clone();
    let none = Artifact { path, kind: ArtifactKind::Link, mode: None, size: None, hash: None, target: None };
    match &entry.node {
        Node::File { blob, mode } => Artifact {
            kind: ArtifactKind::File,
            mode: octal(*mode),
            size: Some(blob.size),
            hash: Some(blob.hash),
            ..none
        },
        Node::Directory { mode } => Artifact { kind: ArtifactKind::Directory, mode: octal(*mode), ..none },
        Node::Link { target } => Artifact { target: Some(target.clone()), ..none },
    }
}
