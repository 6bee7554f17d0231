//! Deleting what has been kept long enough, and what is still known of it in sum.

use jobmesh_engine::{Command, Declared, JobAction, Response, Retention};
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{JobId, JobState, Outcome, Submission, UnixMillis};
use jobmesh_store::Ended;

use crate::desk::{DAY, HOUR, MINUTE, SECOND, YEAR, array, cancel, failure, node, plain, with};
use crate::node::{Fate, Node, Setup};

fn prune(node: &mut Node, limit: u32, ended_before: Option<UnixMillis>) -> u32 {
    match node.command(Command::Prune { limit, ended_before }).unwrap() {
        Response::Pruned(count) => count,
        other => panic!("{other:?}"),
    }
}

/// One job of each end, and a newer one that is never deleted.
fn ended(node: &mut Node) -> [JobId; 3] {
    let jobs = [0, 1, 2].map(|_| node.submit(plain()));
    node.ok(jobs[0]);
    node.end(jobs[1], failure());
    node.act(jobs[2], cancel());
    if node.state(jobs[2]) == JobState::Running {
        node.end(jobs[2], Outcome::Cancelled);
    }
    jobs
}

fn kept(node: &mut Node, jobs: &[JobId]) -> Vec<JobId> {
    let left: Vec<JobId> = node.jobs().iter().map(|job| job.id).collect();
    jobs.iter().copied().filter(|job| left.contains(job)).collect()
}

#[test]
fn what_failed_is_kept_longer_than_what_went_well() {
    let mut node = node(2);
    let jobs = ended(&mut node);
    assert_eq!(prune(&mut node, 100, None), 0);
    node.pass(DAY.plus(SECOND));
    assert_eq!(prune(&mut node, 100, None), 2);
    assert_eq!(kept(&mut node, &jobs), [jobs[1]]);
    for _ in 0..30 {
        node.pass(DAY);
    }
    assert_eq!(prune(&mut node, 100, None), 1);
    assert_eq!(node.forgotten.len(), 3);
}

#[test]
fn the_configuration_and_the_job_itself_have_a_say() {
    let retention = Retention { completed: None, discarded: Some(HOUR), ..Retention::default() };
    let mut node = Node::new(Setup { declared: Declared { retention, ..Declared::default() }, ..Setup::default() });
    let jobs = ended(&mut node);
    let own = node.submit(with(|job| job.spec.keep_ms = Some(DAY.plus(DAY))));
    node.end(own, failure());
    node.submit(plain());
    node.pass(HOUR.plus(SECOND));
    assert_eq!(prune(&mut node, 100, None), 1, "the discarded one");
    node.pass(DAY);
    assert_eq!(prune(&mut node, 100, None), 1, "the cancelled one");
    assert_eq!(kept(&mut node, &[jobs[0], own]), [jobs[0], own]);
    node.pass(DAY.plus(DAY));
    assert_eq!(prune(&mut node, 100, None), 1);
    assert_eq!(kept(&mut node, &[jobs[0], own]), [jobs[0]]);
}

#[test]
fn by_hand_it_goes_by_the_date_alone_and_a_few_at_a_time() {
    let mut node = node(2);
    let jobs = ended(&mut node);
    node.pass(SECOND);
    let now = node.now.wall;
    assert_eq!(prune(&mut node, 2, Some(now)), 2);
    assert_eq!(prune(&mut node, 2, Some(now)), 1);
    assert_eq!(kept(&mut node, &jobs), []);
    assert_eq!(prune(&mut node, 2, Some(now)), 0);
}

#[test]
fn tasks_stay_as_long_as_their_group() {
    let mut node = node(1);
    let group = node.submit(with(|job| job.array = Some(array(3))));
    let first = node.task(group, 1);
    node.ok(first);
    node.pass(DAY.plus(DAY));
    assert_eq!(prune(&mut node, 100, None), 0);
    assert!(node.refused(first, JobAction::Remove).contains("deleted with its group"));
    node.finish_all();
    node.pass(DAY.plus(DAY));
    assert_eq!(prune(&mut node, 100, None), 4);
}

