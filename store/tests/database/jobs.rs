//! The job table: numbers, moves, what may be there once only, and specs that many jobs share.

use std::sync::Arc;

use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_protocol::state::{FinishReason, TRANSITIONS};
use jobmesh_protocol::{Epoch, Hash, JobNumber, JobSpec, JobState, UnixMillis};
use jobmesh_store::{Fault, Job, Move, NewJob, StoreError, Txn, View};

use crate::samples::{AT, KEY, LATER, PEER, end, id_of, insert, insert_job, job, memory, number, spec, start, waiting};

/// A refusal because something is taken.
fn is_taken(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Sqlite(Fault::Rule(_))))
}

fn other_spec() -> Arc<JobSpec> {
    Arc::new(JobSpec { priority: 9, job_type: "other".to_owned(), ..spec() })
}

fn live(view: &View<'_>) -> Vec<JobNumber> {
    view.live_jobs().unwrap().iter().map(|job| job.number).collect()
}

#[test]
fn a_job_reads_back_as_it_was_inserted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().last_job_number().unwrap(), None);
    let ended = Job {
        state: JobState::Cancelled,
        epoch: Epoch(4),
        failures: 3,
        crashes: 2,
        snoozes: 1,
        cancel_reason: Some("typo".to_owned()),
        finish_reason: Some(FinishReason::User),
        origin: Some(PEER),
        finished_at: Some(LATER),
        ..job(number(7))
    };
    for job in [&waiting(), &ended] {
        insert(&txn, job);
        assert_eq!(txn.view().job(job.id).unwrap().as_ref(), Some(job));
        assert_eq!(txn.view().job_by_number(job.number).unwrap().as_ref(), Some(job));
        assert_eq!(txn.view().job_id(job.number).unwrap(), Some(job.id));
        assert_eq!(txn.view().job_number(job.id).unwrap(), Some(job.number));
        assert_eq!(txn.view().state_of(job.number).unwrap(), Some(job.state));
    }
    assert_eq!(live(&txn.view()), [number(5)], "a job may be inserted after its end");
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(7)));
    let missing = number(6);
    assert_eq!(txn.view().job_by_number(missing).unwrap(), None);
    assert_eq!((txn.view().job_id(missing).unwrap(), txn.view().state_of(missing).unwrap()), (None, None));
}

#[test]
fn a_number_and_an_id_are_given_once() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let first = insert_job(&txn, 1);
    let insert = |job: &Job| txn.insert_job(&NewJob { job, has_spec: true, unique_key: None });
    assert!(is_taken(insert(&Job { id: id_of(number(2)), ..first.clone() })));
    assert!(is_taken(insert(&Job { number: number(2), ..first })));
}

#[test]
fn tasks_stand_behind_their_group_and_before_the_next_job() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let group = number(3);
    let order = [group, group.task(0), group.task(1), group.task(2), group.task(NUMBER_MAX), number(4)];
    for at in [0, 5, 2, 4, 3, 1] {
        insert(&txn, &job(order.get(at).copied().unwrap()));
    }
    assert_eq!(live(&txn.view()), order);
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(4)));
    insert_job(&txn, NUMBER_MAX);
    insert(&txn, &job(number(NUMBER_MAX).task(NUMBER_MAX)));
    assert_eq!(txn.view().last_job_number().unwrap(), Some(number(NUMBER_MAX)), "a task's number is its group's");
}

#[test]
fn a_task_borrows_the_spec_of_its_group() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let (group, task) = (number(1), job(number(1).task(7)));
    insert(&txn, &Job { spec: other_spec(), ..job(group) });
    insert(&txn, &task);
    let read = || txn.view().job(task.id).unwrap().unwrap().spec;
    assert_eq!(read(), other_spec());
    txn.set_spec(group, &spec()).unwrap();
    assert_eq!(*read(), spec(), "and goes on borrowing it");
    let known = other_spec();
    let shared = txn.view().task(task.number, &known).unwrap().unwrap().spec;
    assert!(Arc::ptr_eq(&shared, &known), "nothing is decoded for a task whose spec is known");
    assert_eq!(txn.view().task(group.task(8), &known).unwrap(), None);

    insert(&txn, &job(number(2).task(1)));
    let error = txn.view().job_by_number(number(2).task(1)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { what: "job spec" }), "a task without a group: {error:?}");
}

