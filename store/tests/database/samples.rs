//! Fixed rows, and a database full of them.

use std::path::Path;

use jobmesh_keys::{NodeId, Role};
use jobmesh_protocol::id::{BlobRef, BootId, Hash};
use jobmesh_protocol::job::{ProcessTask, Task};
use jobmesh_protocol::outcome::{Exit, Outputs};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::summary::{Cell, Head, Histogram};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{
    AttemptState, DurationMillis, Epoch, Incarnation, JobId, JobSpec, JobState, MessageId, Outcome, RunId, TicketId,
    UnixMillis,
};
use jobmesh_store::{
    Choice, Inbound, InviteRow, Lease, LeasePhase, Move, NewAttempt, NewEvent, NewJob, PeerRow, ReceiptRow, Store,
    SummaryRow, Txn,
};

pub(crate) const AT: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const LATER: UnixMillis = UnixMillis(1_700_000_060_000);
pub(crate) const DAY: u32 = 19_675;
pub(crate) const PEER: NodeId = NodeId::from_bytes([0x22; 32]);
pub(crate) const INCARNATION: Incarnation = Incarnation::from_bytes([0x1C; 16]);

pub(crate) const fn job_id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

pub(crate) const fn message_id(number: u8) -> MessageId {
    MessageId::from_bytes([number; 16])
}

pub(crate) fn open(directory: &Path) -> Store {
    Store::open(directory, INCARNATION).unwrap()
}

pub(crate) fn spec() -> JobSpec {
    JobSpec::new("true", Task::Process(ProcessTask::new(vec!["true".to_owned()])))
}

/// Inserts an available job of this node.
pub(crate) fn insert_job(txn: &Txn<'_>, id: JobId) -> u64 {
    let new = NewJob { id, state: JobState::Available, spec: &spec(), epoch: Epoch(0), origin: None, at: AT };
    txn.insert_job(&new).unwrap()
}

/// Moves an available job of epoch 0 to its first attempt.
pub(crate) const fn start(job: JobId) -> Move {
    Move {
        job,
        from: JobState::Available,
        epoch: Epoch(0),
        to: JobState::Running,
        new_epoch: Epoch(1),
        failures: 0,
        crashes: 0,
        run_at: None,
        finish_reason: None,
        at: LATER,
    }
}

pub(crate) const fn attempt(job: JobId) -> NewAttempt {
    NewAttempt {
        run: RunId { job, epoch: Epoch(1) },
        state: AttemptState::Starting,
        node: PEER,
        boot: None,
        award: Some((message_id(0xA0), Hash::from_bytes([0x5C; 32]))),
        at: AT,
    }
}

pub(crate) const fn lease(job: JobId) -> Lease {
    Lease {
        job,
        origin: PEER,
        ticket: TicketId::from_bytes([0x71; 16]),
        epoch: Epoch(4),
        award: message_id(0xA1),
        spec_hash: Hash::from_bytes([0x5D; 32]),
        lease_ms: DurationMillis(30_000),
        phase: LeasePhase::Held,
    }
}

pub(crate) fn receipt(job: JobId) -> ReceiptRow {
    ReceiptRow {
        id: message_id(0x4E),
        job,
        epoch: Epoch(1),
        node: PEER,
        verdict: None,
        envelope: b"receipt".to_vec(),
        received_at: LATER,
    }
}

pub(crate) fn summary(version: u64) -> SummaryRow {
    let head = Head { author: PEER, day: DAY, version };
    SummaryRow { head, envelope: format!("summary {version}").into_bytes() }
}

pub(crate) fn cell() -> Cell {
    let mut durations = Histogram::default();
    durations.add(DurationMillis(1500));
    Cell {
        job_type: "true".to_owned(),
        executor: "process".to_owned(),
        node: PEER,
        succeeded: 1,
        failed: 0,
        timed_out: 0,
        lost: 0,
        durations,
    }
}

pub(crate) fn peer() -> PeerRow {
    let addresses = vec!["/ip4/10.0.0.2/tcp/4001".to_owned(), "/ip6/::1/tcp/4001".to_owned()];
    PeerRow { node: PEER, name: "box".to_owned(), addresses, seen_at: AT }
}

pub(crate) fn invite() -> InviteRow {
    let expires_at = LATER;
    InviteRow { secret_hash: [0x5E; 32], role: Role::Member, expires_at, used_by: None, membership: None }
}

/// Puts a row into every table: a job that ended here, one that runs on a peer, one that runs for a peer.
pub(crate) fn fill(txn: &Txn<'_>) {
    let [done, away, guest] = [1, 2, 3].map(job_id);
    for job in [done, away] {
        insert_job(txn, job);
        assert!(txn.move_job(&start(job)).unwrap());
    }
    let new =
        NewJob { id: guest, state: JobState::Available, spec: &spec(), epoch: Epoch(0), origin: Some(PEER), at: AT };
    txn.insert_job(&new).unwrap();
    txn.insert_lease(&lease(guest)).unwrap();
    fill_done(txn, done);
    txn.insert_attempt(&attempt(away)).unwrap();
    txn.upload_attempt(attempt(away).run, receipt(away).id).unwrap();
    txn.put_receipt(&receipt(away)).unwrap();
    txn.put_blob(Hash::of(b"out"), b"out").unwrap();
    txn.queue(PEER, b"award", b"").unwrap();
    txn.set_inbound(PEER, Inbound { incarnation: Incarnation::from_bytes([0x99; 16]), number: 17 }).unwrap();
    txn.put_peer(&peer()).unwrap();
    txn.put_capability(PEER, b"record", AT).unwrap();
    txn.set_choice(&"tool:gzip".parse().unwrap(), Choice::Add).unwrap();
    txn.put_invite(&invite()).unwrap();
    txn.put_cell(DAY, &cell()).unwrap();
    assert!(txn.put_summary(&summary(5)).unwrap());
    txn.set_meta("membership", b"chain").unwrap();
}

fn fill_done(txn: &Txn<'_>, job: JobId) {
    let run = RunId { job, epoch: Epoch(1) };
    let boot = Some(BootId::from_bytes([0xB0; 16]));
    txn.insert_attempt(&NewAttempt { boot, award: None, ..attempt(job) }).unwrap();
    txn.start_attempt(run, Some((4242, 987_654)), AT).unwrap();
    let outputs = Outputs { stdout: Some(BlobRef::of(b"out")), stderr: None };
    let exit = Exit { code: Some(0), signal: None };
    txn.finish_attempt(run, AttemptState::Succeeded, (&Outcome::Ok, exit, outputs), LATER).unwrap();
    let end = Move {
        from: JobState::Running,
        epoch: Epoch(1),
        to: JobState::Completed,
        finish_reason: Some(FinishReason::Ok),
        ..start(job)
    };
    assert!(txn.move_job(&end).unwrap());
    let (state, cause) = (JobState::Completed, Cause::Succeeded);
    let event = NewEvent { job, epoch: Epoch(1), state, cause, node: Some(PEER), note: Some("exit code 0"), at: LATER };
    txn.append_event(&event).unwrap();
    txn.put_receipt(&ReceiptRow { id: message_id(0x4F), verdict: Some(Verdict::Accepted), ..receipt(job) }).unwrap();
}
