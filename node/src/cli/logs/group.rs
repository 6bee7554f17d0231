//! What the tasks of a group wrote: line by line, with the task before each, since many may write at once.
//!
//! What is there is written task by task, in the order of their numbers. Followed, each task is written as it goes on, no
//! more than [`AT_ONCE`] at a time; the others wait for their turn, which takes nothing from what they wrote. **The
//! hard case** is a task that nobody has seen begin, because it was over at once or the news were too many: once the group
//! has ended, all tasks are looked at again. Such a look finds the last [`SELECTED_MAX`] tasks: of a larger group an
//! earlier task is missing if it had begun before, or if the news of its beginning were missed.

use std::collections::{BTreeSet, VecDeque};

use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jobmesh::api::{
    CHANGE_EVENT, Change, Filter, JobDetail, JobList, JobView, LogStream, Pick, SELECTED_MAX, SelectRequest, Span,
};
use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_protocol::{Epoch, JobId, JobNumber, JobState};

use crate::cli::follow::{Place, Slice, copy_of_task};
use crate::cli::{Failure, JobRef, Kind, note};
use crate::client::{Client, EventStream};

/// Most tasks that are followed at once: each takes two connections to the node.
const AT_ONCE: usize = 16;

/// The tasks of one group, and what is wanted of them.
pub(super) struct Tasks<'c> {
    pub(super) client: &'c Client,
    pub(super) to: Place<'c>,
    pub(super) group: &'c JobView,
    pub(super) streams: &'c [LogStream],
    /// Which attempt; none is the last one.
    pub(super) attempt: Option<Epoch>,
}

/// An attempt of a task.
#[derive(Debug)]
struct Part {
    job: JobId,
    name: String,
    attempt: Epoch,
}

impl Tasks<'_> {
    /// Writes what all of them wrote so far.
    pub(super) async fn write(&self) -> Result<(), Failure> {
        for part in self.parts().await? {
            self.copy(part, false).await?;
        }
        Ok(())
    }

    /// Writes what they wrote and go on to write, until the group has ended. `events` tells of those that begin.
    pub(super) async fn follow(&self, mut events: EventStream) -> Result<(), Failure> {
        let mut copies: FuturesUnordered<BoxFuture<'_, Result<(), Failure>>> = FuturesUnordered::new();
        let mut waiting: VecDeque<Part> = self.parts().await?.into();
        let mut begun: BTreeSet<(JobId, Epoch)> = waiting.iter().map(|part| (part.job, part.attempt)).collect();
        let path = format!("/v1/jobs/{}/wait", self.group.id);
        let mut end = std::pin::pin!(self.client.get::<JobDetail>(&path));
        let mut is_over = false;
        loop {
            while copies.len() < AT_ONCE
                && let Some(part) = waiting.pop_front()
            {
                copies.push(self.copy(part, true).boxed());
            }
            if is_over && copies.is_empty() {
                return Ok(());
            }
            let new = tokio::select! {
                Some(copied) = copies.next() => {
                    copied?;
                    continue;
                }
                change = events.next::<Change>(CHANGE_EVENT), if !is_over => {
                    let gone = || Failure::new(Kind::Draining, "the node shuts down");
                    self.part_of(&change?.ok_or_else(gone)?).into_iter().collect()
                }
                ended = &mut end, if !is_over => {
                    ended?;
                    is_over = true;
                    self.parts().await?
                }
            };
            waiting.extend(new.into_iter().filter(|part| begun.insert((part.job, part.attempt))));
        }
    }

    /// The attempt that has begun by this change.
    fn part_of(&self, change: &Change) -> Option<Part> {
        let is_wanted = self.attempt.is_none_or(|wanted| wanted == change.epoch);
        let has_begun = change.task.is_some() && change.state == JobState::Running;
        (change.number == self.group.number && is_wanted && has_begun).then(|| Part {
            job: change.job,
            name: change.label(),
            attempt: change.epoch,
        })
    }

    /// The attempts to write of all tasks that have begun, in the order of the tasks.
    async fn parts(&self) -> Result<Vec<Part>, Failure> {
        let group = JobNumber::new(u32::try_from(self.group.number).unwrap_or(NUMBER_MAX));
        let span = Span { first: group, last: group };
        let filter = Filter { tasks: true, ..Filter::default() };
        let request = SelectRequest { jobs: vec![Pick::Numbers(vec![span])], filter, limit: Some(SELECTED_MAX) };
        let list: JobList = self.client.post("/v1/select", &request).await?;
        if list.more {
            note(&format!("only the last {SELECTED_MAX} tasks are shown; name the others one by one, as {group}.1"));
        }
        // They come newest first.
        let begun = list.jobs.iter().rev().filter(|job| job.task.is_some() && job.epoch > Epoch(0));
        let part =
            |task: &JobView| Part { job: task.id, name: task.label(), attempt: self.attempt.unwrap_or(task.epoch) };
        Ok(begun.map(part).collect())
    }

    async fn copy(&self, part: Part, follow: bool) -> Result<(), Failure> {
        let job = JobRef::of(part.job);
        let (job, name) = (&job, part.name.as_str());
        let streams = self.streams.iter().map(|stream| async move {
            let slice = Slice { stream: *stream, attempt: Some(part.attempt), offset: 0, follow };
            match copy_of_task(self.client, self.to, (job, Some(name)), slice).await {
                Ok(_) => Ok(()),
                // One that vanished has left nothing.
                Err(failure) if failure.kind() == Kind::NotFound => Ok(()),
                // One that runs elsewhere has written nothing that is here yet.
                Err(failure) if failure.kind() == Kind::Conflict => {
                    note(failure.message());
                    Ok(())
                }
                Err(failure) => Err(failure),
            }
        });
        try_join_all(streams).await.map(drop)
    }
}
