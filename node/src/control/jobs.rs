//! Jobs: submit, list, show, cancel, retry, explain.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{Command, Response};
use jobmesh_protocol::{JobId, JobSpec};
use jobmesh_store::{Job, Selection, StoreError, View};

use super::Control;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use super::view::{self, DetailRow};
use crate::api::{
    CancelRequest, Done, ErrorCode, Explanation, JobDetail, JobList, ListQuery, SubmitRequest, Submitted,
};

/// Jobs in a list unless asked for otherwise.
const LIST_DEFAULT: u32 = 50;
/// Most jobs in a list.
const LIST_MAX: u32 = 10_000;
/// Longest reason for a cancel.
const REASON_BYTES_MAX: usize = 256;

/// How a client names a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobKey {
    /// The one that was submitted last.
    Last,
    /// By its number on this node.
    Number(u64),
    /// By its id everywhere.
    Id(JobId),
}

impl JobKey {
    pub(super) fn parse(text: &str) -> Answer<Self> {
        if text == "last" {
            return Ok(Self::Last);
        }
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        text.parse().map(Self::Id).map_err(|_| {
            Failure::new(ErrorCode::BadRequest, format!("{text:?} names no job"))
                .hint("a job is named by its number, its whole id, or `last`")
        })
    }

    /// The job, if there is one.
    pub(super) fn find(&self, view: View<'_>) -> Result<Option<Job>, StoreError> {
        match self {
            Self::Last => view.job_by_number(view.last_job_number()?),
            Self::Number(number) => view.job_by_number(*number),
            Self::Id(id) => view.job(*id),
        }
    }

    /// What to say if there is none.
    pub(super) fn missing(&self) -> Failure {
        let message = match self {
            Self::Last => "this node has no job yet".to_owned(),
            Self::Number(number) => format!("there is no job {number} on this node"),
            Self::Id(id) => format!("there is no job {id} on this node"),
        };
        Failure::new(ErrorCode::NotFound, message).hint("`jobmesh ls` lists the jobs of this node")
    }
}

impl Control {
    /// The job that a client names.
    pub(super) async fn job(&self, key: &JobKey) -> Answer<Job> {
        let wanted = key.clone();
        self.handle.read(move |view| wanted.find(view)).await?.ok_or_else(|| key.missing())
    }

    /// Everything that is kept of the job that a client names.
    pub(super) async fn detail(&self, key: &JobKey) -> Answer<DetailRow> {
        let wanted = key.clone();
        let read = move |view: View<'_>| wanted.find(view)?.map(|job| view::detail_row(view, job)).transpose();
        self.handle.read(read).await?.ok_or_else(|| key.missing())
    }

    /// Hands in a command that is either carried out or found to be so already.
    async fn done(&self, command: Command) -> Answer<Json<Done>> {
        match self.handle.command(command).await? {
            Response::Done => Ok(Json(Done { changed: true })),
            Response::Unchanged => Ok(Json(Done { changed: false })),
            Response::Submitted { .. }
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Judged(_)
            | Response::Counted(_) => Err(Failure::unexpected()),
        }
    }
}

pub(super) async fn submit(State(control): State<Control>, Ask(body): Ask<SubmitRequest>) -> Answer<Json<Submitted>> {
    check_input(&control, &body.spec)?;
    match control.handle.command(Command::Submit(Box::new(body.spec))).await? {
        Response::Submitted { job, number } => Ok(Json(Submitted { id: job, number })),
        Response::Done
        | Response::Unchanged
        | Response::Explained(_)
        | Response::Invited(_)
        | Response::Judged(_)
        | Response::Counted(_) => Err(Failure::unexpected()),
    }
}

/// The engine takes the input to be on disk; nobody could fetch it later.
fn check_input(control: &Control, spec: &JobSpec) -> Answer<()> {
    match spec.task.input() {
        Some(blob) if !control.handle.blobs().has(blob) => {
            let message = format!("the input {} is not on this node", blob.hash.short());
            Err(Failure::new(ErrorCode::BadRequest, message).hint("upload it first: POST /v1/blobs"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn list(State(control): State<Control>, Params(query): Params<ListQuery>) -> Answer<Json<JobList>> {
    let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
    let selection = Selection { state: query.state, live_only: query.live, limit };
    let read = move |view: View<'_>| {
        let jobs = view.jobs(&selection)?.into_iter();
        jobs.map(|job| view::job_row(view, job)).collect::<Result<Vec<_>, StoreError>>()
    };
    let rows = control.handle.read(read).await?;
    Ok(Json(JobList { jobs: rows.into_iter().map(|row| view::job(&control.handle, row)).collect() }))
}

pub(super) async fn show(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<JobDetail>> {
    let row = control.detail(&JobKey::parse(&id)?).await?;
    Ok(Json(view::detail(&control.handle, row)))
}

pub(super) async fn cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<CancelRequest>,
) -> Answer<Json<Done>> {
    if body.reason.len() > REASON_BYTES_MAX {
        let message = format!("the reason has {} bytes; at most {REASON_BYTES_MAX} are kept", body.reason.len());
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    let job = control.job(&JobKey::parse(&id)?).await?;
    control.done(Command::Cancel { job: job.id, reason: body.reason }).await
}

pub(super) async fn retry(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Done>> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    control.done(Command::Retry(job.id)).await
}

pub(super) async fn explain(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Explanation>> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    match control.handle.command(Command::Explain(job.id)).await? {
        Response::Explained(explanation) => Ok(Json((*explanation).into())),
        Response::Submitted { .. }
        | Response::Done
        | Response::Unchanged
        | Response::Invited(_)
        | Response::Judged(_)
        | Response::Counted(_) => Err(Failure::unexpected()),
    }
}
