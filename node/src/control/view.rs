//! Turns rows into what clients see, with names in place of bare ids.

use jobmesh_engine::{Change as EngineChange, Taken};
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::{CapabilityRecord, Epoch, JobNumber, JobSpec, JobState, RunId, UnixMillis};
use jobmesh_store::{Attempt, Event, Group, Job, Progress, ReceiptRow, StoreError, View};

use crate::api::{
    self, AttemptView, AttributeValue, Change, EventView, JobDetail, JobView, NodeName, ReceiptHead, RecordView,
    Submitted, TaskCounts, number_parts,
};
use crate::runtime::Handle;

/// A job with the attempt that its epoch names.
pub(super) struct JobRow {
    pub(super) job: Job,
    pub(super) last: Option<Attempt>,
    /// When the last attempt started that did, and when it ended.
    ran: Option<(UnixMillis, Option<UnixMillis>)>,
    group: Option<Group>,
    progress: Option<Progress>,
}

/// Everything that is kept of a job.
pub(super) struct DetailRow {
    pub(super) row: JobRow,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Event>,
    pub(super) receipts: Vec<ReceiptRow>,
}

pub(super) fn job_row(view: View<'_>, job: Job) -> Result<JobRow, StoreError> {
    let last = view.telling_attempt(RunId { job: job.id, epoch: job.epoch }, job.state)?;
    let group = if job.plan.is_group { view.group(job.number)? } else { None };
    let said = if job.state == JobState::Running { view.progress(job.number)? } else { None };
    // What an earlier attempt said of itself says nothing of this one.
    let progress = said.filter(|progress| progress.epoch == job.epoch);
    let ran = match last.as_ref().and_then(ran) {
        Some(ran) => Some(ran),
        // An attempt that was withdrawn before it began says nothing of the one before it.
        None if job.epoch > Epoch(1) => view.attempts(job.id)?.iter().rev().find_map(ran),
        None => None,
    };
    Ok(JobRow { job, last, ran, group, progress })
}

fn ran(attempt: &Attempt) -> Option<(UnixMillis, Option<UnixMillis>)> {
    attempt.started_at.map(|started_at| (started_at, attempt.finished_at))
}

pub(super) fn detail_row(view: View<'_>, job: Job) -> Result<DetailRow, StoreError> {
    let id = job.id;
    let row = job_row(view, job)?;
    Ok(DetailRow { row, attempts: view.attempts(id)?, events: view.events(id)?, receipts: view.receipts(id)? })
}

pub(super) fn submitted(taken: &Taken) -> Submitted {
    let (number, task) = number_parts(taken.number);
    Submitted { id: taken.job, number, task, is_new: taken.is_new, is_merged: taken.is_merged }
}

pub(super) fn job(handle: &Handle, row: JobRow) -> JobView {
    let JobRow { job, last, ran, group, progress } = row;
    let command = api::task_words(&job.spec.task);
    let (number, task) = number_parts(job.number);
    JobView {
        id: job.id,
        number,
        task,
        state: job.state,
        state_since: job.state_since,
        name: job.spec.name.clone(),
        job_type: job.spec.job_type.clone(),
        queue: job.queue,
        priority: job.priority,
        labels: job.spec.labels.clone(),
        held: job.held,
        fire: job.fire.map(|(schedule, instant)| api::Fire { schedule, instant }),
        tasks: group.as_ref().map(tasks),
        progress: progress.map(|progress| api::Progress {
            done: progress.done,
            message: progress.message,
            at: progress.at,
        }),
        command,
        epoch: job.epoch,
        node: last.as_ref().map(|attempt| name(handle, attempt.node)),
        origin: job.origin.map(|origin| name(handle, origin)),
        failures: job.failures,
        crashes: job.crashes,
        outcome: last.as_ref().and_then(|attempt| attempt.outcome.clone()),
        message: last.as_ref().and_then(|attempt| attempt.message.clone()),
        exit: last.as_ref().map_or_else(Exit::default, |attempt| attempt.exit),
        // While a job is being stopped this says what it will have ended of.
        finish_reason: job.finish_reason.filter(|_| job.state.is_final()),
        cancel_reason: job.cancel_reason,
        run_at: job.run_at,
        created_at: job.created_at,
        started_at: ran.map(|(started_at, _)| started_at),
        stopped_at: ran.and_then(|(_, stopped_at)| stopped_at),
        finished_at: job.finished_at,
    }
}

