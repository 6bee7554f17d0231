//! What an import asks of the node: what is there already, and then, piece by piece, what is new.
//!
//! **The hard case** is an import that breaks off in the middle. Everything that was asked for is kept by then, and
//! unique or named, so that the same import does the rest.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use jobmesh::api::{Batch, Done, Filter, JobList, QueueRequest, Queues, Schedules, SelectRequest};
use jobmesh::import::{LABEL_KEY, LABEL_SOURCE, Plan, PlannedJob, PlannedSchedule, Present};
use jobmesh_protocol::JobId;
use jobmesh_protocol::submission::Dependency;
use serde_json::{Map, Value};

use crate::client::{Client, ClientError, segment};

/// Most bytes of one batch, unless a single job has more: well below what the daemon takes.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Most jobs of one batch: it is one transaction, which holds up everybody else.
const BATCH_JOBS_MAX: usize = 1000;

/// What of the plan is on the node already.
///
/// # Errors
/// [`ClientError`] if the node does not answer.
pub(super) async fn present(client: &Client, plan: &Plan) -> Result<Present, ClientError> {
    let mut present = Present::default();
    if plan.jobs().next().is_some() {
        present.jobs = imported(client, plan).await?;
    }
    if plan.schedules().next().is_some() {
        let found: Schedules = client.get("/v1/schedules").await?;
        present.schedules = found.schedules.into_iter().map(|view| (view.name, view.schedule)).collect();
    }
    if !plan.queues.is_empty() {
        let found: Queues = client.get("/v1/queues").await?;
        let has_limits =
            |it: &&jobmesh::api::QueueView| it.is_set_by_hand || it.concurrency.is_some() || it.rate.is_some();
        present.queues = found.queues.iter().filter(has_limits).map(|queue| queue.name.clone()).collect();
    }
    Ok(present)
}

/// The jobs that were imported from such a source, by their keys: list by list, since one holds only so many.
async fn imported(client: &Client, plan: &Plan) -> Result<BTreeMap<String, JobId>, ClientError> {
    let labels = BTreeMap::from([(LABEL_SOURCE.to_owned(), plan.kind.word().to_owned())]);
    let filter = Filter { labels, ..Filter::default() };
    let mut request = SelectRequest { filter, ..SelectRequest::default() };
    let mut jobs = BTreeMap::new();
    loop {
        let list: JobList = client.post("/v1/select", &request).await?;
        jobs.extend(keys(&list));
        let oldest = list.jobs.iter().map(|job| job.number).min();
        // The oldest is asked for once more: a single job that is named must be there, a range need not.
        let rest =
            oldest.filter(|oldest| list.more && *oldest > 1).and_then(|oldest| format!("1-{oldest}").parse().ok());
        let Some(rest) = rest else { return Ok(jobs) };
        request.jobs = vec![rest];
    }
}

/// The imported jobs of a list by their keys.
fn keys(list: &JobList) -> BTreeMap<String, JobId> {
    list.jobs.iter().filter_map(|job| Some((job.labels.get(LABEL_KEY)?.clone(), job.id))).collect()
}

/// Does what is not done yet: queues first, so that their limits hold, then jobs, then schedules.
///
/// # Errors
/// [`ClientError`] if the node refuses or goes away. What was done by then stays, and the next import goes on.
pub(super) async fn carry_out(client: &Client, plan: &Plan, present: &Present) -> Result<(), ClientError> {
    for queue in plan.queues.iter().filter(|queue| !present.queues.contains(&queue.name)) {
        let request = QueueRequest { concurrency: queue.limits.concurrency, rate: queue.limits.rate };
        let _: Done = client.put(&format!("/v1/queues/{}", segment(&queue.name)), &request).await?;
    }
    let mut ids = present.jobs.clone();
    for round in plan.rounds(present) {
        submit(client, &round, &mut ids).await?;
    }
    for schedule in plan.schedules() {
        match present.schedules.get(&schedule.name) {
            None => set_schedule(client, schedule).await?,
            // One that is paused stays so.
            Some(there) => {
                if let Some(changed) = schedule.change(there) {
                    let _: Done = client.put(&path_of(schedule), &changed).await?;
                }
            }
        }
    }
    Ok(())
}

/// Submits jobs that wait for none of each other, and learns their ids.
async fn submit(client: &Client, round: &[&PlannedJob], ids: &mut BTreeMap<String, JobId>) -> Result<(), ClientError> {
    let mut lines: Vec<u8> = Vec::new();
    let mut count = 0;
    for job in round {
        let line = line(job, ids)?;
        if count == BATCH_JOBS_MAX || (count > 0 && lines.len() + line.len() > BATCH_BYTES_MAX) {
            learn(client, std::mem::take(&mut lines), ids).await?;
            count = 0;
        }
        lines.extend_from_slice(&line);
        lines.push(b'\n');
        count += 1;
    }
    learn(client, lines, ids).await
}

/// A submission with the ids of the jobs that it waits for.
fn line(job: &PlannedJob, ids: &BTreeMap<String, JobId>) -> Result<Vec<u8>, ClientError> {
    let mut submission = job.submission.clone();
    let known = job.after.iter().filter_map(|key| ids.get(key));
    submission.after = known.map(|id| Dependency { job: *id, on: None }).collect();
    let question = || "a job of the import".to_owned();
    serde_json::to_vec(&submission).map_err(|source| ClientError::Answer { question: question(), source })
}

/// Submits a batch, and asks for the ids of its jobs.
async fn learn(client: &Client, lines: Vec<u8>, ids: &mut BTreeMap<String, JobId>) -> Result<(), ClientError> {
    if lines.is_empty() {
        return Ok(());
    }
    let batch: Batch = client.post_bytes("/v1/jobs/batch", Bytes::from(lines)).await?;
    let spans: Vec<String> = batch.numbers.iter().map(|[first, last]| format!("{first}-{last}")).collect();
    let picks = spans.iter().filter_map(|span| span.parse().ok()).collect();
    let request = SelectRequest { jobs: picks, ..SelectRequest::default() };
    ids.extend(keys(&client.post("/v1/select", &request).await?));
    Ok(())
}

/// Makes a schedule. One that is to be paused must not fire before it is: until then, what it would submit is held.
async fn set_schedule(client: &Client, planned: &PlannedSchedule) -> Result<(), ClientError> {
    let path = path_of(planned);
    if planned.is_paused {
        let mut held = planned.schedule.clone();
        held.submission.held = true;
        let _: Done = client.put(&path, &held).await?;
        pause(client, &path).await?;
    }
    let _: Done = client.put(&path, &planned.schedule).await?;
    if planned.is_paused {
        pause(client, &path).await?;
    }
    Ok(())
}

fn path_of(schedule: &PlannedSchedule) -> String {
    format!("/v1/schedules/{}", segment(&schedule.name))
}

async fn pause(client: &Client, path: &str) -> Result<(), ClientError> {
    let _: Done = client.post(&format!("{path}/pause"), &Map::<String, Value>::new()).await?;
    Ok(())
}
