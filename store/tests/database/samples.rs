//! Fixed rows, and a database full of them.

use std::path::Path;
use std::sync::Arc;

use jobmesh_keys::{NodeId, Role};
use jobmesh_protocol::id::{BlobRef, BootId, Hash};
use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs, Usage};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Condition, Rule, Span, Tasks};
use jobmesh_protocol::summary::{Cell, Head, Histogram};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{
    AttemptState, DurationMillis, Epoch, Incarnation, Isolation, JobId, JobNumber, JobSpec, JobState, MessageId,
    Outcome, RunId, TicketId, UnixMillis,
};
use jobmesh_store::{
    AlarmKind, Checkpoint, Choice, Edge, EndedAttempt, Group, Inbound, InviteRow, Job, Lease, LeasePhase, LinkRow,
    Metric, Move, NewAttempt, NewEvent, NewJob, PeerRow, Plan, Progress, QueueRow, ReceiptRow, ScheduleRow, Side,
    Store, SummaryRow, Txn,
};

pub(crate) const AT: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const LATER: UnixMillis = UnixMillis(1_700_000_060_000);
pub(crate) const DAY: u32 = 19_675;
/// The hour of [`LATER`].
pub(crate) const HOUR: u64 = 472_222;
pub(crate) const PEER: NodeId = NodeId::from_bytes([0x22; 32]);
pub(crate) const INCARNATION: Incarnation = Incarnation::from_bytes([0x1C; 16]);
pub(crate) const BOOT: BootId = BootId::from_bytes([0xB0; 16]);
/// The unique key of the job that waits.
pub(crate) const KEY: Hash = Hash::from_bytes([0x6B; 32]);

pub(crate) fn number(number: u32) -> JobNumber {
    JobNumber::new(number)
}

/// The id that the sample with this number has.
pub(crate) fn id_of(number: JobNumber) -> JobId {
    JobId::from_bytes(u128::try_from(number.key()).unwrap().to_be_bytes())
}

pub(crate) const fn message_id(number: u8) -> MessageId {
    MessageId::from_bytes([number; 16])
}

pub(crate) fn open(directory: &Path) -> Store {
    Store::open(directory, INCARNATION).unwrap()
}

pub(crate) fn memory() -> Store {
    Store::open_in_memory(INCARNATION).unwrap()
}

pub(crate) fn spec() -> JobSpec {
    JobSpec::new("true", Task::Process(ProcessTask::new(vec!["true".to_owned()])))
}

/// An available job of this node.
pub(crate) fn job(number: JobNumber) -> Job {
    Job {
        id: id_of(number),
        number,
        state: JobState::Available,
        state_since: AT,
        spec: Arc::new(spec()),
        queue: "default".to_owned(),
        priority: 0,
        epoch: Epoch(0),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        waits: 0,
        run_at: None,
        expires_at: None,
        deadline: None,
        held: None,
        plan: Plan::default(),
        fire: None,
        cancel_reason: None,
        finish_reason: None,
        origin: None,
        created_at: AT,
        finished_at: None,
    }
}

/// Inserts a job, a task with the spec of its group.
pub(crate) fn insert(txn: &Txn<'_>, job: &Job) {
    let has_spec = job.number.index().is_none();
    txn.insert_job(&NewJob { job, has_spec, unique_key: None }).unwrap();
}

/// Inserts an available job of this node.
pub(crate) fn insert_job(txn: &Txn<'_>, number: u32) -> Job {
    let job = job(JobNumber::new(number));
    insert(txn, &job);
    job
}

/// Moves an available job of epoch 0 to its first attempt.
pub(crate) const fn start(job: JobNumber) -> Move {
    Move {
        job,
        from: JobState::Available,
        epoch: Epoch(0),
        to: JobState::Running,
        new_epoch: Epoch(1),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        run_at: None,
        expires_at: None,
        finish_reason: None,
        at: LATER,
    }
}

/// Ends a running job of epoch 1.
pub(crate) const fn end(job: JobNumber, to: JobState, reason: FinishReason) -> Move {
    let (from, epoch, finish_reason) = (JobState::Running, Epoch(1), Some(reason));
    Move { from, epoch, to, finish_reason, ..start(job) }
}

pub(crate) const fn attempt(job: JobId) -> NewAttempt {
    NewAttempt {
        run: RunId { job, epoch: Epoch(1) },
        state: AttemptState::Starting,
        node: PEER,
        boot: None,
        award: Some((message_id(0xA0), Hash::from_bytes([0x5C; 32]))),
        allocation: None,
        at: AT,
    }
}

/// The first attempt of a job on this node.
pub(crate) fn local_attempt(job: JobId) -> NewAttempt {
    NewAttempt { boot: Some(BOOT), award: None, allocation: Some(b"allocation".to_vec()), ..attempt(job) }
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
        receipt: None,
    }
}