fn tasks(group: &Group) -> TaskCounts {
    let Group { is_open, of, failed, dropped, .. } = *group;
    TaskCounts { total: of, ended: group.ended(), failed, dropped, is_open }
}

pub(super) fn detail(handle: &Handle, row: DetailRow) -> JobDetail {
    let DetailRow { row, attempts, events, receipts } = row;
    let spec = JobSpec::clone(&row.job.spec);
    let attempts = attempts.into_iter().map(|attempt| self::attempt(handle, attempt, &receipts)).collect();
    JobDetail {
        job: job(handle, row),
        spec,
        attempts,
        events: events.into_iter().map(|event| self::event(handle, event)).collect(),
        receipts: receipts.into_iter().map(|receipt| head(handle, &receipt)).collect(),
        files: None,
    }
}

fn attempt(handle: &Handle, attempt: Attempt, receipts: &[ReceiptRow]) -> AttemptView {
    let last = receipts.iter().rev().find(|receipt| receipt.epoch == attempt.epoch);
    let is_here = attempt.node == handle.node();
    AttemptView {
        epoch: attempt.epoch,
        state: attempt.state,
        node: name(handle, attempt.node),
        pid: attempt.process.map(|(pid, _)| pid).filter(|_| is_here),
        outcome: attempt.outcome,
        message: attempt.message,
        exit: attempt.exit,
        outputs: attempt.outputs,
        usage: attempt.usage,
        model: attempt.model,
        isolation: attempt.isolation,
        award: attempt.award,
        receipt: attempt.receipt,
        verdict: last.and_then(|receipt| receipt.verdict),
        created_at: attempt.created_at,
        started_at: attempt.started_at,
        finished_at: attempt.finished_at,
    }
}

fn event(handle: &Handle, event: Event) -> EventView {
    EventView {
        id: event.id,
        at: event.at,
        state: event.state,
        cause: event.cause,
        epoch: event.epoch,
        node: event.node.map(|node| name(handle, node)),
        note: event.note,
    }
}

fn head(handle: &Handle, receipt: &ReceiptRow) -> ReceiptHead {
    ReceiptHead {
        id: receipt.id,
        epoch: receipt.epoch,
        node: name(handle, receipt.node),
        verdict: receipt.verdict,
        received_at: receipt.received_at,
    }
}

pub(super) fn change(handle: &Handle, change: EngineChange) -> Change {
    let EngineChange { event, job, number, state, cause, epoch, node, at } = change;
    let (number, task) = number_parts(number);
    Change { event, job, number, task, state, cause, epoch, node: node.map(|node| name(handle, node)), at }
}

/// A line of the log, as it was when it was news.
pub(super) fn change_of(handle: &Handle, number: JobNumber, event: &Event) -> Change {
    let (number, task) = number_parts(number);
    Change {
        event: event.id,
        job: event.job,
        number,
        task,
        state: event.state,
        cause: event.cause,
        epoch: event.epoch,
        node: event.node.map(|node| name(handle, node)),
        at: event.at,
    }
}

pub(super) fn name(handle: &Handle, node: jobmesh_protocol::NodeId) -> NodeName {
    handle.roster().name(node)
}

pub(super) fn record(record: CapabilityRecord) -> RecordView {
    RecordView {
        tags: record.tags.into_iter().collect(),
        attributes: attributes(record.attributes),
        resources: record.resources,
        slots: record.slots,
    }
}

pub(super) fn attributes(
    attributes: std::collections::BTreeMap<String, Value>,
) -> std::collections::BTreeMap<String, AttributeValue> {
    attributes.into_iter().map(|(name, value)| (name, AttributeValue(value))).collect()
}
