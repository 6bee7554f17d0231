//! Finds the jobs that a client means, past the engine, in one reading of the last commit.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use jobmesh_engine::Command;
use jobmesh_protocol::JobNumber;
use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_store::{Job, Selection, StoreError, View};

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use super::jobs::{JobKey, last_job};
use super::view::{self, JobRow};
use crate::api::{ErrorCode, Filter, JobList, PICKS_MAX, Pick, SELECTED_MAX, SelectRequest};

/// Ranges of one query.
const RANGES_AT_ONCE: usize = 200;

/// What a selection means now.
pub(super) struct Found {
    pub(super) jobs: Vec<Job>,
    pub(super) more: bool,
}

impl Control {
    /// The jobs that `request` means.
    pub(super) async fn find(&self, request: SelectRequest) -> Answer<Found> {
        if request.jobs.len() > PICKS_MAX {
            let message = format!("{} words name jobs; at most {PICKS_MAX} can", request.jobs.len());
            return Err(Failure::new(ErrorCode::BadRequest, message).hint("name them as ranges, such as 7-900"));
        }
        self.name_tasks(request.jobs.iter().flat_map(single).collect()).await?;
        self.handle.read(move |view| find(view, &request)).await?
    }

    /// Has the tasks made that are named by ranges and wait in their arrays, unmade: something is to be done to them.
    pub(super) async fn name_ranges(&self, mut picks: Vec<Pick>) -> Answer<()> {
        picks.retain(|pick| matches!(pick, Pick::Numbers(_) | Pick::LastTasks(..)));
        if picks.is_empty() {
            return Ok(());
        }
        let read = move |view: View<'_>| {
            let mut unmade = Vec::new();
            for pick in &picks {
                for range in task_ranges(view, pick)? {
                    if !are_made(view, range)? {
                        unmade.push(range);
                    }
                }
            }
            Ok::<_, StoreError>(unmade)
        };
        for (first, last) in self.handle.read(read).await? {
            self.handle.command(Command::NameRange(first, last)).await?;
        }
        Ok(())
    }

    /// The jobs that `request` means, as clients see them.
    pub(super) async fn select(&self, request: SelectRequest) -> Answer<JobList> {
        let Found { jobs, more } = self.find(request).await?;
        self.listed(jobs, more).await
    }

    /// These jobs, as clients see them.
    pub(super) async fn listed(&self, jobs: Vec<Job>, more: bool) -> Answer<JobList> {
        let read = move |view: View<'_>| {
            jobs.into_iter().map(|job| view::job_row(view, job)).collect::<Result<Vec<JobRow>, StoreError>>()
        };
        let rows = self.handle.read(read).await?;
        Ok(JobList { jobs: rows.into_iter().map(|row| view::job(&self.handle, row)).collect(), more })
    }
}

pub(super) async fn select(State(control): State<Control>, Ask(body): Ask<SelectRequest>) -> Answer<Json<JobList>> {
    control.select(body).await.map(Json)
}

/// The jobs that are named one by one, and must be there.
fn single(pick: &Pick) -> Vec<JobKey> {
    match pick {
        Pick::Numbers(spans) => {
            spans.iter().filter(|span| span.count() == 1).map(|span| JobKey::Number(span.first)).collect()
        }
        Pick::LastTasks(first, last) if first == last => vec![JobKey::LastTask(*first)],
        Pick::LastTasks(..) | Pick::All | Pick::Last | Pick::Id(_) => Vec::new(),
    }
}

/// Several tasks of one group that are named together.
fn task_ranges(view: View<'_>, pick: &Pick) -> Result<Vec<Numbers>, StoreError> {
    Ok(match pick {
        Pick::Numbers(spans) => {
            let tasks = spans.iter().filter(|span| span.first.index().is_some() && span.count() > 1);
            tasks.map(|span| (span.first, span.last)).collect()
        }
        Pick::LastTasks(first, last) if first < last => {
            let group = last_job(view)?;
            group.map(|group| (group.task(*first), group.task(*last))).into_iter().collect()
        }
        Pick::LastTasks(..) | Pick::All | Pick::Last | Pick::Id(_) => Vec::new(),
    })
}