#[test]
fn jobs_of_the_same_spec_share_it_in_memory() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    (1..=3).for_each(|task| insert(&txn, &job(number(1).task(task))));
    insert(&txn, &Job { spec: other_spec(), ..job(number(2)) });
    let specs: Vec<_> = txn.view().live_jobs().unwrap().into_iter().map(|job| job.spec).collect();
    let [first, tasks @ .., other] = specs.as_slice() else { unreachable!("five jobs were inserted") };
    assert!(tasks.len() == 3 && tasks.iter().all(|spec| Arc::ptr_eq(first, spec)));
    assert_eq!((first.as_ref(), other), (&spec(), &other_spec()));
}

#[test]
fn a_walk_over_live_jobs_ends_with_the_first_error() {
    #[derive(Debug)]
    enum Stop {
        Store,
        Enough,
    }
    impl From<StoreError> for Stop {
        fn from(_: StoreError) -> Self {
            Self::Store
        }
    }
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=3).for_each(|number| drop(insert_job(&txn, number)));
    let mut seen = Vec::new();
    let result = txn.view().each_live_job(|job| {
        seen.push(job.number.number());
        if seen.len() == 2 { Err(Stop::Enough) } else { Ok(()) }
    });
    assert!(matches!(result, Err(Stop::Enough)), "{result:?}");
    assert_eq!(seen, [1, 2]);
}

#[test]
fn a_job_moves_only_from_where_it_is_believed_to_be() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let before = insert_job(&txn, 1);
    let start = start(before.number);
    for wrong in [
        Move { from: JobState::Offered, ..start },
        Move { epoch: Epoch(1), ..start },
        Move { job: number(2), ..start },
        Move { job: number(1).task(0), ..start },
        Move { from: JobState::Offered, to: JobState::Completed, ..start },
    ] {
        assert!(!txn.move_job(&wrong).unwrap(), "{wrong:?}");
    }
    assert_eq!(txn.view().job(before.id).unwrap().as_ref(), Some(&before), "a move that was refused changes nothing");

    let (run_at, expires_at) = (Some(UnixMillis(1)), Some(UnixMillis(2)));
    let counted = Move { failures: 1, crashes: 2, snoozes: 3, run_at, expires_at, ..start };
    assert!(txn.move_job(&counted).unwrap());
    assert!(!txn.move_job(&counted).unwrap(), "the same move twice");
    let (state, state_since, epoch) = (JobState::Running, LATER, Epoch(1));
    let moved = Job { state, state_since, epoch, failures: 1, crashes: 2, snoozes: 3, run_at, expires_at, ..before };
    assert_eq!(txn.view().job(moved.id).unwrap(), Some(moved));
}

/// Along every legal transition: what a restart reads is what has not ended, and only what has ended has an end.
#[test]
fn a_job_is_live_exactly_until_it_has_ended() {
    for (from, cause, to) in TRANSITIONS.iter().copied() {
        let mut store = memory();
        let txn = store.begin().unwrap();
        let ended = |state: JobState| (state.is_final().then_some(LATER), state.is_final().then_some(FinishReason::Ok));
        let (finished_at, finish_reason) = ended(from);
        let before = Job { state: from, finished_at, finish_reason, ..job(number(1)) };
        insert(&txn, &before);
        assert_eq!(live(&txn.view()).is_empty(), from.is_final(), "inserted {from}");

        let finish_reason = ended(to).1;
        assert!(txn.move_job(&Move { from, to, finish_reason, ..start(before.number) }).unwrap());
        let after = txn.view().job(before.id).unwrap().unwrap();
        assert_eq!(live(&txn.view()).is_empty(), to.is_final(), "{from} {cause} {to}");
        assert_eq!((after.finished_at, after.finish_reason), ended(to), "{from} {cause} {to}");
    }
}

