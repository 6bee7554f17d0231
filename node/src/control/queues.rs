//! Queues: their limits, what waits in them, and whether they take and start jobs.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{Command, QueueAction, QueueLimits};
use jobmesh_protocol::{JobState, RunId};
use jobmesh_store::{QueueRow, StoreError, View};

use super::Control;
use super::actions::name;
use super::error::{Answer, Failure};
use super::extract::Ask;
use crate::api::{Done, ErrorCode, QueueMode, QueueRequest, QueueView, Queues};

/// What the database knows of queues: those changed by hand, how many live jobs each holds, by state, and of which each
/// claimed job is.
type Known = (Vec<QueueRow>, Vec<(String, JobState, u64)>, Vec<String>);

impl Control {
    /// Every queue that holds a job, was changed by hand or is declared, by name.
    async fn queues(&self) -> Answer<BTreeMap<String, QueueView>> {
        let claimed = self.handle.claimed();
        let read = move |view: View<'_>| -> Result<Known, StoreError> {
            Ok((view.queues()?, view.queue_counts()?, claimed_queues(view, claimed)?))
        };
        let (by_hand, counts, claimed) = self.handle.read(read).await?;
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
        for name in claimed {
            count_as_waiting(&mut entry(&mut queues, &name).jobs, 1);
        }
        Ok(queues)
    }

    async fn queue(&self, queue: String, action: QueueAction) -> Answer<Json<Done>> {
        self.done(Command::Queue(name("queue", queue)?, action)).await
    }
}

/// The queues of those jobs that were claimed and still are, one for each.
pub(super) fn claimed_queues(view: View<'_>, claimed: BTreeSet<RunId>) -> Result<Vec<String>, StoreError> {
    let mut queues = Vec::new();
    for run in claimed {
        queues.extend(view.queue_of_run(run)?);
    }
    Ok(queues)
}

/// Takes so many jobs for what they are to people: claimed ones wait until they begin.
pub(super) fn count_as_waiting(jobs: &mut BTreeMap<JobState, u64>, claimed: usize) {
    let running = jobs.remove(&JobState::Running).unwrap_or(0);
    let claimed = u64::try_from(claimed).unwrap_or(u64::MAX).min(running);
    let counts = [(JobState::Running, running - claimed), (JobState::Available, claimed)];
    for (state, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        *jobs.entry(state).or_default() += count;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_job_waits_until_it_begins() {
        let mut jobs = BTreeMap::from([(JobState::Running, 3), (JobState::Completed, 7)]);
        count_as_waiting(&mut jobs, 2);
        let wanted = [(JobState::Running, 1), (JobState::Available, 2), (JobState::Completed, 7)];
        assert_eq!(jobs, wanted.into());
        count_as_waiting(&mut jobs, 9);
        assert_eq!(jobs, [(JobState::Available, 3), (JobState::Completed, 7)].into());
    }
}
