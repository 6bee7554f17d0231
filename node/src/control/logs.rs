//! What an attempt wrote: from its file while it runs here, from its accepted receipt once it ran elsewhere.
//!
//! Following a run on this node means reading its file to the end again and again. The last reading must come after
//! the end of the attempt, or what was written in between is missed; so the end is noted *before* the file is read,
//! and the file is under watch by then.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use jobmesh_engine::Change as EngineChange;
use jobmesh_executors::{Stream, log_path};
use jobmesh_protocol::{BlobRef, Epoch, RunId};
use jobmesh_store::{Attempt, Job, View};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::broadcast::Receiver;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::growth::Growth;
use super::jobs::JobKey;
use super::view;
use crate::api::{ATTEMPT_HEADER, ErrorCode, LogStream, LogsQuery};

/// After so long without news the attempt itself is looked at, should its end have gone unannounced.
const CHECK: Duration = Duration::from_secs(2);
/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where the bytes come from.
enum Source {
    /// The file of a run on this node.
    Run(Box<Attempt>),
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
                let tail = Tail::new(control, &attempt, query, changes);
                return Ok(answer(Some(epoch), tail.into_body()));
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
        let node = view::name(&control.handle, attempt.node).name;
        let reason = format!("the output of attempt {epoch} of job {} comes from {node} when it ends", job.number);
        return Ok(Source::NotYet(reason));
    }
    let path = output(&attempt, query.stream).map(|blob| (blob, control.handle.blobs().path_of(blob.hash)));
    match (bytes, path) {
        (_, None) => Ok(Source::Nothing(Some(epoch))),
        (Some(bytes), Some(_)) => Ok(Source::Bytes(epoch, bytes)),
        (None, Some((blob, path))) if control.handle.blobs().has(blob) => Ok(Source::Whole(epoch, path)),
        (None, Some(_)) => {
            let message = format!("the output of attempt {epoch} of job {} was never fetched to this node", job.number);
            Err(Failure::new(ErrorCode::NotFound, message))
        }
    }
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

async fn open_at(path: &std::path::Path, offset: u64) -> io::Result<File> {
    let mut file = File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}

/// Reads the file of a run as it grows.
struct Tail {
    control: Control,
    changes: Receiver<EngineChange>,
    run: RunId,
    path: PathBuf,
    offset: u64,
    file: Option<File>,
    /// Nothing will be written any more, or nobody wants to wait for it.
    is_last_look: bool,
    growth: Growth,
}

impl Tail {
    fn new(control: Control, attempt: &Attempt, query: LogsQuery, changes: Receiver<EngineChange>) -> Self {
        let run = RunId { job: attempt.job, epoch: attempt.epoch };
        let path = log_path(&control.handle.home().run(run), stream_of(query.stream));
        let is_last_look = !query.follow || attempt.state.is_final();
        let growth = Growth::new(path.clone());
        Self { control, changes, run, path, offset: query.offset, file: None, is_last_look, growth }
    }

    fn into_body(self) -> Body {
        Body::from_stream(futures::stream::unfold(self, |mut tail| async move {
            let chunk = tail.next().await.transpose()?;
            Some((chunk, tail))
        }))
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // What was decided before this read, not after it: see the module's words.
            let is_last_look = self.is_last_look;
            if !is_last_look {
                self.growth.watch();
            }
            let chunk = self.read().await?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            if is_last_look || !self.wait().await {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        if self.file.is_none() {
            self.file = match open_at(&self.path, self.offset).await {
                Ok(file) => Some(file),
                // The run is about to start, or ended before it wrote anything.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        let Some(file) = &mut self.file else { return Ok(Bytes::new()) };
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        file.read_buf(&mut chunk).await?;
        Ok(chunk.freeze())
    }

    /// Waits for news of the file or of the job. `false` if the server closes.
    async fn wait(&mut self) -> bool {
        let has_grown = tokio::select! {
            biased;
            () = self.control.closing.cancelled() => return false,
            changed = self.control.changed(&mut self.changes, self.run.job) => {
                if changed.is_err() { return false }
                false
            }
            () = self.growth.news() => true,
            () = tokio::time::sleep(CHECK) => false,
        };
        if !has_grown {
            let run = self.run;
            let attempt = self.control.handle.read(move |view| view.attempt(run)).await;
            self.is_last_look = match attempt {
                Ok(Some(attempt)) => attempt.state.is_final(),
                Ok(None) => true,
                Err(error) => {
                    tracing::warn!(%error, "could not see whether a followed attempt has ended");
                    false
                }
            };
        }
        true
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