/// The group went and left its newest task behind, whose spec was the group's: the list of jobs could not be read. Then
/// neither could be deleted, since the next number was counted from them.
#[test]
fn the_newest_group_goes_with_all_its_tasks_and_its_number_with_it() {
    for is_removed in [true, false] {
        let mut node = node(1);
        let group = node.submit(with(|job| job.array = Some(array(3))));
        node.finish_all();
        if is_removed {
            node.act(group, JobAction::Remove);
        } else {
            node.pass(DAY.plus(DAY));
            assert_eq!(prune(&mut node, 100, None), 4);
        }
        assert_eq!(node.jobs(), []);
        node.restart(SECOND, |_| false);
        let next = node.submit(plain());
        assert_eq!(node.job(next).number.number(), 2);
    }
}

#[test]
fn the_names_of_old_submissions_go_as_well() {
    let mut node = node(1);
    let named = || with(|job| job.idempotency_key = Some("order 7".to_owned()));
    node.submit(named());
    node.finish_all();
    node.submit(plain());
    node.pass(DAY.plus(DAY));
    prune(&mut node, 100, None);
    assert_eq!(node.read().view().submitted_as("order 7").unwrap(), None);
    node.submit(named());
}

#[test]
fn a_job_that_said_so_is_kept_for_less_than_is_usual() {
    let mut node = node(1);
    let brief = node.submit(with(|job| job.spec.keep_ms = Some(MINUTE)));
    node.ok(brief);
    let again = node.submit(with(|job| job.spec.keep_ms = Some(MINUTE)));
    node.end(again, failure());
    node.act(again, JobAction::Retry);
    node.submit(plain());
    node.pass(MINUTE);
    assert_eq!(prune(&mut node, 100, None), 1);
    assert_eq!(kept(&mut node, &[brief, again]), [again], "what runs again is not deleted");
}

/// It was kept as long as its first end said.
#[test]
fn a_job_that_is_tried_again_is_kept_by_its_new_end() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.end(job, failure());
    let number = node.job(job).number;
    let until = Some(UnixMillis(1));
    let txn = node.read();
    txn.set_proven(number).unwrap();
    txn.set_keep_until(number, until).unwrap();
    let _committed = txn.commit().unwrap();
    node.act(job, JobAction::Retry);
    node.ok(job);
    let before = UnixMillis(u64::MAX >> 1);
    let ended = |node: &mut Node, is_proven| {
        let which = Ended::As { state: JobState::Completed, is_proven, before };
        node.read().view().ended(which, 9).unwrap()
    };
    assert_eq!((ended(&mut node, false), ended(&mut node, true)), (vec![number], vec![]));
}

/// All tasks of a group went in one transaction, however many.
#[test]
fn a_large_group_goes_in_small_steps_and_a_restart_in_between_goes_on() {
    let mut node = node(64);
    let groups = [0, 1].map(|_| node.submit(with(|job| job.array = Some(array(1200)))));
    node.finish_all();
    node.submit(plain());
    let rows = |node: &mut Node| node.jobs().len();
    assert_eq!(rows(&mut node), 2403);
    node.act(groups[0], JobAction::Remove);
    assert_eq!(rows(&mut node), 1903, "one step");
    assert!(node.refused(groups[0], JobAction::Retry).contains("being deleted"));
    node.restart(SECOND, |_| true);
    node.pass(SECOND);
    assert_eq!(rows(&mut node), 1202);
    assert_eq!(kept(&mut node, &groups), [groups[1]]);
    node.pass(DAY);
    assert_eq!(prune(&mut node, 1000, None), 1000);
    node.pass(SECOND);
    assert_eq!(rows(&mut node), 1);
}

/// The results that a job waited for were gone, and it went on without them.
#[test]
fn a_job_stays_as_long_as_another_may_want_its_results() {
    let mut node = node(9);
    let upstream = node.submit(with(|job| job.array = Some(array(2))));
    let other = node.submit(with(|job| job.held = true));
    let both = crate::desk::after(&[upstream, other], None);
    let waiting = node.submit(with(|job| (job.after, job.reduce) = (both, true)));
    node.finish_all();
    node.submit(plain());
    let refusal = node.refused(upstream, JobAction::Remove);
    assert!(refusal.contains("job 1 is kept as long as job 3"), "{refusal}");
    node.pass(DAY.plus(DAY));
    assert_eq!(prune(&mut node, 100, None), 0);
    node.act(waiting, cancel());
    assert_eq!(prune(&mut node, 100, None), 3);
}

