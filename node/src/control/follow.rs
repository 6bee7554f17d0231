//! Waiting and watching: subscribe first, then read, so that nothing falls between.
//!
//! **The hard case** is a watcher that is slower than the node: it misses some changes. One that watches a job gets
//! them from the job's history instead; one that watches everything is told how many it missed.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::Stream;
use jobmesh_engine::Change as EngineChange;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{DurationMillis, JobId, JobNumber};
use jobmesh_store::View;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Control;
use super::artifacts;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use super::jobs::JobKey;
use super::select::Found;
use super::view;
use crate::api::{
    CHANGE_EVENT, Change, ErrorCode, JobDetail, JobList, MISSED_EVENT, Missed, SelectRequest, WaitQuery, WaitRequest,
    number_parts,
};

pub(super) async fn wait(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<JobDetail>> {
    let detail = until_final(&control, &JobKey::parse(&id)?, Limit::new(query.timeout_ms)).await?;
    detail.ok_or_else(|| {
        Failure::new(ErrorCode::Timeout, format!("job {id} has not ended in time"))
            .hint(format!("`jobmesh explain {id}` says what it waits for"))
    })
}

/// How long a client waits. What holds already is told however short that is: a limit of 0 asks whether it does.
#[derive(Clone, Copy)]
struct Limit(Option<Instant>);

impl Limit {
    /// This long from now; none is for ever.
    fn new(length: Option<DurationMillis>) -> Self {
        // A length beyond what the clock can tell is for ever, too.
        Self(length.and_then(|length| Instant::now().checked_add(Duration::from_millis(length.0))))
    }

    /// Comes back when the time is over.
    async fn over(self) {
        match self.0 {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
}

/// The job once it has ended; none if the time is over before.
async fn until_final(control: &Control, key: &JobKey, limit: Limit) -> Answer<Option<Json<JobDetail>>> {
    let mut changes = control.handle.subscribe();
    let job = control.job(key).await?;
    // `last` must not become another job on the way.
    let key = JobKey::Id(job.id);
    loop {
        let row = control.detail(&key).await?;
        if row.row.job.state.is_final() {
            return Ok(Some(Json(artifacts::detail(control, row).await)));
        }
        tokio::select! {
            changed = control.changed(&mut changes, job.id) => changed?,
            () = limit.over() => return Ok(None),
        }
    }
}

pub(super) async fn wait_for_all(State(control): State<Control>, Ask(body): Ask<WaitRequest>) -> Answer<Json<JobList>> {
    let WaitRequest { select, any, timeout_ms } = body;
    let list = until_ended(&control, select, any, Limit::new(timeout_ms)).await?;
    list.ok_or_else(|| {
        Failure::new(ErrorCode::Timeout, "the jobs have not ended in time")
            .hint("`jobmesh ls --live` shows those that have not, `jobmesh explain ID` says why")
    })
}

/// The jobs once they have ended; none if the time is over before.
async fn until_ended(
    control: &Control,
    select: SelectRequest,
    any: bool,
    limit: Limit,
) -> Answer<Option<Json<JobList>>> {
    let mut changes = control.handle.subscribe();
    let Found { jobs, more } = control.find(select).await?;
    let all: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut open: BTreeSet<JobId> = jobs.iter().filter(|job| !job.state.is_final()).map(|job| job.id).collect();
    while !(open.is_empty() || any && open.len() < all.len()) {
        let change = tokio::select! {
            biased;
            () = control.closing.cancelled() => return Err(stopped()),
            // Before the changes, of which a busy node always has one more.
            () = limit.over() => return Ok(None),
            change = changes.recv() => change,
        };
        match change {
            Ok(change) if change.state.is_final() => drop(open.remove(&change.job)),
            Ok(_) => {}
            // Some ends may have gone by unheard.
            Err(RecvError::Lagged(_)) => open = control.still_open(open).await?,
            Err(RecvError::Closed) => return Err(stopped()),
        }
    }
    let read = move |view: View<'_>| all.into_iter().filter_map(|id| view.job(id).transpose()).collect();
    let jobs = control.handle.read(read).await?;
    control.listed(jobs, more).await.map(|list| Some(Json(list)))
}

fn stopped() -> Failure {
    Failure::new(ErrorCode::Draining, "this node shuts down")
}

impl Control {
    async fn still_open(&self, open: BTreeSet<JobId>) -> Answer<BTreeSet<JobId>> {
        let read = move |view: View<'_>| {
            let mut still = BTreeSet::new();
            for id in open {
                if view.job(id)?.is_some_and(|job| !job.state.is_final()) {
                    still.insert(id);
                }
            }
            Ok(still)
        };
        Ok(self.handle.read(read).await?)
    }

    /// Waits until something happened to a job, or may have.
    pub(super) async fn changed(&self, changes: &mut Receiver<EngineChange>, job: JobId) -> Answer<()> {
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
    let mut watch = Watch::new(control, changes, (job.id, job.number));
    watch.begin_with_the_present().await?;
    if watch.news.is_empty() {
        let (state, epoch, at) = (job.state, job.epoch, job.state_since);
        let (number, task) = number_parts(job.number);
        let now = Change { event: 0, job: job.id, number, task, state, cause: Cause::Ready, epoch, node: None, at };
        watch.news.push_back(now);
    }
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await?;
        Some((Ok(event(CHANGE_EVENT, &change)), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Follows one job to its end.
pub(super) struct Watch {
    control: Control,
    changes: Receiver<EngineChange>,
    job: JobId,
    number: JobNumber,
    /// The last event that was put among the news.
    seen: u64,
    news: VecDeque<Change>,
    is_over: bool,
}

impl Watch {
    /// Follows a job by the changes from now on.
    pub(super) const fn new(
        control: Control,
        changes: Receiver<EngineChange>,
        (job, number): (JobId, JobNumber),
    ) -> Self {
        Self { control, changes, job, number, seen: 0, news: VecDeque::new(), is_over: false }
    }

    pub(super) const fn control(&self) -> &Control {
        &self.control
    }

    pub(super) const fn job(&self) -> JobId {
        self.job
    }

    /// Whether the end of the job was among the news.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Makes the present the first of the news; what led to it is history.
    pub(super) async fn begin_with_the_present(&mut self) -> Answer<()> {
        self.read_on().await?;
        self.news.drain(..self.news.len().saturating_sub(1));
        Ok(())
    }

    pub(super) async fn next(&mut self) -> Option<Change> {
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
