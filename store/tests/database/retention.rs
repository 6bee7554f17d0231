//! Deleting jobs: everything of them, and nothing that is still needed. And counting them before they go.

use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::Tasks;
use jobmesh_protocol::{DurationMillis, Epoch, JobNumber, JobState, UnixMillis};
use jobmesh_store::{Checkpoint, Edge, Ended, Job, Metric, NewEvent, Progress, Txn};
use rusqlite::{Connection, params};
use tempfile::tempdir;

use crate::fixture::{TABLES, columns, raw, strings};
use crate::samples::{
    self, AT, HOUR, LATER, array, id_of, insert, insert_job, job, lease, local_attempt, memory, number, receipt,
};

/// Inserts a job that ended.
fn insert_ended(txn: &Txn<'_>, at: JobNumber, state: JobState, finished_at: UnixMillis) {
    let (finished_at, finish_reason) = (Some(finished_at), Some(FinishReason::Ok));
    insert(txn, &Job { state, epoch: Epoch(1), finished_at, finish_reason, ..job(at) });
}

/// Inserts a job that ended and has a row in every table that can say something about a job.
fn insert_full(txn: &Txn<'_>, at: JobNumber) {
    insert_ended(txn, at, JobState::Completed, LATER);
    let id = id_of(at);
    txn.insert_attempt(&local_attempt(id)).unwrap();
    txn.insert_lease(&lease(id)).unwrap();
    txn.put_receipt(&receipt(id)).unwrap();
    let (state, cause) = (JobState::Completed, Cause::Succeeded);
    txn.append_event(&NewEvent { job: id, epoch: Epoch(1), state, cause, node: None, note: None, at: AT }).unwrap();
    txn.insert_group(&array(at), Some(&Tasks::Items(vec!["a".to_owned()]))).unwrap();
    txn.insert_edge(&Edge { upstream: number(99), job: at, condition: None, is_met: true, is_of_key: false }).unwrap();
    let progress = Progress { epoch: Epoch(1), done: None, message: None, at: AT };
    txn.put_progress(at, &progress).unwrap();
    let checkpoint = Checkpoint { name: "a".to_owned(), value: "b".to_owned(), at: AT };
    txn.put_checkpoint(at, &checkpoint).unwrap();
    txn.name_submission("deploy", at, AT).unwrap();
}

/// The tables that say something about a job.
fn tables_with(connection: &Connection, at: JobNumber) -> Vec<String> {
    let mut found = Vec::new();
    for table in strings(connection, TABLES) {
        let named =
            columns(connection, &table).into_iter().filter(|name| ["job", "key", "id"].contains(&name.as_str()));
        for column in named {
            let sql = format!("SELECT count(*) FROM {table} WHERE {column} = ?1 OR {column} = ?2");
            let (key, id) = (at.key(), id_of(at));
            let rows: u32 = connection.query_row(&sql, params![key, id.as_bytes()], |row| row.get(0)).unwrap();
            if rows > 0 && !found.contains(&table) {
                found.push(table.clone());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_deleted_job_leaves_nothing_but_the_name_of_its_submission() {
    let directory = tempdir().unwrap();
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    insert_full(&txn, number(1));
    insert_job(&txn, 2);
    let _committed = txn.commit().unwrap();
    let all = [
        "array_item",
        "attempt",
        "checkpoint",
        "dependency",
        "event",
        "idempotency",
        "job",
        "job_group",
        "lease",
        "progress",
        "receipt",
    ];
    assert_eq!(tables_with(&raw(directory.path()), number(1)), all);

    let txn = store.begin().unwrap();
    assert!(txn.delete_job(number(1)).unwrap());
    assert!(!txn.delete_job(number(1)).unwrap(), "it is gone");
    let _committed = txn.commit().unwrap();
    let connection = raw(directory.path());
    assert_eq!(tables_with(&connection, number(1)), ["idempotency"]);
    assert_eq!(strings(&connection, "SELECT \"table\" FROM pragma_foreign_key_check"), Vec::<String>::new());
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().submitted_as("deploy").unwrap(), Some((number(1), AT)), "a repetition runs nothing twice");
    assert_eq!(txn.view().job_by_number(number(2)).unwrap(), Some(job(number(2))));
}

#[test]
fn a_live_job_is_never_deleted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for (at, state) in (1..).zip(JobState::ALL) {
        let finished_at = state.is_final().then_some(LATER);
        insert(&txn, &Job { state: *state, finished_at, ..job(number(at)) });
    }
    insert_job(&txn, 100);
    for (at, state) in (1..).zip(JobState::ALL) {
        assert_eq!(txn.delete_job(number(at)).unwrap(), state.is_final(), "{state}");
        assert_eq!(txn.view().state_of(number(at)).unwrap().is_none(), state.is_final(), "{state}");
    }
    assert!(!txn.delete_job(number(101)).unwrap(), "there is none");
}

/// The next number was counted from the newest row, which therefore could not be deleted.
#[test]
fn the_newest_number_is_never_given_again() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for at in [number(1), number(2), number(2).task(1), number(2).task(2)] {
        insert_ended(&txn, at, JobState::Completed, LATER);
    }
    assert!(!txn.delete_job(number(2)).unwrap(), "a group stays with its tasks");
    for at in [number(2).task(2), number(2).task(1), number(2), number(1)] {
        assert!(txn.delete_job(at).unwrap(), "{at}");
        assert_eq!(txn.view().last_job_number().unwrap(), Some(number(2)), "{at} was deleted");
    }
    insert_ended(&txn, number(3), JobState::Completed, LATER);
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(3)));
    assert!(txn.delete_job(number(3)).unwrap());
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(3)));
}

