//! Doing something to jobs: to one, or to all that a selection means.
//!
//! The commands of a selection are handed to the engine together, so that they share commits. Each stands for itself:
//! one that is refused keeps none of the others from being carried out.

use axum::Json;
use axum::extract::{Path, State};
use futures::stream::{self, StreamExt as _};
use jobmesh_engine::{Command, JobAction, Response};
use jobmesh_protocol::JobNumber;
use jobmesh_protocol::job::check_name;
use jobmesh_store::Job;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use super::jobs::JobKey;
use crate::api::{
    ActRequest, Acted, ActedJob, Action, CancelRequest, Done, ErrorCode, HoldRequest, MoveRequest, Pick,
    PrioritizeRequest, PruneRequest, Pruned, RescheduleRequest, number_parts,
};

/// Longest reason for a cancel or a hold.
const REASON_BYTES_MAX: usize = 256;
/// Commands of one request that wait for the engine at once: enough for one commit, and a small part of its inbox.
const COMMANDS_MAX: usize = 128;
/// Jobs that are deleted with one commit: a larger one would hold up everybody else.
const PRUNE_BATCH: u32 = 500;

impl Control {
    /// Hands in a command that is either carried out or found to be so already.
    pub(super) async fn done(&self, command: Command) -> Answer<Json<Done>> {
        match self.handle.command(command).await? {
            Response::Done | Response::Submitted(_) => Ok(Json(Done { changed: true })),
            Response::Unchanged => Ok(Json(Done { changed: false })),
            Response::Pruned(_)
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Judged(_)
            | Response::Counted(_)
            | Response::Granted(_) => Err(Failure::unexpected()),
        }
    }

    async fn act(&self, id: &str, action: Action) -> Answer<Json<Done>> {
        let action = checked(action)?;
        let job = self.job(&JobKey::parse(id)?).await?;
        self.done(Command::Job(job.id, action)).await
    }

    async fn act_on(&self, job: Job, action: JobAction) -> ActedJob {
        let (number, task) = number_parts(job.number);
        let is_retimed = matches!(action, JobAction::Reschedule(_));
        let (changed, error) = match self.done(Command::Job(job.id, action)).await {
            Ok(Json(done)) => (done.changed, None),
            Err(failure) => (false, Some(failure.into_error())),
        };
        ActedJob { id: job.id, number, task, changed, stays_held: changed && is_retimed && job.held.is_some(), error }
    }
}

/// Whether an action is for jobs that have not ended.
const fn is_for_live(action: &Action) -> bool {
    match action {
        Action::Cancel(_)
        | Action::Hold(_)
        | Action::Release
        | Action::Reschedule(_)
        | Action::Prioritize(_)
        | Action::Move(_) => true,
        Action::Retry | Action::Close | Action::Remove => false,
    }
}

/// Whether a task is meant by a range of tasks, and not by its own number.
fn is_one_of_many(picks: &[Pick], number: JobNumber) -> bool {
    let Some(index) = number.index() else { return false };
    let covers = |pick: &Pick, is_alone: bool| match pick {
        Pick::Numbers(spans) => spans.iter().any(|span| {
            (span.count() == 1) == is_alone
                && span.first.group() == number.group()
                && span.first <= number
                && number <= span.last
        }),
        Pick::LastTasks(first, last) => (first == last) == is_alone && (*first..=*last).contains(&index),
        Pick::All | Pick::Last | Pick::Id(_) => false,
    };
    picks.iter().any(|pick| covers(pick, false)) && !picks.iter().any(|pick| covers(pick, true))
}

