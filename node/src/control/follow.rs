//! Waiting and watching: subscribe first, then read, so that nothing falls between.
//!
//! **The hard case** is a watcher that is slower than the node: it misses some changes. One that watches a job gets
//! them from the job's history instead; one that watches everything is told how many it missed.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::Stream;
use jobmesh_engine::Change as EngineChange;
use jobmesh_protocol::JobId;
use jobmesh_protocol::state::Cause;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::jobs::JobKey;
use super::view;
use crate::api::{CHANGE_EVENT, Change, ErrorCode, JobDetail, MISSED_EVENT, Missed, WaitQuery};

pub(super) async fn wait(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<JobDetail>> {
    let key = JobKey::parse(&id)?;
    let finished = until_final(&control, &key);
    let Some(limit) = query.timeout_ms else { return finished.await };
    match tokio::time::timeout(std::time::Duration::from_millis(limit.0), finished).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Failure::new(ErrorCode::Timeout, format!("job {id} has not ended within {} ms", limit.0))
            .hint(format!("`jobmesh explain {id}` says what it waits for"))),
    }
}

async fn until_final(control: &Control, key: &JobKey) -> Answer<Json<JobDetail>> {
    let mut changes = control.handle.subscribe();
    let job = control.job(key).await?;
    // `last` must not become another job on the way.
    let key = JobKey::Id(job.id);
    loop {
        let row = control.detail(&key).await?;
        if row.row.job.state.is_final() {
            return Ok(Json(view::detail(&control.handle, row)));
        }
        control.changed(&mut changes, job.id).await?;
    }
}

impl Control {
    /// Waits until something happened to a job, or may have.
    pub(super) async fn changed(&self, changes: &mut Receiver<EngineChange>, job: JobId) -> Answer<()> {
        let stopped = || Failure::new(ErrorCode::Draining, "this node shuts down");
        loop {
            let change = tokio::select! {
                biased;
                () = self.closing.cancelled() => return Err(stopped()),
                change = changes.recv() => change,
            };
            match change {
                Ok(change) if change.job == job => return Ok(()),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(stopped()),
            }
        }
    }
}

type Events<S> = Sse<axum::response::sse::KeepAliveStream<S>>;

pub(super) async fn watch(
    State(control): State<Control>,
    Path(id): Path<String>,
) -> Answer<Events<impl Stream<Item = Result<SseEvent, Infallible>>>> {
    let changes = control.handle.subscribe();
    let job = control.job(&JobKey::parse(&id)?).await?;
    let mut watch =
        Watch { control, changes, job: job.id, number: job.number, seen: 0, news: VecDeque::new(), is_over: false };
    watch.read_on().await?;
    // The first news is the present; what led to it is history.
    watch.news.drain(..watch.news.len().saturating_sub(1));
    if watch.news.is_empty() {
        let (state, epoch, at) = (job.state, job.epoch, job.state_since);
        let now =
            Change { event: 0, job: job.id, number: job.number, state, cause: Cause::Ready, epoch, node: None, at };
        watch.news.push_back(now);
    }
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await?;
        Some((Ok(event(CHANGE_EVENT, &change)), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Follows one job to its end.
struct Watch {
    control: Control,
    changes: Receiver<EngineChange>,
    job: JobId,
    number: u64,
    /// The last event that was put among the news.
    seen: u64,
    news: VecDeque<Change>,
    is_over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Change> {
        while !self.is_over {
            if let Some(change) = self.news.pop_front() {
                self.is_over = change.state.is_final();
                return Some(change);
            }
            let change = tokio::select! {
                biased;
                () = self.control.closing.cancelled() => return None,
                change = self.changes.recv() => change,
            };
            match change {
                Ok(change) if change.job == self.job && change.event > self.seen => {
                    self.seen = change.event;
                    self.news.push_back(view::change(&self.control.handle, change));
                }
                Ok(_) => {}
                // The client sees the stream end without a final state, and asks again.
                Err(RecvError::Lagged(_)) => self.read_on().await.ok()?,
                Err(RecvError::Closed) => return None,
            }
        }
        None
    }

    /// Takes from the job's history what is not among the news yet.
    async fn read_on(&mut self) -> Answer<()> {
        let job = self.job;
        let events = self.control.handle.read(move |view| view.events(job)).await?;
        for event in events.iter().filter(|event| event.id > self.seen) {
            self.news.push_back(view::change_of(&self.control.handle, self.number, event));
        }
        self.seen = events.last().map_or(self.seen, |event| event.id.max(self.seen));
        Ok(())
    }
}

pub(super) async fn events(State(control): State<Control>) -> Events<impl Stream<Item = Result<SseEvent, Infallible>>> {
    let changes = control.handle.subscribe();
    let stream = futures::stream::unfold((control, changes), |(control, mut changes)| async move {
        let change = tokio::select! {
            biased;
            () = control.closing.cancelled() => return None,
            change = changes.recv() => change,
        };
        let event = match change {
            Ok(change) => event(CHANGE_EVENT, &view::change(&control.handle, change)),
            Err(RecvError::Lagged(missed)) => event(MISSED_EVENT, &Missed { changes: missed }),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), (control, changes)))
    });
    std::future::ready(Sse::new(stream).keep_alive(KeepAlive::default())).await
}

fn event<T: Serialize>(name: &str, data: &T) -> SseEvent {
    // Our own types always serialise; an empty event says no more than it must.
    let json = serde_json::to_string(data).unwrap_or_default();
    SseEvent::default().event(name).data(json)
}
