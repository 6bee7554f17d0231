//! Turns rows into what clients see, with names in place of bare ids.

use jobmesh_engine::Change as EngineChange;
use jobmesh_protocol::job::Task;
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::{CapabilityRecord, RunId};
use jobmesh_store::{Attempt, Event, Job, ReceiptRow, StoreError, View};

use crate::api::{
    AttemptView, AttributeValue, Change, EventView, JobDetail, JobView, NodeName, ReceiptHead, RecordView,
};
use crate::runtime::Handle;

/// A job with the attempt that its epoch names.
pub(super) struct JobRow {
    pub(super) job: Job,
    pub(super) last: Option<Attempt>,
}

/// Everything that is kept of a job.
pub(super) struct DetailRow {
    pub(super) row: JobRow,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Event>,
    pub(super) receipts: Vec<ReceiptRow>,
}

pub(super) fn job_row(view: View<'_>, job: Job) -> Result<JobRow, StoreError> {
    let last = view.attempt(RunId { job: job.id, epoch: job.epoch })?;
    Ok(JobRow { job, last })
}

pub(super) fn detail_row(view: View<'_>, job: Job) -> Result<DetailRow, StoreError> {
    let id = job.id;
    let row = job_row(view, job)?;
    Ok(DetailRow { row, attempts: view.attempts(id)?, events: view.events(id)?, receipts: view.receipts(id)? })
}

pub(super) fn job(handle: &Handle, row: JobRow) -> JobView {
    let JobRow { job, last } = row;
    let command = match &job.spec.task {
        Task::Process(process) => process.argv.clone(),
    };
    JobView {
        id: job.id,
        number: job.number,
        state: job.state,
        state_since: job.state_since,
        name: job.spec.name,
        job_type: job.spec.job_type,
        command,
        epoch: job.epoch,
        node: last.as_ref().map(|attempt| name(handle, attempt.node)),
        origin: job.origin.map(|origin| name(handle, origin)),
        failures: job.failures,
        crashes: job.crashes,
        outcome: last.as_ref().and_then(|attempt| attempt.outcome.clone()),
        message: last.as_ref().and_then(|attempt| attempt.message.clone()),
        exit: last.as_ref().map_or_else(Exit::default, |attempt| attempt.exit),
        finish_reason: job.finish_reason,
        cancel_reason: job.cancel_reason,
        run_at: job.run_at,
        created_at: job.created_at,
        started_at: last.as_ref().and_then(|attempt| attempt.started_at),
        finished_at: job.finished_at,
    }
}

pub(super) fn detail(handle: &Handle, row: DetailRow) -> JobDetail {
    let DetailRow { row, attempts, events, receipts } = row;
    let spec = row.job.spec.clone();
    let attempts = attempts.into_iter().map(|attempt| self::attempt(handle, attempt, &receipts)).collect();
    JobDetail {
        job: job(handle, row),
        spec,
        attempts,
        events: events.into_iter().map(|event| self::event(handle, event)).collect(),
        receipts: receipts.into_iter().map(|receipt| head(handle, &receipt)).collect(),
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
    Change { event, job, number, state, cause, epoch, node: node.map(|node| name(handle, node)), at }
}

/// A line of the log, as it was when it was news.
pub(super) fn change_of(handle: &Handle, number: u64, event: &Event) -> Change {
    Change {
        event: event.id,
        job: event.job,
        number,
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
