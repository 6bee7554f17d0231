//! Taking jobs on: one, one that is followed to its end over the same connection, or a batch.
//!
//! Nothing is read before the command: what a submit costs is its transaction. **The hard case** is a job that is
//! followed: whoever listens must do so before the command goes in, or a fast job is over unheard.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64;
use jobmesh_engine::{Command, Response as Reply, Taken};
use jobmesh_executors::check_patterns;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{JobSpec, Submission};
use jobmesh_store::Attempt;
use serde::Serialize;

use super::Control;
use super::artifacts;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use super::follow::Watch;
use super::jobs::JobKey;
use super::logs;
use super::view;
use crate::api::{BATCH_LINES_MAX, Batch, Ended, ErrorCode, FollowLine, LogStream, SubmitQuery, Submitted};
use crate::causes::causes;

/// Largest output that is told with the end of a job: what also travels with a receipt.
const TOLD_BYTES_MAX: u64 = 16 * 1024;

impl Control {
    async fn take(&self, submissions: Vec<Submission>) -> Answer<Vec<Taken>> {
        if let Reply::Submitted(taken) = self.handle.command(Command::Submit(submissions)).await? {
            return Ok(taken);
        }
        Err(Failure::unexpected())
    }

    /// The engine takes the inputs to be on disk, all of their files; nobody could fetch them later.
    pub(super) async fn check_input(&self, spec: &JobSpec) -> Answer<()> {
        self.check_input_but(spec, &mut BTreeSet::new()).await
    }

    /// The same, but for trees of files that are known to be whole; adds the one of this job to them.
    async fn check_input_but(&self, spec: &JobSpec, known: &mut BTreeSet<Hash>) -> Answer<()> {
        let hint = "upload it first: POST /v1/blobs";
        if let Some(blob) = spec.blobs().find(|blob| !self.handle.blobs().has(*blob)) {
            let message = format!("the input {} is not on this node", blob.hash.short());
            return Err(Failure::new(ErrorCode::BadRequest, message).hint(hint));
        }
        if !spec.outputs.is_empty() {
            let refused =
                |error| Failure::new(ErrorCode::BadRequest, causes(&error)).hint("such as out/*.png or logs/**");
            check_patterns(&spec.outputs).map_err(refused)?;
        }
        let Some(tree) = spec.inputs.filter(|tree| known.insert(tree.hash)) else { return Ok(()) };
        let blobs = self.handle.blobs().clone();
        let checking = tokio::task::spawn_blocking(move || blobs.check_inputs(tree));
        let checked = checking.await.map_err(|_| Failure::unexpected())?;
        checked.map_err(|error| Failure::new(ErrorCode::BadRequest, causes(&error)).hint(hint))
    }
}

pub(super) async fn submit(
    State(control): State<Control>,
    Params(query): Params<SubmitQuery>,
    Ask(body): Ask<Submission>,
) -> Answer<Response> {
    control.check_input(&body.spec).await?;
    let changes = query.follow.then(|| control.handle.subscribe());
    let taken = control.take(vec![body]).await?;
    let taken = taken.first().ok_or_else(Failure::unexpected)?;
    let submitted = view::submitted(taken);
    let Some(changes) = changes else { return Ok(Json(submitted).into_response()) };
    let mut watch = Watch::new(control, changes, (taken.job, taken.number));
    if !taken.is_new {
        watch.begin_with_the_present().await?;
    }
    Ok(lines(Following { submitted: Some(submitted), watch: Some(watch) }))
}

/// A job that is told of until it ends.
struct Following {
    submitted: Option<Submitted>,
    watch: Option<Watch>,
}

impl Following {
    async fn next(&mut self) -> Option<FollowLine> {
        if let Some(submitted) = self.submitted.take() {
            return Some(FollowLine::Submitted(submitted));
        }
        if let Some(change) = self.watch.as_mut()?.next().await {
            return Some(FollowLine::Change(change));
        }
        let watch = self.watch.take()?;
        let ended = if watch.is_over() { watch.ended().await } else { None };
        ended.map(|ended| FollowLine::Ended(Box::new(ended)))
    }
}

impl Watch {
    /// The end of the job, with what its last attempt wrote if that is little.
    async fn ended(&self) -> Option<Ended> {
        let row = self.control().detail(&JobKey::Id(self.job())).await.ok()?;
        let last = row.row.last.clone();
        let detail = artifacts::detail(self.control(), row).await;
        let stdout = self.told(last.as_ref(), LogStream::Stdout).await;
        let stderr = self.told(last.as_ref(), LogStream::Stderr).await;
        Some(Ended { detail, stdout, stderr })
    }

    async fn told(&self, attempt: Option<&Attempt>, stream: LogStream) -> Option<String> {
        let bytes = logs::whole(self.control(), attempt?, stream, TOLD_BYTES_MAX).await?;
        Some(BASE64.encode(&bytes))
    }
}

fn lines(following: Following) -> Response {
    let lines = futures::stream::unfold(following, |mut following| async move {
        let line = following.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(line_of(&line)), following))
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// One JSON line.
pub(super) fn line_of<T: Serialize>(value: &T) -> Bytes {
    // Our own types always serialise; an empty line says no more than it must.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

pub(super) async fn batch(State(control): State<Control>, body: Bytes) -> Answer<Json<Batch>> {
    let submissions = read_lines(&body)?;
    if submissions.is_empty() {
        return Ok(Json(Batch::of([])));
    }
    // Many jobs often have the same inputs, which are looked through once.
    let mut known = BTreeSet::new();
    for (submission, line) in submissions.iter().zip(1..) {
        control.check_input_but(&submission.spec, &mut known).await.map_err(|failure| failure.at_line(line))?;
    }
    let taken = control.take(submissions).await?;
    Ok(Json(Batch::of(taken.iter().map(|taken| view::submitted(taken).number))))
}

/// Reads a submission from each line; empty lines are passed over.
fn read_lines(body: &[u8]) -> Answer<Vec<Submission>> {
    let mut submissions = Vec::new();
    for (line, number) in body.split(|byte| *byte == b'\n').zip(1..) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if submissions.len() == BATCH_LINES_MAX {
            let message = format!("the batch has more than {BATCH_LINES_MAX} lines");
            return Err(Failure::new(ErrorCode::TooLarge, message).hint("send it in parts"));
        }
        let submission = serde_json::from_slice(line)
            .map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()).at_line(number))?;
        submissions.push(submission);
    }
    Ok(submissions)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const LINE: &str = r#"{"spec":{"job_type":"x","task":{"noop":{}}}}"#;

    #[test]
    fn a_batch_is_read_line_by_line_and_a_bad_one_is_named() {
        let text = format!("{LINE}\n\n  {LINE}\r\n");
        assert_eq!(read_lines(text.as_bytes()).unwrap().len(), 2);
        let failure = read_lines(format!("{LINE}\n{{\"spec\":7}}\n").as_bytes()).unwrap_err();
        let error = failure.into_error();
        assert!(error.message.starts_with("line 2: "), "{}", error.message);
    }

    #[test]
    fn a_batch_has_a_bound() {
        let text = format!("{LINE}\n").repeat(BATCH_LINES_MAX + 1);
        assert_eq!(read_lines(text.as_bytes()).unwrap_err().into_error().code, ErrorCode::TooLarge);
    }
}
