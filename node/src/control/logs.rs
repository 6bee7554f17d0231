//! What an attempt wrote: from its file if it runs here, from the node that it runs on while it does, from its accepted
//! receipt once it ran elsewhere.

mod remote;

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use jobmesh_executors::{Stream, log_path};
use jobmesh_protocol::{AttemptState, BlobRef, Epoch, RunId};
use jobmesh_store::{Attempt, Job, View};

use self::remote::Remote;
use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::jobs::JobKey;
use super::view;
use crate::api::{ATTEMPT_HEADER, ErrorCode, LogStream, LogsQuery};
use crate::runtime::{Span, Tail, open_at};

/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where the bytes come from.
enum Source {
    /// The file of a run on this node.
    Run(Box<Attempt>),
    /// The node where it runs.
    Remote(Box<Attempt>),
    /// Small bytes that came with a receipt.
    Bytes(Epoch, Vec<u8>),
    /// A whole file.
    Whole(Epoch, PathBuf),
    /// There are none, and there will be none.
    Nothing(Option<Epoch>),
    /// It is too early to tell, and the reason.
    NotYet(String),
}

pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<LogsQuery>,
) -> Answer<Response> {
    let mut changes = control.handle.subscribe();
    let job = control.job(&JobKey::parse(&id)?).await?;
    loop {
        match locate(&control, &job, query).await? {
            Source::NotYet(reason) if !query.follow => {
                let hint = format!("`jobmesh logs -f {}` waits for it", job.number);
                return Err(Failure::new(ErrorCode::Conflict, reason).hint(hint));
            }
            Source::NotYet(_) => control.changed(&mut changes, job.id).await?,
            Source::Run(attempt) => {
                let epoch = attempt.epoch;
                return Ok(answer(Some(epoch), tail(control, &attempt, query)));
            }
            Source::Remote(attempt) => {
                let epoch = attempt.epoch;
                let name = view::name(&control.handle, attempt.node).name;
                let opened = Remote::open(control, &job, &attempt, query, changes).await;
                let remote = opened.map_err(|error| {
                    Failure::new(ErrorCode::Conflict, remote::unreachable(&job, &attempt, &name, &error))
                })?;
                return Ok(answer(Some(epoch), remote.into_body()));
            }
            Source::Bytes(epoch, bytes) => {
                let start = usize::try_from(query.offset).unwrap_or(usize::MAX).min(bytes.len());
                return Ok(answer(Some(epoch), Body::from(Bytes::from(bytes).slice(start..))));
            }
            Source::Whole(epoch, path) => {
                let file = open_at(&path, query.offset).await.map_err(|error| Failure::internal(&error))?;
                let body = Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, CHUNK_BYTES));
                return Ok(answer(Some(epoch), body));
            }
            Source::Nothing(epoch) => return Ok(answer(epoch, Body::empty())),
        }
    }
}

/// The output of a run on this node, as it grows.
fn tail(control: Control, attempt: &Attempt, query: LogsQuery) -> Body {
    let run = RunId { job: attempt.job, epoch: attempt.epoch };
    let follow = query.follow && !attempt.state.is_final();
    let span = Span { stream: stream_of(query.stream), offset: query.offset, follow };
    let tail = Tail::new(control.handle, run, span, control.closing);
    Body::from_stream(futures::stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next().await.transpose()?;
        Some((chunk, tail))
    }))
}

fn answer(epoch: Option<Epoch>, body: Body) -> Response {
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(epoch) = epoch {
        response.headers_mut().insert(ATTEMPT_HEADER, HeaderValue::from(epoch.0));
    }
    response
}