/// The engine's word for an action, once its texts are found to be in bounds.
fn checked(action: Action) -> Answer<JobAction> {
    let action = match action {
        Action::Cancel(CancelRequest { reason, force }) => {
            JobAction::Cancel { reason: short("reason", reason, REASON_BYTES_MAX)?, is_forced: force }
        }
        Action::Retry => JobAction::Retry,
        Action::Hold(HoldRequest { reason }) => JobAction::Hold { reason: short("reason", reason, REASON_BYTES_MAX)? },
        Action::Release => JobAction::Release,
        Action::Reschedule(RescheduleRequest { at }) => JobAction::Reschedule(at),
        Action::Prioritize(PrioritizeRequest { priority }) => JobAction::Prioritize(priority),
        Action::Move(MoveRequest { queue }) => JobAction::Move(name("queue", queue)?),
        Action::Close => JobAction::Close,
        Action::Remove => JobAction::Remove,
    };
    Ok(action)
}

fn short(what: &str, text: String, limit: usize) -> Answer<String> {
    if text.len() > limit {
        let message = format!("the {what} has {} bytes; at most {limit} are kept", text.len());
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    Ok(text)
}

/// The name of a queue or schedule, if it can be one.
pub(super) fn name(what: &'static str, text: String) -> Answer<String> {
    check_name(what, &text).map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()))?;
    Ok(text)
}

pub(super) async fn act_on_all(State(control): State<Control>, Ask(body): Ask<ActRequest>) -> Answer<Json<Acted>> {
    let ActRequest { select, action } = body;
    if select.jobs.is_empty() && select.filter.is_empty() {
        let failure = Failure::new(ErrorCode::BadRequest, "the question does not say which jobs are meant");
        return Err(failure.hint("name them, say what they are like, or say `all`"));
    }
    let is_for_live = is_for_live(&action);
    let action = checked(action)?;
    let picks = select.jobs.clone();
    control.name_ranges(picks.clone()).await?;
    let mut found = control.find(select).await?;
    // A range of tasks means those of them that it can be done to.
    found.jobs.retain(|job| !(is_for_live && job.state.is_final() && is_one_of_many(&picks, job.number)));
    let acting = stream::iter(found.jobs).map(|job| control.act_on(job, action.clone()));
    let jobs = acting.buffered(COMMANDS_MAX).collect().await;
    Ok(Json(Acted { jobs, more: found.more }))
}

pub(super) async fn cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<CancelRequest>,
) -> Answer<Json<Done>> {
    control.act(&id, Action::Cancel(body)).await
}

pub(super) async fn retry(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Done>> {
    control.act(&id, Action::Retry).await
}

pub(super) async fn hold(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<HoldRequest>,
) -> Answer<Json<Done>> {
    control.act(&id, Action::Hold(body)).await
}

pub(super) async fn release(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Done>> {
    control.act(&id, Action::Release).await
}

pub(super) async fn reschedule(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<RescheduleRequest>,
) -> Answer<Json<Done>> {
    control.act(&id, Action::Reschedule(body)).await
}

pub(super) async fn prioritize(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<PrioritizeRequest>,
) -> Answer<Json<Done>> {
    control.act(&id, Action::Prioritize(body)).await
}

pub(super) async fn move_to(
    State(control): State<Control>,
    Path(id): Path<String>,
    Ask(body): Ask<MoveRequest>,
) -> Answer<Json<Done>> {
    control.act(&id, Action::Move(body)).await
}

pub(super) async fn close(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Done>> {
    control.act(&id, Action::Close).await
}

pub(super) async fn remove(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Done>> {
    control.act(&id, Action::Remove).await
}

pub(super) async fn prune(State(control): State<Control>, Ask(body): Ask<PruneRequest>) -> Answer<Json<Pruned>> {
    let mut jobs = 0;
    loop {
        let command = Command::Prune { limit: PRUNE_BATCH, ended_before: body.ended_before };
        let Response::Pruned(deleted) = control.handle.command(command).await? else {
            return Err(Failure::unexpected());
        };
        jobs += u64::from(deleted);
        if deleted < PRUNE_BATCH {
            return Ok(Json(Pruned { jobs }));
        }
    }
}
