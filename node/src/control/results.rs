//! What a job said its result is: small ones are in the database, larger ones files.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use jobmesh_executors::result_path;
use jobmesh_protocol::{Epoch, JobState, RunId};
use jobmesh_store::{Job, View};

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::jobs::JobKey;
use crate::api::{ATTEMPT_HEADER, ErrorCode, ResultQuery};

/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why there is no result of this attempt.
fn missing(job: &Job, attempt: Epoch) -> Failure {
    let number = job.number;
    let failure = |message: String| Failure::new(ErrorCode::NotFound, message);
    if job.plan.is_group {
        let hint = format!("its tasks have results of their own: `jobmesh result {number}.1`");
        return failure(format!("job {number} is a group, and runs nothing itself")).hint(hint);
    }
    if attempt == Epoch::default() {
        let (state, hint) = (job.state, format!("`jobmesh explain {number}` says why"));
        let message = match job.state.is_final() {
            true => format!("job {number} was {state} before it began, so it has no result"),
            false => format!("job {number} has not begun ({state}), so it has no result yet"),
        };
        return failure(message).hint(hint);
    }
    if attempt == job.epoch && job.state == JobState::Running {
        let hint = format!("`jobmesh wait {number}` waits for its end");
        return failure(format!("job {number} runs; its result comes with the end of attempt {attempt}")).hint(hint);
    }
    let hint = format!("a job writes it to $JOBMESH_RESULT; `jobmesh logs {number}` shows what it printed");
    failure(format!("attempt {attempt} of job {number} has no result")).hint(hint)
}

pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<ResultQuery>,
) -> Answer<Response> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    let (last, asked, state) = (RunId { job: job.id, epoch: job.epoch }, query.attempt, job.state);
    let read = move |view: View<'_>| {
        let attempt = match asked {
            Some(epoch) => view.attempt(RunId { epoch, ..last })?,
            None => view.telling_attempt(last, state)?,
        };
        let blob = attempt.as_ref().and_then(|attempt| attempt.outputs.result);
        let bytes = blob.map(|blob| view.blob(blob.hash)).transpose()?.flatten();
        Ok(attempt.zip(blob).map(|(attempt, blob)| (attempt.epoch, attempt.node, blob, bytes)))
    };
    let found = control.handle.read(read).await?;
    let number = job.number;
    let missing = || missing(&job, asked.unwrap_or(last.epoch));
    let (epoch, node, blob, bytes) = found.ok_or_else(missing)?;
    let run = RunId { epoch, ..last };
    let body = match bytes {
        Some(bytes) => Body::from(bytes),
        None => {
            let blobs = control.handle.blobs();
            let here = result_path(&control.handle.home().run(run));
            let path = if node == control.handle.node() { here } else { blobs.path_of(blob.hash) };
            let gone = |_| {
                let message = format!("the result of job {number} takes {} bytes that are not on this node", blob.size);
                Failure::new(ErrorCode::NotFound, message)
            };
            let file = tokio::fs::File::open(path).await.map_err(gone)?;
            Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, CHUNK_BYTES))
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ATTEMPT_HEADER, HeaderValue::from(epoch.0));
    Ok(response)
}