pub(crate) fn receipt(job: JobId) -> ReceiptRow {
    ReceiptRow {
        id: message_id(0x4E),
        job,
        epoch: Epoch(1),
        node: PEER,
        number: 0,
        verdict: None,
        envelope: b"receipt".to_vec(),
        received_at: LATER,
    }
}

/// A settled link of a chain with [`PEER`].
pub(crate) fn link(side: Side, number: u64) -> LinkRow {
    let id = message_id(0x70 + u8::try_from(number).unwrap());
    let (receipt, settle) = (format!("receipt {number}").into_bytes(), Some(format!("settle {number}").into_bytes()));
    LinkRow { peer: PEER, side, number, id, is_known: true, receipt, settle, at: LATER }
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

/// An array of two items.
pub(crate) fn array(job: JobNumber) -> Group {
    Group {
        job,
        ranges: None,
        is_array: true,
        is_open: false,
        at_a_time: Some(1),
        max_fails: Some(0),
        of: 2,
        made: 1,
        early: 0,
        completed: 0,
        failed: 0,
        dropped: 0,
    }
}

pub(crate) fn schedule() -> ScheduleRow {
    ScheduleRow {
        name: "hourly".to_owned(),
        body: b"body".to_vec(),
        is_paused: true,
        is_declared: false,
        last_at: AT,
        created_at: AT,
        passed: Some((AT, "queue slow is draining".to_owned())),
    }
}

/// Puts a value into every column of every table: a job that ended here (1), one that runs on a peer (2), two that ran
/// or run for a peer (3 and 6), an array (4) and a job that waits for it (5).
pub(crate) fn fill(txn: &Txn<'_>) {
    fill_done(txn, insert_job(txn, 1));
    fill_away(txn, insert_job(txn, 2));
    fill_array(txn);
    fill_fired(txn);
    fill_waiting(txn);
    for guest in [3, 6].map(number) {
        insert(txn, &Job { origin: Some(PEER), ..job(guest) });
        let epoch = Epoch(guest.number());
        txn.insert_lease(&Lease { epoch, ..lease(id_of(guest)) }).unwrap();
    }
    txn.set_lease_receipt(id_of(number(6)), 2).unwrap();
    txn.raise_alarm(AlarmKind::Cloned, PEER, AT).unwrap();
    txn.set_lease_phase(id_of(number(6)), LeasePhase::Settled, Some(Verdict::Accepted)).unwrap();
    fill_peers(txn);
    txn.put_cell(DAY, &cell()).unwrap();
    assert!(txn.put_summary(&summary(5)).unwrap());
    txn.set_meta("membership", b"chain").unwrap();
    let limits = Some(b"limits".to_vec());
    txn.put_queue(&QueueRow { name: "slow".to_owned(), limits, is_paused: true, is_draining: false }).unwrap();
    txn.put_rate("api", b"starts").unwrap();
    for (state, run_ms) in [(JobState::Completed, 60_000), (JobState::Discarded, 0)] {
        let run_ms = DurationMillis(run_ms);
        txn.add_metric(&Metric { hour: HOUR, job_type: "true".to_owned(), state, jobs: 1, run_ms }).unwrap();
    }
}

/// What a model was asked for, with every field.
pub(crate) fn model_use() -> ModelUse {
    ModelUse {
        provider: "local".to_owned(),
        model: "small".to_owned(),
        input_tokens: Some(28),
        output_tokens: Some(15),
        cost_micros: Some(3),
        first_token_ms: Some(DurationMillis(120)),
        latency_ms: Some(DurationMillis(900)),
        finish: Some("stop".to_owned()),
        dimension: Some(384),
    }
}

fn fill_done(txn: &Txn<'_>, job: Job) {
    assert!(txn.move_job(&start(job.number)).unwrap());
    let new = local_attempt(job.id);
    txn.insert_attempt(&new).unwrap();
    txn.start_attempt(new.run, Some((4242, 987_654)), AT).unwrap();
    let blob = |bytes: &[u8]| Some(BlobRef::of(bytes));
    let ended = EndedAttempt {
        state: AttemptState::Succeeded,
        outcome: &Outcome::Ok,
        exit: Exit { code: Some(0), signal: None },
        outputs: Outputs { stdout: blob(b"out"), stderr: blob(b"err"), result: blob(b"result"), files: blob(b"files") },
        usage: Usage { cpu_ms: Some(DurationMillis(70)), memory_peak_bytes: Some(1 << 33), fuel: Some(1 << 40) },
        model: Some(&model_use()),
        isolation: Some(Isolation::Sandboxed),
        started_at: None,
    };
    txn.finish_attempt(new.run, &ended, LATER).unwrap();
    assert!(txn.move_job(&end(job.number, JobState::Completed, FinishReason::Ok)).unwrap());
    let (state, cause) = (JobState::Completed, Cause::Succeeded);
    let (epoch, node, note) = (Epoch(1), Some(PEER), Some("exit code 0"));
    txn.append_event(&NewEvent { job: job.id, epoch, state, cause, node, note, at: LATER }).unwrap();
    let verdict = Some(Verdict::Accepted);
    txn.put_receipt(&ReceiptRow { id: message_id(0x4F), verdict, ..receipt(job.id) }).unwrap();
    txn.put_blob(Hash::of(b"out"), b"out").unwrap();
    txn.set_proven(job.number).unwrap();
    txn.set_keep_until(job.number, Some(UnixMillis(LATER.0 + 1000))).unwrap();
}

fn fill_away(txn: &Txn<'_>, job: Job) {
    assert!(txn.move_job(&start(job.number)).unwrap());
    let new = attempt(job.id);
    txn.insert_attempt(&new).unwrap();
    txn.upload_attempt(new.run, receipt(job.id).id).unwrap();
    txn.put_receipt(&receipt(job.id)).unwrap();
    txn.set_cancel_reason(job.number, Some(("typo", FinishReason::User))).unwrap();
}

/// The first task of the array was killed; the second is not made yet.
fn fill_array(txn: &Txn<'_>) {
    let group = insert_job(txn, 4).number;
    let items = Tasks::Items(vec!["a".to_owned(), "b".to_owned()]);
    txn.insert_group(&array(group), Some(&items)).unwrap();
    let task = job(group.task(1));
    insert(txn, &task);
    assert!(txn.move_job(&start(task.number)).unwrap());
    let new = local_attempt(task.id);
    txn.insert_attempt(&new).unwrap();
    let ended = EndedAttempt {
        state: AttemptState::Failed,
        outcome: &Outcome::error("killed"),
        exit: Exit { code: None, signal: Some(9) },
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: Some(Isolation::Contained),
        started_at: None,
    };
    txn.finish_attempt(new.run, &ended, LATER).unwrap();
    let end = Move { failures: 1, ..end(task.number, JobState::Discarded, FinishReason::Exhausted) };
    assert!(txn.move_job(&end).unwrap());
    txn.update_group(&Group { failed: 1, ..array(group) }).unwrap();
}

/// A job with everything that one can have before it starts.
pub(crate) fn waiting() -> Job {
    Job {
        state: JobState::Pending,
        queue: "slow".to_owned(),
        priority: -3,
        snoozes: 2,
        waits: 1,
        run_at: Some(LATER),
        expires_at: Some(UnixMillis(LATER.0 + 1)),
        deadline: Some(UnixMillis(LATER.0 + 2)),
        held: Some("by hand".to_owned()),
        plan: Plan {
            rule: Rule::AllDone,
            reduce: true,
            start_within_ms: Some(DurationMillis(5000)),
            unique: Some(Span::Period(DurationMillis(9000))),
            unique_key: Some(KEY),
            is_group: false,
            is_dated: true,
        },
        fire: Some(("hourly".to_owned(), AT)),
        ..job(number(5))
    }
}

/// An instant of which only that is known, since its job is deleted.
fn fill_fired(txn: &Txn<'_>) {
    txn.put_schedule(&schedule()).unwrap();
    let fire = Some(("hourly".to_owned(), LATER));
    insert(txn, &Job { state: JobState::Completed, finished_at: Some(LATER), fire, ..job(number(3)) });
    assert!(txn.delete_job(number(3)).unwrap());
}

fn fill_waiting(txn: &Txn<'_>) {
    let job = waiting();
    txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: Some(KEY) }).unwrap();
    let (upstream, condition) = (number(4), Some(Condition::Done));
    txn.insert_edge(&Edge { upstream, job: job.number, condition, is_met: false, is_of_key: false }).unwrap();
    txn.name_submission("deploy-7", job.number, AT).unwrap();
    let progress = Progress { epoch: Epoch(0), done: Some(2500), message: Some("a quarter".to_owned()), at: AT };
    txn.put_progress(job.number, &progress).unwrap();
    let checkpoint = Checkpoint { name: "page".to_owned(), value: "17".to_owned(), at: AT };
    txn.put_checkpoint(job.number, &checkpoint).unwrap();
}

fn fill_peers(txn: &Txn<'_>) {
    txn.insert_link(&link(Side::Given, 1)).unwrap();
    txn.insert_link(&LinkRow { settle: None, is_known: false, ..link(Side::Taken, 2) }).unwrap();
    txn.queue(PEER, b"award", b"").unwrap();
    txn.set_inbound(
        PEER,
        Inbound {
            incarnation: Incarnation::from_bytes([0x99; 16]),
            number: 17,
            former: Some(Incarnation::from_bytes([0x98; 16])),
        },
    )
    .unwrap();
    txn.put_peer(&peer()).unwrap();
    txn.put_capability(PEER, b"record", AT).unwrap();
    txn.set_choice(&"tool:gzip".parse().unwrap(), Choice::Add).unwrap();
    txn.put_invite(&InviteRow { used_by: Some(PEER), membership: Some(b"chain".to_vec()), ..invite() }).unwrap();
}