/// Whether all tasks of a range are there, so that nobody has to be asked for them.
fn are_made(view: View<'_>, (first, last): Numbers) -> Result<bool, StoreError> {
    let Some(group) = view.group(first.group())? else { return Ok(false) };
    let ends = (group.task_at(0), group.of.checked_sub(1).and_then(|end| group.task_at(end)));
    Ok(matches!(ends, (Some(from), Some(to)) if group.made >= group.of && from <= first && last <= to))
}

/// The outer error is the database's, the inner one the client's.
fn find(view: View<'_>, request: &SelectRequest) -> Result<Answer<Found>, StoreError> {
    let limit = request.limit.unwrap_or(SELECTED_MAX).clamp(1, SELECTED_MAX);
    let mut finding = Finding { view, filter: &request.filter, limit, jobs: Vec::new(), seen: BTreeSet::new() };
    if request.jobs.is_empty() || request.jobs.contains(&Pick::All) {
        finding.query(Vec::new(), request.filter.tasks)?;
        return Ok(Ok(finding.found()));
    }
    let (mut jobs, mut tasks) = (Vec::new(), Vec::new());
    for pick in &request.jobs {
        let ranges = match ranges(view, pick)? {
            Ok(ranges) => ranges,
            Err(missing) => return Ok(Err(missing)),
        };
        for (first, last) in ranges {
            // With the tasks of groups, a group that is named is named with its own.
            let with_own = request.filter.tasks && last.index().is_none();
            let last = if with_own { last.task(NUMBER_MAX) } else { last };
            let list = if first.index().is_some() { &mut tasks } else { &mut jobs };
            list.push((first, last));
        }
    }
    finding.ranges(&jobs, request.filter.tasks)?;
    finding.ranges(&tasks, true)?;
    Ok(Ok(finding.found()))
}

type Numbers = (JobNumber, JobNumber);

/// The numbers that are meant. A job that is named alone must be there; of a range, those that are.
fn ranges(view: View<'_>, pick: &Pick) -> Result<Answer<Vec<Numbers>>, StoreError> {
    let key = match pick {
        Pick::All => return Ok(Ok(Vec::new())),
        Pick::Last => JobKey::Last,
        Pick::LastTasks(first, last) if first == last => JobKey::LastTask(*first),
        Pick::LastTasks(first, last) => {
            let group = last_job(view)?.ok_or_else(|| JobKey::Last.missing());
            return Ok(group.map(|group| vec![(group.task(*first), group.task(*last))]));
        }
        Pick::Id(id) => JobKey::Id(*id),
        Pick::Numbers(spans) => {
            for span in spans.iter().filter(|span| span.count() == 1) {
                if view.state_of(span.first)?.is_none() {
                    return Ok(Err(JobKey::Number(span.first).missing()));
                }
            }
            return Ok(Ok(spans.iter().map(|span| (span.first, span.last)).collect()));
        }
    };
    let found = key.find(view)?.ok_or_else(|| key.missing());
    Ok(found.map(|job| vec![(job.number, job.number)]))
}

struct Finding<'r> {
    view: View<'r>,
    filter: &'r Filter,
    limit: u32,
    jobs: Vec<Job>,
    seen: BTreeSet<JobNumber>,
}

impl Finding<'_> {
    /// Takes what is in any of these ranges, some at a time: SQLite bounds the depth of an expression.
    fn ranges(&mut self, ranges: &[Numbers], with_tasks: bool) -> Result<(), StoreError> {
        for some in ranges.chunks(RANGES_AT_ONCE) {
            self.query(some.to_vec(), with_tasks)?;
        }
        Ok(())
    }

    fn query(&mut self, numbers: Vec<Numbers>, with_tasks: bool) -> Result<(), StoreError> {
        let Filter { states, live, queue, job_type, name, labels, schedule, since, tasks: _ } = self.filter;
        // One more than is wanted tells whether there are more.
        let limit = (self.limit + 1).saturating_sub(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX));
        let selection = Selection {
            states: states.clone(),
            live_only: *live,
            own_only: false,
            queue: queue.clone(),
            job_type: job_type.clone(),
            name: name.clone(),
            labels: labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            schedule: schedule.clone(),
            since: *since,
            numbers,
            with_tasks,
            before: None,
            limit,
        };
        let found = self.view.jobs(&selection)?.into_iter();
        self.jobs.extend(found.filter(|job| self.seen.insert(job.number)));
        Ok(())
    }

    fn found(mut self) -> Found {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = self.jobs.len() > limit;
        self.jobs.truncate(limit);
        Found { jobs: self.jobs, more }
    }
}
