//! What became of the rows of schema 1: every one is there, and every job can still be run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, BlobRef, DurationMillis, Epoch, Hash, JobId, JobSpec, JobState, cbor};
use jobmesh_store::{Attempt, Event, Job, OpenError, ReceiptRow, Selection, Store, StoreError};
use rusqlite::{Connection, params};
use serde::Serialize;
use tempfile::{TempDir, tempdir};

use crate::fixture::{SCHEMA, TABLES, columns, raw, released, rows, strings};
use crate::samples::{self, AT, BOOT, INCARNATION, LATER, PEER, message_id, number};

const START: &str = include_str!("../../sql/migrations/01-start.sql");

const fn job_id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

/// An empty database of schema 1, which the caller fills.
fn start(fill: impl FnOnce(&Connection)) -> TempDir {
    let directory = tempdir().unwrap();
    let connection = raw(directory.path());
    connection.execute_batch(START).unwrap();
    connection.pragma_update(None, "application_id", 0x6a6d_7368).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    fill(&connection);
    directory
}

/// Inserts a job as schema 1 had it.
fn insert(connection: &Connection, number: u32, state: JobState, spec: &[u8]) {
    let sql = "INSERT INTO job (id, number, state, state_since, spec, job_type, queue, priority, epoch, failures, \
               crashes, created_at, finished_at) VALUES (?1, ?2, ?3, 7, ?4, 'x', 'q', -2, 3, 2, 1, 5, ?5)";
    let id = samples::id_of(samples::number(number));
    connection.execute(sql, params![id.as_bytes(), number, state.word(), spec, state.is_final().then_some(7)]).unwrap();
}

/// A spec as schema 1 wrote it.
#[derive(Serialize)]
struct OldSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    job_type: &'static str,
    task: Task,
    requirements: [u8; 0],
    resources: BTreeMap<&'static str, u64>,
    scope: Scope,
    effects: Effects,
    queue: &'static str,
    priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    kill_grace_ms: u64,
    max_attempts: u32,
    backoff: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, &'static str>,
}

fn old_spec() -> OldSpec {
    OldSpec {
        name: Some("nightly"),
        job_type: "gzip",
        task: Task::Process(ProcessTask::new(vec!["gzip".to_owned(), "-9".to_owned()])),
        requirements: [],
        resources: BTreeMap::from([("cpu_milli", 1500), ("memory_bytes", 1 << 33)]),
        scope: Scope::Network,
        effects: Effects::Once,
        queue: "bulk",
        priority: -5,
        timeout_ms: Some(3_600_000),
        kill_grace_ms: 7000,
        max_attempts: 4,
        backoff: BTreeMap::from([("base_ms", 100), ("max_ms", 90_000)]),
        labels: BTreeMap::from([("team", "blue")]),
    }
}

fn new_spec() -> JobSpec {
    let mut spec = JobSpec::new("gzip", old_spec().task);
    spec.name = Some("nightly".to_owned());
    spec.resources = "cpus=1.5,mem=8G".parse().unwrap();
    spec.scope = Scope::Network;
    spec.effects = Effects::Once;
    spec.queue = "bulk".to_owned();
    spec.priority = -5;
    spec.timeout_ms = Some(DurationMillis(3_600_000));
    spec.kill_grace_ms = DurationMillis(7000);
    spec.retry.max_attempts = 4;
    spec.retry.backoff = Backoff::exponential(DurationMillis(100), DurationMillis(90_000));
    spec.labels = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    spec
}