/// Finds the attempt and where its output is.
async fn locate(control: &Control, job: &Job, query: LogsQuery) -> Answer<Source> {
    let id = job.id;
    let read = move |view: View<'_>| {
        let Some(job) = view.job(id)? else { return Ok(None) };
        let attempt = match query.attempt {
            Some(epoch) => view.attempt(RunId { job: id, epoch })?,
            None => view.telling_attempt(RunId { job: id, epoch: job.epoch }, job.state)?,
        };
        let blob = attempt.as_ref().and_then(|attempt| output(attempt, query.stream));
        let bytes = blob.map(|blob| view.blob(blob.hash)).transpose()?.flatten();
        Ok(Some((job, attempt, bytes)))
    };
    let found = control.handle.read(read).await?;
    let (job, attempt, bytes) = found.ok_or_else(|| JobKey::Id(id).missing())?;
    let Some(attempt) = attempt else { return without_attempt(&job, query) };
    if attempt.node == control.handle.node() {
        return Ok(Source::Run(Box::new(attempt)));
    }
    let epoch = attempt.epoch;
    if !attempt.state.is_final() {
        return Ok(Source::Remote(Box::new(attempt)));
    }
    let path = output(&attempt, query.stream).map(|blob| (blob, control.handle.blobs().path_of(blob.hash)));
    match (bytes, path) {
        (_, None) if is_untold(&attempt) && !query.follow => {
            let (number, peer) = (job.number, view::name(&control.handle, attempt.node).name);
            let message =
                format!("what attempt {epoch} of job {number} wrote is on {peer}, which has not told its end yet");
            Err(Failure::new(ErrorCode::NotFound, message)
                .hint("short logs come here with that; `jobmesh logs` there has them"))
        }
        (_, None) => Ok(Source::Nothing(Some(epoch))),
        (Some(bytes), Some(_)) => Ok(Source::Bytes(epoch, bytes)),
        (None, Some((blob, path))) if control.handle.blobs().has(blob) => Ok(Source::Whole(epoch, path)),
        (None, Some(_)) => {
            let (number, peer) = (job.number, view::name(&control.handle, attempt.node).name);
            let message = format!("the output of attempt {epoch} of job {number} stayed on {peer}, which ran it");
            let hint =
                "of an attempt that did not decide its job only short logs come here; `jobmesh logs` there has them";
            Err(Failure::new(ErrorCode::NotFound, message).hint(hint))
        }
    }
}

/// Whether an attempt began on a peer and was cancelled, and nothing more of it is known.
fn is_untold(attempt: &Attempt) -> bool {
    attempt.state == AttemptState::Cancelled && attempt.started_at.is_some() && attempt.isolation.is_none()
}

fn without_attempt(job: &Job, query: LogsQuery) -> Answer<Source> {
    let number = job.number;
    match query.attempt {
        Some(epoch) if job.state.is_final() || epoch <= job.epoch => {
            let message = format!("job {number} has no attempt {epoch}");
            Err(Failure::new(ErrorCode::NotFound, message).hint(format!("`jobmesh show {number}` lists them")))
        }
        None if job.state.is_final() => Ok(Source::Nothing(None)),
        Some(_) | None => Ok(Source::NotYet(format!("job {number} is {} and has not written anything", job.state))),
    }
}

const fn output(attempt: &Attempt, stream: LogStream) -> Option<BlobRef> {
    match stream {
        LogStream::Stdout => attempt.outputs.stdout,
        LogStream::Stderr => attempt.outputs.stderr,
    }
}

/// All that a finished attempt wrote, if it is here and takes no more than `limit` bytes.
pub(super) async fn whole(control: &Control, attempt: &Attempt, stream: LogStream, limit: u64) -> Option<Vec<u8>> {
    if !attempt.state.is_final() {
        return None;
    }
    let Some(blob) = output(attempt, stream) else { return Some(Vec::new()) };
    if blob.size > limit {
        return None;
    }
    let bytes = if attempt.node == control.handle.node() {
        let run = RunId { job: attempt.job, epoch: attempt.epoch };
        tokio::fs::read(log_path(&control.handle.home().run(run), stream_of(stream))).await.ok()?
    } else {
        control.handle.read(move |view| view.blob(blob.hash)).await.ok()??
    };
    (bytes.len() as u64 == blob.size).then_some(bytes)
}

const fn stream_of(stream: LogStream) -> Stream {
    match stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
    }
}