#[test]
fn a_unique_key_has_one_holder_until_it_is_freed() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let insert = |number: u32, key: Hash| {
        let job = job(JobNumber::new(number));
        txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: Some(key) })
    };
    assert_eq!(txn.view().unique_holder(&KEY).unwrap(), None);
    insert(1, KEY).unwrap();
    assert_eq!(txn.view().unique_holder(&KEY).unwrap(), Some(job(number(1))));
    assert!(is_taken(insert(2, KEY)));
    assert_eq!(txn.view().job_by_number(number(2)).unwrap(), None);
    insert(3, Hash::of(b"another")).unwrap();
    insert_job(&txn, 4);
    insert_job(&txn, 5);

    assert!(txn.move_job(&start(number(1))).unwrap());
    assert!(txn.move_job(&end(number(1), JobState::Completed, FinishReason::Ok)).unwrap());
    assert!(is_taken(insert(6, KEY)), "the end of a job alone does not free its key");
    txn.free_unique_key(number(1)).unwrap();
    insert(6, KEY).unwrap();
    assert_eq!(txn.view().unique_holder(&KEY).unwrap().map(|job| job.number), Some(number(6)));
    assert!(is_taken(txn.give_unique_key(number(1), &KEY)));
    txn.free_unique_key(number(6)).unwrap();
    txn.give_unique_key(number(1), &KEY).unwrap();
    assert_eq!(txn.view().unique_holder(&KEY).unwrap().map(|job| job.number), Some(number(1)));
}

#[test]
fn a_job_that_has_started_can_no_longer_be_late() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for at in [1, 2] {
        insert(&txn, &Job { expires_at: Some(LATER), ..job(number(at)) });
    }
    txn.clear_expiry(number(1)).unwrap();
    let expiry = |at| txn.view().job_by_number(number(at)).unwrap().unwrap().expires_at;
    assert_eq!([expiry(1), expiry(2)], [None, Some(LATER)]);
}

fn fire(txn: &Txn<'_>, number: u32, schedule: &str, at: UnixMillis) -> Result<(), StoreError> {
    let job = Job { fire: Some((schedule.to_owned(), at)), ..job(JobNumber::new(number)) };
    txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: None })
}

#[test]
fn a_schedule_fires_once_for_an_instant() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    fire(&txn, 1, "hourly", LATER).unwrap();
    assert!(is_taken(fire(&txn, 2, "hourly", LATER)));
    fire(&txn, 2, "hourly", AT).unwrap();
    fire(&txn, 3, "daily", LATER).unwrap();
    let fired = |schedule, at| txn.view().fired(schedule, at).unwrap();
    assert_eq!([fired("hourly", LATER), fired("daily", LATER), fired("daily", AT)], [true, true, false]);
    let last = |schedule| txn.view().last_fired(schedule).unwrap();
    assert_eq!([last("hourly"), last("yearly")], [Some(AT.max(LATER)), None]);
    let live = || -> Vec<_> { txn.view().live_fired("hourly").unwrap().iter().map(|job| job.number).collect() };
    assert_eq!(live(), [number(2), number(1)], "by instant");

    assert!(txn.move_job(&start(number(1))).unwrap());
    assert!(txn.move_job(&end(number(1), JobState::Completed, FinishReason::Ok)).unwrap());
    assert_eq!(live(), [number(2)]);
    assert!(is_taken(fire(&txn, 4, "hourly", LATER)), "not even after its job has ended");
}

#[test]
fn what_is_said_about_a_job_is_written_down_and_taken_back() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let before = insert_job(&txn, 1);
    let at = before.number;
    insert_job(&txn, 2);
    txn.set_cancel_reason(at, Some(("typo", FinishReason::User))).unwrap();
    txn.set_held(at, Some("by hand")).unwrap();
    txn.set_place(at, "slow", -7).unwrap();
    txn.set_waits(at, 3).unwrap();
    txn.set_spec(at, &other_spec()).unwrap();
    let said = Job {
        cancel_reason: Some("typo".to_owned()),
        finish_reason: Some(FinishReason::User),
        held: Some("by hand".to_owned()),
        queue: "slow".to_owned(),
        priority: -7,
        waits: 3,
        spec: other_spec(),
        ..before.clone()
    };
    assert_eq!(txn.view().job_by_number(at).unwrap(), Some(said));
    txn.set_cancel_reason(at, None).unwrap();
    txn.set_held(at, None).unwrap();
    txn.set_place(at, "default", 0).unwrap();
    txn.set_waits(at, 0).unwrap();
    txn.set_spec(at, &spec()).unwrap();
    assert_eq!(txn.view().job_by_number(at).unwrap(), Some(before));
    assert_eq!(txn.view().job_by_number(number(2)).unwrap(), Some(job(number(2))), "no other job was touched");
}