#[test]
fn the_jobs_of_schema_1_read_as_they_were() {
    let directory = released(1);
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let done = Job {
        id: job_id(1),
        state: JobState::Completed,
        state_since: LATER,
        epoch: Epoch(1),
        finish_reason: Some(FinishReason::Ok),
        finished_at: Some(LATER),
        ..samples::job(number(1))
    };
    let running = (JobState::Running, LATER, Epoch(1));
    let (state, state_since, epoch) = running;
    let away = Job { id: job_id(2), state, state_since, epoch, ..samples::job(number(2)) };
    let guest = Job { id: job_id(3), origin: Some(PEER), ..samples::job(number(3)) };
    assert_eq!(txn.view().live_jobs().unwrap(), [away.clone(), guest.clone()]);
    let all = Selection { limit: 9, with_tasks: true, ..Selection::default() };
    assert_eq!(txn.view().jobs(&all).unwrap(), [guest, away, done]);
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(3)));
    assert_eq!(txn.view().lease(job_id(3)).unwrap(), Some(samples::lease(job_id(3))));
    let waiting = samples::receipt(job_id(2));
    let accepted = ReceiptRow { id: message_id(0x4F), verdict: Some(Verdict::Accepted), ..samples::receipt(job_id(1)) };
    assert_eq!(txn.view().receipts(job_id(2)).unwrap(), [waiting]);
    assert_eq!(txn.view().receipts(job_id(1)).unwrap(), [accepted]);
}

#[test]
fn the_attempts_and_events_of_schema_1_read_as_they_were() {
    let directory = released(1);
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let away = Attempt {
        job: job_id(2),
        epoch: Epoch(1),
        state: AttemptState::Uploading,
        node: PEER,
        boot: None,
        process: None,
        award: Some(message_id(0xA0)),
        spec_hash: Some(Hash::from_bytes([0x5C; 32])),
        receipt: Some(message_id(0x4E)),
        outcome: None,
        message: None,
        exit: Exit::default(),
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: None,
        allocation: None,
        created_at: AT,
        started_at: None,
        finished_at: None,
    };
    let done = Attempt {
        job: job_id(1),
        state: AttemptState::Succeeded,
        boot: Some(BOOT),
        process: Some((4242, 987_654)),
        award: None,
        spec_hash: None,
        receipt: None,
        outcome: Some("ok".to_owned()),
        exit: Exit { code: Some(0), signal: None },
        outputs: Outputs { stdout: Some(BlobRef::of(b"out")), ..Outputs::default() },
        started_at: Some(AT),
        finished_at: Some(LATER),
        ..away.clone()
    };
    assert_eq!(txn.view().attempts(job_id(1)).unwrap(), [done]);
    assert_eq!(txn.view().attempts(job_id(2)).unwrap(), [away]);
    let (state, cause) = (JobState::Completed, Cause::Succeeded);
    let (node, note) = (Some(PEER), Some("exit code 0".to_owned()));
    let event = Event { id: 1, job: job_id(1), epoch: Epoch(1), state, cause, node, note, at: LATER };
    assert_eq!(txn.view().events(job_id(1)).unwrap(), [event]);
}

/// Whatever a table held is in it afterwards, value by value; only the job table is made anew.
#[test]
fn every_row_of_every_table_of_schema_1_is_kept() {
    let directory = released(1);
    let connection = raw(directory.path());
    let tables = strings(&connection, TABLES);
    let columns: Vec<Vec<String>> = tables.iter().map(|table| columns(&connection, table)).collect();
    let contents = |connection: &Connection| -> Vec<Vec<String>> {
        let named = tables.iter().zip(&columns).filter(|(table, _)| *table != "job");
        named.map(|(table, columns)| rows(connection, table, columns)).collect()
    };
    let before = contents(&connection);
    assert!(before.len() > 10 && before.iter().all(|rows| !rows.is_empty()));
    drop(connection);
    drop(samples::open(directory.path()));
    assert_eq!(contents(&raw(directory.path())), before);
}

