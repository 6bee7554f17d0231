//! Jobs: list, show, explain, and what would become of one.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{Command, NAMED_MAX, Response};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{JobId, JobNumber};
use jobmesh_store::{Job, Selection, StoreError, View};

use super::Control;
use super::artifacts;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use super::view::{self, DetailRow};
use crate::api::{
    ErrorCode, Explanation, Filter, JobDetail, JobList, ListQuery, Pick, SELECTED_MAX, SelectRequest, SubmitRequest,
};

/// Jobs in a list unless asked for otherwise.
const LIST_DEFAULT: u32 = 50;
/// Jobs that are looked at together for the one that was submitted last: seldom more than the first.
const LAST_PAGE: u32 = 20;

/// How a client names a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKey {
    /// The one that was submitted last.
    Last,
    /// A task of that one.
    LastTask(u32),
    /// By its number on this node.
    Number(JobNumber),
    /// By its id everywhere.
    Id(JobId),
}

impl JobKey {
    pub(super) fn parse(text: &str) -> Answer<Self> {
        match text.parse() {
            Ok(Pick::Last) => return Ok(Self::Last),
            Ok(Pick::LastTasks(first, last)) if first == last => return Ok(Self::LastTask(first)),
            Ok(Pick::LastTasks(..) | Pick::All | Pick::Id(_) | Pick::Numbers(_)) | Err(_) => {}
        }
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        text.parse().map(Self::Id).map_err(|_| {
            Failure::new(ErrorCode::BadRequest, format!("{text:?} names no job"))
                .hint("a job is named by its number, such as 42 or 42.7 for a task, its whole id, `last` or `last.7`")
        })
    }

    /// The job, if there is one.
    pub(super) fn find(&self, view: View<'_>) -> Result<Option<Job>, StoreError> {
        if let Self::Id(id) = self {
            return view.job(*id);
        }
        match self.number(view)? {
            Some(number) => view.job_by_number(number),
            None => Ok(None),
        }
    }

    /// The number that is meant, whether there is such a job or not. None if it is named by its id, or as the last of
    /// none.
    fn number(&self, view: View<'_>) -> Result<Option<JobNumber>, StoreError> {
        match self {
            Self::Last => last_job(view),
            Self::LastTask(task) => Ok(last_job(view)?.map(|last| last.task(*task))),
            Self::Number(number) => Ok(Some(*number)),
            Self::Id(_) => Ok(None),
        }
    }

    /// Whether it names a task of a group.
    const fn is_of_a_task(&self) -> bool {
        match self {
            Self::LastTask(_) => true,
            Self::Number(number) => number.index().is_some(),
            Self::Last | Self::Id(_) => false,
        }
    }

    /// What to say if there is none.
    pub(super) fn missing(&self) -> Failure {
        let message = match self {
            Self::Last => "this node has no job yet".to_owned(),
            Self::LastTask(task) => format!("the last job of this node has no task {task} that has started or ended"),
            Self::Number(number) => format!("there is no job {number} on this node"),
            Self::Id(id) => format!("there is no job {id} on this node"),
        };
        Failure::new(ErrorCode::NotFound, message).hint("`jobmesh ls` lists the jobs of this node")
    }
}

/// The job that somebody submitted last to this node: neither one of the node's own, nor one of a peer's.
pub(super) fn last_job(view: View<'_>) -> Result<Option<JobNumber>, StoreError> {
    let mut page = Selection { own_only: true, limit: LAST_PAGE, ..Selection::default() };
    loop {
        let jobs = view.jobs(&page)?;
        let is_chore = |job: &&Job| matches!(job.spec.task, Task::Builtin(_));
        if let Some(job) = jobs.iter().find(|job| !is_chore(job)) {
            return Ok(Some(job.number));
        }
        let Some(oldest) = jobs.last() else { return Ok(None) };
        page.before = Some(oldest.number);
    }
}

impl Control {
    /// Has those tasks made that a client names and that wait in their array, unmade.
    pub(super) async fn name_tasks(&self, mut keys: Vec<JobKey>) -> Answer<()> {
        keys.retain(JobKey::is_of_a_task);
        if keys.is_empty() {
            return Ok(());
        }
        let missing = move |view: View<'_>| {
            let mut missing = Vec::new();
            for key in keys {
                if let Some(number) = key.number(view)?
                    && view.state_of(number)?.is_none()
                {
                    missing.push(number);
                }
            }
            Ok::<_, StoreError>(missing)
        };
        for numbers in self.handle.read(missing).await?.chunks(NAMED_MAX) {
            self.handle.command(Command::NameTasks(numbers.to_vec())).await?;
        }
        Ok(())
    }

    /// The job that a client names.
    pub(super) async fn job(&self, key: &JobKey) -> Answer<Job> {
        let wanted = *key;
        self.name_tasks(vec![wanted]).await?;
        self.handle.read(move |view| wanted.find(view)).await?.ok_or_else(|| key.missing())
    }

    /// Everything that is kept of the job that a client names.
    pub(super) async fn detail(&self, key: &JobKey) -> Answer<DetailRow> {
        let wanted = *key;
        self.name_tasks(vec![wanted]).await?;
        let read = move |view: View<'_>| wanted.find(view)?.map(|job| view::detail_row(view, job)).transpose();
        self.handle.read(read).await?.ok_or_else(|| key.missing())
    }
}

pub(super) async fn list(State(control): State<Control>, Params(query): Params<ListQuery>) -> Answer<Json<JobList>> {
    let ListQuery { state, live, queue, job_type, name, limit } = query;
    let states = state.into_iter().collect();
    let filter = Filter { states, live, queue, job_type, name, ..Filter::default() };
    let limit = Some(limit.unwrap_or(LIST_DEFAULT).min(SELECTED_MAX));
    control.select(SelectRequest { jobs: Vec::new(), filter, limit }).await.map(Json)
}

pub(super) async fn show(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<JobDetail>> {
    let row = control.detail(&JobKey::parse(&id)?).await?;
    Ok(Json(artifacts::detail(&control, row).await))
}

pub(super) async fn explain(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Explanation>> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    explained(control.handle.command(Command::Explain(job.id)).await?)
}

pub(super) async fn plan(State(control): State<Control>, Ask(body): Ask<SubmitRequest>) -> Answer<Json<Explanation>> {
    control.check_input(&body.spec).await?;
    explained(control.handle.command(Command::Plan(Box::new(body))).await?)
}

fn explained(response: Response) -> Answer<Json<Explanation>> {
    if let Response::Explained(explanation) = response {
        return Ok(Json((*explanation).into()));
    }
    Err(Failure::unexpected())
}