/// Those were deleted which had ended before the job that wants their results was submitted.
#[test]
fn what_had_ended_before_stays_for_whoever_wants_its_results_later() {
    let wants = |upstream: JobId, change: fn(&mut Submission)| {
        with(|job| {
            (job.after, job.reduce) = (crate::desk::after(&[upstream], None), true);
            job.spec.retry.max_attempts = 2;
            change(job);
        })
    };
    let changes: [fn(&mut Submission); 5] = [
        |_| {},
        |job| job.held = true,
        |job| job.start = Start::After(YEAR),
        |job| job.spec.requirements = vec!["tool:gzip".parse().unwrap()],
        |job| job.array = Some(array(2)),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        for is_task in [false, true] {
            let mut node = node(1);
            let group = node.submit(with(|job| job.array = Some(array(2))));
            node.finish_all();
            let upstream = if is_task { node.task(group, 2) } else { group };
            let waiting = node.submit(wants(upstream, change));
            let stays = |node: &mut Node, when: &str| {
                let refusal = node.refused(group, JobAction::Remove);
                assert!(refusal.contains("job 1 is kept as long as job 2"), "{place} {when}: {refusal}");
                node.pass(DAY.plus(DAY));
                let now = node.now.wall;
                assert_eq!([prune(node, 9, None), prune(node, 9, Some(now))], [0, 0], "{place} {when}");
                assert_eq!(kept(node, &[group]), [group]);
            };
            stays(&mut node, "at first");
            node.restart(SECOND, |_| true);
            stays(&mut node, "after a restart");
            if node.state(waiting) == JobState::Running && node.running() == [waiting] {
                node.end(waiting, failure());
                let row = node.job(waiting);
                assert_eq!(row.state, JobState::Retryable);
                node.step(&[], Fate::Unknown);
                assert!(node.refused(group, JobAction::Remove).contains("is kept"));
            }
            node.act(waiting, cancel());
            node.finish_all();
            let refused = node.command(Command::Job(group, JobAction::Remove));
            assert!(refused.is_ok(), "{place}: {refused:?}");
        }
    }
}

/// Its last rows were deleted a moment later, whoever waited for them by then.
#[test]
fn nothing_can_wait_for_a_group_that_is_being_deleted() {
    let mut node = node(64);
    let group = node.submit(with(|job| job.array = Some(array(1200))));
    node.finish_all();
    node.act(group, JobAction::Remove);
    let late = node.take(with(|job| job.after = crate::desk::after(&[group], None)));
    assert!(late.unwrap_err().to_string().contains("no job"));
    node.pass(SECOND);
    assert_eq!(node.jobs(), []);
}

/// How many jobs ended in a state, of all hours.
fn counted(node: &mut Node, state: JobState) -> (u64, u64) {
    let metrics = node.read().view().metrics(0).unwrap();
    let of_state = || metrics.iter().filter(|metric| metric.state == state);
    (of_state().map(|metric| metric.jobs).sum(), of_state().map(|metric| metric.run_ms.0).sum())
}

/// `metrics` showed three jobs, and none once they were deleted, until an hourly count had seen them.
#[test]
fn what_ended_is_counted_at_once_and_stays_counted_when_it_is_deleted() {
    let mut node = node(2);
    let jobs = ended(&mut node);
    let before = (counted(&mut node, JobState::Completed).0, counted(&mut node, JobState::Discarded).0);
    assert_eq!((before, counted(&mut node, JobState::Cancelled).0), ((1, 1), 1));
    for job in jobs {
        node.act(job, JobAction::Remove);
    }
    assert!(kept(&mut node, &jobs).is_empty());
    node.restart(SECOND, |_| false);
    let _done = node.command(Command::ForgetHours).unwrap();
    assert_eq!((counted(&mut node, JobState::Completed).0, counted(&mut node, JobState::Discarded).0), before);
    let again = node.submit(plain());
    node.end(again, failure());
    node.act(again, JobAction::Retry);
    node.ok(again);
    assert_eq!(counted(&mut node, JobState::Discarded).0, 2, "each end counts");
    assert_eq!(counted(&mut node, JobState::Completed).0, 2);
    for _ in 0..396 {
        node.pass(DAY);
    }
    let _done = node.command(Command::ForgetHours).unwrap();
    assert_eq!(counted(&mut node, JobState::Completed), (0, 0));
}