#[test]
fn a_job_of_any_state_is_live_exactly_until_it_has_ended() {
    let spec = cbor::encode(&old_spec());
    let numbered = || (10..).step_by(3).zip(JobState::ALL);
    let directory = start(|connection| numbered().for_each(|(at, state)| insert(connection, at, *state, &spec)));
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let live: Vec<_> = txn.view().live_jobs().unwrap().iter().map(|job| (job.number.number(), job.state)).collect();
    let wanted: Vec<_> = numbered().map(|(at, state)| (at, *state)).filter(|(_, state)| !state.is_final()).collect();
    assert_eq!(live, wanted);
    for (at, state) in numbered() {
        let job = txn.view().job_by_number(number(at)).unwrap().unwrap();
        assert_eq!((job.state, job.id), (*state, samples::id_of(number(at))));
        assert_eq!((job.queue.as_str(), job.priority, job.epoch), ("q", -2, Epoch(3)));
        assert_eq!((job.failures, job.crashes, job.snoozes, job.waits), (2, 1, 0, 0));
    }
    let last = numbered().map(|(at, _)| at).max().unwrap();
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(last)), "numbers go on where they were");
}

/// The fields of a spec moved between the schemas; read with today's rules alone, not one old job could be run.
#[test]
fn the_specs_of_schema_1_say_what_they_said() {
    let nothing = BTreeMap::from([("cpu_milli", 0), ("memory_bytes", 0)]);
    let idle = OldSpec { resources: nothing, name: None, timeout_ms: None, ..old_spec() };
    let directory = start(|connection| {
        insert(connection, 1, JobState::Available, &cbor::encode(&old_spec()));
        insert(connection, 2, JobState::Available, &cbor::encode(&idle));
    });
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let spec = |at| txn.view().job_by_number(number(at)).unwrap().unwrap().spec;
    assert_eq!(spec(1), Arc::new(new_spec()));
    let idle = JobSpec { resources: "none".parse().unwrap(), name: None, timeout_ms: None, ..new_spec() };
    assert_eq!(spec(2), Arc::new(idle));
    assert_eq!(spec(1).check(), Ok(()));
}

/// A spec just below the limit grows past it when it is brought to the form of schema 2.
#[test]
fn the_largest_spec_of_schema_1_still_reads() {
    let sized =
        |length: usize| OldSpec { task: Task::Process(ProcessTask::new(vec!["a".repeat(length)])), ..old_spec() };
    let room = 64 * 1024 - cbor::encode(&sized(60_000)).len();
    let spec = cbor::encode(&sized(60_000 + room));
    assert_eq!(spec.len(), 64 * 1024);
    let directory = start(|connection| insert(connection, 1, JobState::Available, &spec));
    let mut store = samples::open(directory.path());
    assert_eq!(store.begin().unwrap().view().live_jobs().unwrap().len(), 1);
}

#[test]
fn a_spec_that_does_not_read_spoils_its_own_job_only() {
    let directory = start(|connection| {
        insert(connection, 1, JobState::Completed, b"\x01");
        insert(connection, 2, JobState::Available, &cbor::encode(&old_spec()));
    });
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let error = txn.view().job_by_number(number(1)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { what: "job spec" }), "{error:?}");
    assert_eq!(txn.view().live_jobs().unwrap().len(), 1);
}

fn refusal(directory: &Path) -> OpenError {
    Store::open(directory, INCARNATION).map(drop).unwrap_err()
}

/// A step is one transaction: what stops in the middle of it leaves the database to the build that wrote it.
#[test]
fn a_migration_that_fails_changes_nothing() {
    let directory = released(1);
    let connection = raw(directory.path());
    // In the way of one that the step makes near its end.
    connection.execute_batch("CREATE TABLE metric (hour INTEGER) STRICT").unwrap();
    let state = |connection: &Connection| {
        let jobs = rows(connection, "job", &columns(connection, "job"));
        let schema: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        (strings(connection, SCHEMA), jobs, schema)
    };
    let before = state(&connection);
    drop(connection);
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error:?}");
    let connection = raw(directory.path());
    assert_eq!(state(&connection), before);
    connection.execute_batch("DROP TABLE metric").unwrap();
    drop(connection);
    let mut store = samples::open(directory.path());
    assert_eq!(store.begin().unwrap().view().live_jobs().unwrap().len(), 2);
}