/// The tasks of an array have their spec from its own row: without that not one list of jobs could be read any more.
#[test]
fn a_group_stays_until_its_last_task_is_deleted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let group = number(1);
    for at in [group, group.task(1), group.task(2)] {
        insert_ended(&txn, at, JobState::Discarded, LATER);
    }
    insert_job(&txn, 2);
    assert!(!txn.delete_job(group).unwrap());
    assert!(txn.delete_job(group.task(1)).unwrap());
    assert!(!txn.delete_job(group).unwrap());
    assert_eq!(txn.view().job_by_number(group.task(2)).unwrap().map(|job| *job.spec == samples::spec()), Some(true));
    assert!(txn.delete_job(group.task(2)).unwrap());
    assert!(txn.delete_job(group).unwrap());
}

#[test]
fn ended_jobs_are_found_by_state_and_age_without_tasks() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for at in 1..=6 {
        insert_ended(&txn, number(at), JobState::Completed, UnixMillis(100 - u64::from(at) * 10));
    }
    insert_ended(&txn, number(2).task(1), JobState::Completed, UnixMillis(1));
    insert_ended(&txn, number(7), JobState::Discarded, UnixMillis(1));
    txn.set_proven(number(1).task(3)).unwrap();
    txn.set_keep_until(number(2), Some(UnixMillis(500))).unwrap();
    let find = |which, limit| -> Vec<u32> {
        txn.view().ended(which, limit).unwrap().into_iter().map(JobNumber::number).collect()
    };
    let state = JobState::Completed;
    let before = |before| Ended::As { state, is_proven: false, before: UnixMillis(before) };
    assert_eq!(find(before(70), 9), [6, 5, 4], "oldest first, and not the one that ended at that very time");
    assert_eq!(find(before(1000), 2), [6, 5]);
    assert_eq!(find(before(40), 9), [0; 0]);
    assert_eq!(find(Ended::As { state, is_proven: true, before: LATER }, 9), [1]);
    assert_eq!(find(Ended::As { state: JobState::Discarded, is_proven: false, before: LATER }, 9), [7]);
    assert_eq!(find(Ended::KeptUntil(UnixMillis(499)), 9), [0; 0]);
    assert_eq!(find(Ended::KeptUntil(UnixMillis(500)), 9), [2]);
    assert_eq!(find(Ended::OfOwnKeep { before: UnixMillis(81) }, 9), [2]);
    assert_eq!(find(Ended::OfOwnKeep { before: UnixMillis(80) }, 9), [0; 0]);
}

fn metric(hour: u64, state: JobState, jobs: u64, run_ms: u64) -> Metric {
    Metric { hour, job_type: "true".to_owned(), state, jobs, run_ms: DurationMillis(run_ms) }
}

/// Deleted jobs took with them what was not counted before, and an hour that was counted twice kept the larger count.
#[test]
fn what_ended_in_an_hour_is_added_up() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let (completed, skipped) = (JobState::Completed, JobState::Skipped);
    for ended in [
        metric(HOUR, completed, 2, 500),
        metric(HOUR, skipped, 1, 0),
        metric(HOUR, completed, 1, 7),
        metric(HOUR + 1, completed, 4, 9),
    ] {
        txn.add_metric(&ended).unwrap();
    }
    let (first, second) =
        ([metric(HOUR, completed, 3, 507), metric(HOUR, skipped, 1, 0)], [metric(HOUR + 1, completed, 4, 9)]);
    assert_eq!(txn.view().metrics(0).unwrap(), [&first[..], &second[..]].concat());
    assert_eq!(txn.view().metrics(HOUR + 1).unwrap(), second);
    txn.drop_metrics_before(HOUR + 1).unwrap();
    assert_eq!(txn.view().metrics(0).unwrap(), second);
}
