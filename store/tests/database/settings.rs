//! The small tables: queues, rates, schedules, names of submissions, progress and checkpoints. The last word counts.

use jobmesh_protocol::{Epoch, UnixMillis};
use jobmesh_store::{Checkpoint, Progress, QueueRow, ScheduleRow};

use crate::samples::{AT, LATER, memory, number, schedule};

#[test]
fn a_queue_is_set_and_forgotten() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let slow = QueueRow { name: "slow".to_owned(), limits: Some(vec![1, 2]), is_paused: true, is_draining: false };
    let fast = QueueRow { name: "fast".to_owned(), limits: None, is_paused: false, is_draining: true };
    txn.put_queue(&slow).unwrap();
    txn.put_queue(&fast).unwrap();
    assert_eq!(txn.view().queues().unwrap(), [fast.clone(), slow.clone()], "by name");
    let resumed = QueueRow { limits: None, is_paused: false, ..slow };
    txn.put_queue(&resumed).unwrap();
    txn.drop_queue("fast").unwrap();
    txn.drop_queue("unknown").unwrap();
    assert_eq!(txn.view().queues().unwrap(), [resumed]);
}

#[test]
fn a_rate_limit_is_kept_over_a_restart_and_forgotten() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.put_rate("queue slow", b"slow").unwrap();
    txn.put_rate("api", b"one").unwrap();
    txn.put_rate("api", b"two").unwrap();
    let rates = [("api".to_owned(), b"two".to_vec()), ("queue slow".to_owned(), b"slow".to_vec())];
    assert_eq!(txn.view().rates().unwrap(), rates);
    txn.drop_rate("api").unwrap();
    let [_, slow] = rates;
    assert_eq!(txn.view().rates().unwrap(), [slow]);
}

/// One wish for a time beyond the last one undid the commit, and with it what everybody else had asked for.
#[test]
fn a_number_that_no_column_can_hold_is_written_as_the_largest() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.put_schedule(&ScheduleRow { last_at: UnixMillis(u64::MAX), passed: None, ..schedule() }).unwrap();
    let largest = UnixMillis(u64::try_from(i64::MAX).unwrap());
    assert_eq!(txn.view().schedules().unwrap(), [ScheduleRow { last_at: largest, passed: None, ..schedule() }]);
}

#[test]
fn a_schedule_is_written_over_and_forgotten() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let daily = ScheduleRow { name: "daily".to_owned(), is_declared: true, ..schedule() };
    txn.put_schedule(&schedule()).unwrap();
    txn.put_schedule(&daily).unwrap();
    assert_eq!(txn.view().schedules().unwrap(), [daily.clone(), schedule()], "by name");
    assert_eq!(txn.view().schedule("daily").unwrap(), Some(daily));
    assert_eq!(txn.view().schedule("weekly").unwrap(), None);
    let fired = ScheduleRow { last_at: LATER, is_paused: false, body: b"new".to_vec(), ..schedule() };
    txn.put_schedule(&fired).unwrap();
    txn.drop_schedule("daily").unwrap();
    assert_eq!(txn.view().schedules().unwrap(), [fired]);
}

#[test]
fn a_named_submission_is_known_until_its_name_is_forgotten() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let known = |name| txn.view().submitted_as(name).unwrap();
    txn.name_submission("a", number(1), AT).unwrap();
    txn.name_submission("b", number(2), LATER).unwrap();
    assert_eq!((known("a"), known("A")), (Some((number(1), AT)), None));
    txn.drop_submission_names_before(AT).unwrap();
    assert_eq!(known("a"), Some((number(1), AT)), "not before its time");
    txn.drop_submission_names_before(UnixMillis(AT.0 + 1)).unwrap();
    assert_eq!((known("a"), known("b")), (None, Some((number(2), LATER))));
    txn.name_submission("b", number(3), LATER).unwrap();
    assert_eq!(known("b"), Some((number(3), LATER)), "a name that ran out may be used again");
}

#[test]
fn the_newest_progress_replaces_the_one_before() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().progress(number(1)).unwrap(), None);
    let task = number(1).task(1);
    for (at, done, message) in [(number(1), Some(10_000), None), (number(1), None, Some("x")), (task, Some(0), None)] {
        let progress = Progress { epoch: Epoch(3), done, message: message.map(str::to_owned), at: LATER };
        txn.put_progress(at, &progress).unwrap();
        assert_eq!(txn.view().progress(at).unwrap(), Some(progress));
    }
    assert_eq!(txn.view().progress(number(1)).unwrap().and_then(|progress| progress.message), Some("x".to_owned()));
}

#[test]
fn checkpoints_are_kept_by_name() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let checkpoint = |name: &str, value: &str| Checkpoint { name: name.to_owned(), value: value.to_owned(), at: AT };
    for (at, name, value) in [(1, "page", "1"), (1, "cursor", "x"), (2, "page", "9"), (1, "page", "2")] {
        txn.put_checkpoint(number(at), &checkpoint(name, value)).unwrap();
    }
    let of = |at| txn.view().checkpoints(number(at)).unwrap();
    assert_eq!(of(1), [checkpoint("cursor", "x"), checkpoint("page", "2")]);
    txn.drop_checkpoint(number(1), "page").unwrap();
    assert_eq!((of(1), of(2)), (vec![checkpoint("cursor", "x")], vec![checkpoint("page", "9")]));
}
