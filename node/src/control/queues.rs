//! Queues: their limits, what waits in them, and whether they take and start jobs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{Command, QueueAction, QueueLimits};
use jobmesh_protocol::JobState;
use jobmesh_store::{QueueRow, StoreError, View};

use super::Control;
use super::actions::name;
use super::error::{Answer, Failure};
use super::extract::Ask;
use crate::api::{Done, ErrorCode, QueueMode, QueueRequest, QueueView, Queues};

/// What the database knows of queues: those changed by hand, and how many live jobs each holds, by state.
type Known = (Vec<QueueRow>, Vec<(String, JobState, u64)>);

impl Control {
    /// Every queue that holds a job, was changed by hand or is declared, by name.
    async fn queues(&self) -> Answer<BTreeMap<String, QueueView>> {
        let read = |view: View<'_>| -> Result<Known, StoreError> { Ok((view.queues()?, view.queue_counts()?)) };
        let (by_hand, counts) = self.handle.read(read).await?;
        let mut queues = BTreeMap::new();
        for (name, limits) in &self.handle.config().queues {
            let queue = entry(&mut queues, name);
            queue.concurrency = limits.concurrency.flatten();
            queue.rate = limits.rate.flatten();
        }
        for row in by_hand {
            change(entry(&mut queues, &row.name), &row)?;
        }
        for (name, state, count) in counts {
            entry(&mut queues, &name).jobs.insert(state, count);
        }
        Ok(queues)
    }

    async fn queue(&self, queue: String, action: QueueAction) -> Answer<Json<Done>> {
        self.done(Command::Queue(name("queue", queue)?, action)).await
    }
}

fn entry<'q>(queues: &'q mut BTreeMap<String, QueueView>, name: &str) -> &'q mut QueueView {
    queues.entry(name.to_owned()).or_insert_with(|| QueueView {
        name: name.to_owned(),
        mode: QueueMode::Open,
        concurrency: None,
        rate: None,
        is_set_by_hand: false,
        jobs: BTreeMap::new(),
    })
}

/// Puts what was set by hand over what is declared.
fn change(queue: &mut QueueView, row: &QueueRow) -> Answer<()> {
    queue.is_set_by_hand = true;
    queue.mode = match (row.is_paused, row.is_draining) {
        (true, _) => QueueMode::Paused,
        (false, true) => QueueMode::Draining,
        (false, false) => QueueMode::Open,
    };
    let Some(bytes) = &row.limits else { return Ok(()) };
    let limits = QueueLimits::of_row(bytes).map_err(|error| Failure::internal(&error))?;
    queue.concurrency = limits.concurrency.unwrap_or(queue.concurrency);
    queue.rate = limits.rate.unwrap_or(queue.rate);
    Ok(())
}

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Queues>> {
    Ok(Json(Queues { queues: control.queues().await?.into_values().collect() }))
}

pub(super) async fn show(State(control): State<Control>, Path(queue): Path<String>) -> Answer<Json<QueueView>> {
    let missing = || {
        Failure::new(ErrorCode::NotFound, format!("no job is in a queue {queue:?}, and it has no limits"))
            .hint("`jobmesh queue ls` lists the queues")
    };
    control.queues().await?.remove(&queue).map(Json).ok_or_else(missing)
}

pub(super) async fn set(
    State(control): State<Control>,
    Path(queue): Path<String>,
    Ask(body): Ask<QueueRequest>,
) -> Answer<Json<Done>> {
    let QueueRequest { concurrency, rate } = body;
    if let Some(Some(rate)) = rate {
        rate.check().map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()))?;
    }
    control.queue(queue, QueueAction::Set(QueueLimits { concurrency, rate })).await
}

pub(super) async fn pause(State(control): State<Control>, Path(queue): Path<String>) -> Answer<Json<Done>> {
    control.queue(queue, QueueAction::Pause).await
}

pub(super) async fn resume(State(control): State<Control>, Path(queue): Path<String>) -> Answer<Json<Done>> {
    control.queue(queue, QueueAction::Resume).await
}

pub(super) async fn drain(State(control): State<Control>, Path(queue): Path<String>) -> Answer<Json<Done>> {
    control.queue(queue, QueueAction::Drain).await
}

pub(super) async fn reset(State(control): State<Control>, Path(queue): Path<String>) -> Answer<Json<Done>> {
    control.queue(queue, QueueAction::Reset).await
}
