//! Arrays: many tasks that are one row until they start.

use jobmesh_engine::{Command, JobAction, QueueAction, Response};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Array, Range, Start, Tasks};
use jobmesh_protocol::{JobId, JobNumber, JobState, Outcome, Submission};

use crate::desk::{HOUR, SECOND, after, array, cancel, failure, node, plain, with};
use crate::node::Node;

fn of(array: Array) -> Submission {
    with(|job| job.array = Some(array))
}

/// Which tasks of a group there are, by index, with their states.
fn tasks(node: &mut Node, group: JobId) -> Vec<(u32, JobState)> {
    let number = node.job(group).number;
    let jobs = node.jobs();
    let of_group = jobs.iter().filter(|job| job.number.group() == number);
    of_group.filter_map(|job| Some((job.number.index()?, job.state))).collect()
}

/// Completed, failed and dropped tasks, as they are written.
fn counts(node: &mut Node, group: JobId) -> (u32, u32, u32) {
    let number: JobNumber = node.job(group).number;
    let row = node.read().view().group(number).unwrap().unwrap();
    (row.completed, row.failed, row.dropped)
}

#[test]
fn the_tasks_of_ranges_have_their_numbers() {
    let mut node = node(9);
    let ranges = vec![Range { first: 1, last: 5, step: 2 }, Range { first: 8, last: 9, step: 1 }];
    let group = node.submit(of(Array { tasks: Tasks::Ranges(ranges), ..array(1) }));
    let made: Vec<u32> = tasks(&mut node, group).iter().map(|task| task.0).collect();
    assert_eq!(made, [1, 3, 5, 8, 9]);
    assert_eq!(node.state(group), JobState::Running);
    node.finish_all();
    assert_eq!(node.fate(group), (JobState::Completed, Some(FinishReason::Ok)));
    assert_eq!(counts(&mut node, group), (5, 0, 0));
}

#[test]
fn every_task_of_a_list_gets_its_item() {
    let mut node = node(1);
    let items: Vec<String> = (0..600).map(|number| format!("file {number}")).collect();
    let group = node.submit(of(Array { tasks: Tasks::Items(items), ..array(1) }));
    let number = node.job(group).number;
    let item = |node: &mut Node, index| {
        let items = node.read().view().items_around(number.task(index)).unwrap();
        items.and_then(|items| items.of(index).map(str::to_owned))
    };
    assert_eq!(item(&mut node, 1).as_deref(), Some("file 0"));
    assert_eq!(item(&mut node, 257).as_deref(), Some("file 256"));
    assert_eq!(item(&mut node, 600).as_deref(), Some("file 599"));
    assert_eq!(item(&mut node, 601), None);
    let first = node.task(group, 1);
    node.ok(first);
    node.restart(SECOND, |_| true);
    assert_eq!(tasks(&mut node, group), [(1, JobState::Completed), (2, JobState::Running)]);
}

#[test]
fn a_million_tasks_are_one_row_until_they_start() {
    let mut node = node(2);
    node.queue("default", QueueAction::Pause);
    let group = node.submit(of(array(1_000_000)));
    assert_eq!(node.jobs().len(), 1);
    node.queue("default", QueueAction::Resume);
    assert_eq!(node.jobs().len(), 3);
    node.restart(SECOND, |_| true);
    assert_eq!(node.jobs().len(), 3);
    let explanation = node.explain(group);
    assert!(explanation.summary.contains("0 of 1000000 tasks have ended"), "{}", explanation.summary);
    node.act(group, cancel());
    for job in node.running() {
        node.end(job, Outcome::Cancelled);
    }
    assert_eq!(counts(&mut node, group), (0, 0, 1_000_000));
    assert_eq!(node.state(group), JobState::Cancelled);
}

#[test]
fn as_many_tasks_run_at_once_as_the_array_allows() {
    let mut node = node(9);
    let group = node.submit(of(Array { at_a_time: Some(2), ..array(5) }));
    let other = node.submit(plain());
    assert_eq!(node.running().len(), 3, "it keeps nobody else out");
    node.ok(other);
    node.restart(SECOND, |_| true);
    assert_eq!(node.running().len(), 2);
    assert_eq!(node.finish_all().len(), 5);
    assert_eq!(node.state(group), JobState::Completed);
}

/// The first task that was retried was put into the ready queue before its group was back, and knew no limit.
#[test]
fn retried_tasks_keep_to_the_limit_of_their_array() {
    let mut node = node(9);
    let group = node.submit(of(Array { at_a_time: Some(1), ..array(4) }));
    while let Some(job) = node.running().first().copied() {
        node.end(job, failure());
    }
    assert_eq!(node.fate(group), (JobState::Discarded, Some(FinishReason::TasksFailed)));
    node.act(group, JobAction::Retry);
    assert_eq!(node.running().len(), 1);
    node.finish_all();
    assert_eq!(node.state(group), JobState::Completed);
}

#[test]
fn one_failure_more_than_allowed_drops_the_rest() {
    let mut node = node(2);
    let group = node.submit(of(Array { max_fails: Some(1), ..array(10) }));
    let [first, second] = [1, 2].map(|index| node.task(group, index));
    node.end(first, failure());
    assert_eq!(node.running().len(), 2);
    node.end(second, failure());
    let stopped: Vec<JobId> = node.executor.stops.iter().map(|stop| stop.0.job).collect();
    assert_eq!(stopped, node.running());
    for job in stopped {
        node.end(job, Outcome::Cancelled);
    }
    assert_eq!(node.fate(group), (JobState::Discarded, Some(FinishReason::TasksFailed)));
    let (completed, failed, dropped) = counts(&mut node, group);
    assert_eq!((completed, failed, dropped), (0, 2, 8));
}

#[test]
fn a_retry_runs_what_failed_and_nothing_else() {
    let mut node = node(9);
    let group = node.submit(of(array(4)));
    let all = [1, 2, 3, 4].map(|index| node.task(group, index));
    node.ok(all[0]);
    node.end(all[1], failure());
    node.ok(all[2]);
    node.end(all[3], failure());
    assert_eq!(counts(&mut node, group), (2, 2, 0));
    node.act(group, JobAction::Retry);
    assert_eq!(node.running(), [all[1], all[3]]);
    assert_eq!(counts(&mut node, group), (2, 0, 0));
    node.finish_all();
    assert_eq!(node.state(group), JobState::Completed);
    assert_eq!(counts(&mut node, group), (4, 0, 0));
    assert!(node.refused(group, JobAction::Retry).contains("every task of it has completed"));
}

#[test]
fn a_retry_of_one_task_brings_its_group_back() {
    let mut node = node(9);
    let group = node.submit(of(array(2)));
    let [first, second] = [1, 2].map(|index| node.task(group, index));
    node.end(first, failure());
    node.ok(second);
    assert_eq!(node.state(group), JobState::Discarded);
    node.act(first, JobAction::Retry);
    assert_eq!(node.state(group), JobState::Running);
    node.ok(first);
    assert_eq!(node.state(group), JobState::Completed);
}

/// The tasks that were never made were gone for good.
#[test]
fn an_array_that_was_cancelled_half_way_is_taken_up_where_it_was() {
    let mut node = node(1);
    let group = node.submit(of(array(4)));
    let first = node.task(group, 1);
    node.ok(first);
    node.act(group, cancel());
    let second = node.running()[0];
    node.end(second, Outcome::Cancelled);
    assert_eq!(node.fate(group), (JobState::Cancelled, Some(FinishReason::User)));
    assert_eq!(counts(&mut node, group), (1, 0, 3));
    node.act(group, JobAction::Retry);
    assert_eq!(counts(&mut node, group), (1, 0, 0));
    assert_eq!(node.finish_all().len(), 3);
    assert_eq!(node.state(group), JobState::Completed);
    assert_eq!(tasks(&mut node, group).len(), 4);
}

#[test]
fn an_array_that_never_began_can_be_cancelled_skipped_and_taken_up() {
    let mut node = node(1);
    let up = node.submit(plain());
    let waits = node.submit(with(|job| (job.array, job.after) = (Some(array(3)), after(&[up], None))));
    let far = Some(node.now.wall.plus(HOUR));
    let scheduled = node.submit(with(|job| {
        (job.array, job.start, job.deadline) = (Some(array(3)), Start::After(HOUR.plus(HOUR)), far)
    }));
    let doomed = node.submit(with(|job| (job.array, job.after) = (Some(array(3)), after(&[waits], None))));
    node.act(waits, cancel());
    assert_eq!(node.states(&[waits, doomed]), [JobState::Cancelled, JobState::Skipped]);
    node.ok(up);
    node.pass(HOUR);
    assert_eq!(node.fate(scheduled), (JobState::Skipped, Some(FinishReason::Deadline)));
    node.act(waits, JobAction::Retry);
    assert_eq!(node.states(&[waits, doomed]), [JobState::Running, JobState::Pending]);
    assert_eq!(node.finish_all().len(), 6, "the one that was dropped for it was revived with all its tasks");
    assert_eq!(node.states(&[waits, doomed]), [JobState::Completed; 2]);
}

#[test]
fn tasks_that_must_not_run_twice_are_not_retried_with_their_group() {
    let mut node = node(9);
    let mut once = of(array(2));
    once.spec.effects = Effects::Once;
    let group = node.submit(once);
    for job in node.running() {
        node.end(job, failure());
    }
    assert!(node.refused(group, JobAction::Retry).contains("must not run twice"));
}

#[test]
fn a_deadline_stops_the_whole_array() {
    let mut node = node(1);
    let far = Some(node.now.wall.plus(HOUR));
    let group = node.submit(with(|job| (job.array, job.deadline) = (Some(array(3)), far)));
    node.pass(HOUR);
    let job = node.running()[0];
    node.end(job, Outcome::Timeout);
    assert_eq!(node.state(group), JobState::Discarded);
    assert_eq!(node.jobs().len(), 2, "no further task was made");
}

#[test]
fn a_held_array_starts_no_further_task() {
    let mut node = node(1);
    let group = node.submit(of(array(3)));
    node.act(group, JobAction::Hold { reason: String::new() });
    let first = node.running()[0];
    node.ok(first);
    assert_eq!(node.running(), []);
    node.restart(SECOND, |_| false);
    assert_eq!(node.running(), []);
    node.act(group, JobAction::Release);
    assert_eq!(node.finish_all().len(), 2);
}

#[test]
fn what_waits_for_an_array_waits_for_all_of_it() {
    let mut node = node(2);
    let group = node.submit(of(array(3)));
    let job = node.submit(with(|job| (job.after, job.reduce) = (after(&[group], None), true)));
    let first = node.running()[0];
    node.ok(first);
    assert_eq!(node.state(job), JobState::Pending);
    let order = node.finish_all();
    assert_eq!(order.last(), Some(&job));
}

#[test]
fn an_array_is_moved_with_what_is_left_of_it() {
    let mut node = node(1);
    let group = node.submit(of(array(2)));
    node.queue("slow", QueueAction::Pause);
    node.act(group, JobAction::Move("slow".to_owned()));
    let first = node.running()[0];
    node.ok(first);
    assert_eq!(node.running(), []);
    node.queue("slow", QueueAction::Resume);
    assert_eq!(node.running().len(), 1);
}

/// Makes a task of an array by naming it.
fn name(node: &mut Node, group: JobId, index: u32) -> Result<JobId, String> {
    let number = node.job(group).number.task(index);
    match node.command(Command::NameTasks(vec![number])) {
        Ok(Response::Submitted(taken)) => Ok(taken[0].job),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// `cancel 42.7` found no such job until the task had started.
#[test]
fn a_task_that_is_not_made_yet_can_be_named() {
    let mut node = node(1);
    let ranges = vec![Range { first: 1, last: 19, step: 2 }];
    let group = node.submit(of(Array { tasks: Tasks::Ranges(ranges), ..array(1) }));
    let last = name(&mut node, group, 19).unwrap();
    let third = name(&mut node, group, 5).unwrap();
    assert_eq!(name(&mut node, group, 5).unwrap(), third);
    let after = node.submit(with(|job| job.after = after(&[last], None)));
    assert_eq!(node.kinds(third), ["no_slot", "no_room"]);
    node.act(third, cancel());
    node.restart(SECOND, |_| true);
    let ran = node.finish_all();
    assert_eq!((ran.len(), ran.last()), (10, Some(&after)), "nine of ten tasks, and what waited for one");
    assert_eq!(counts(&mut node, group), (9, 0, 1));
    assert_eq!(node.fate(group), (JobState::Cancelled, Some(FinishReason::User)));
    assert_eq!(tasks(&mut node, group).len(), 10);
}

/// A look at a task that was not made yet put it behind all others of its array.
#[test]
fn a_named_task_runs_at_its_place_in_its_array() {
    for at_a_time in [Some(1), None] {
        let mut node = node(1);
        let group = node.submit(of(Array { at_a_time, ..array(9) }));
        for index in [9, 5, 3, 2] {
            name(&mut node, group, index).unwrap();
        }
        let third = node.task(group, 3);
        node.act(third, cancel());
        node.restart(SECOND, |_| true);
        let order = node.finish_all();
        let indices: Vec<u32> = order.iter().filter_map(|job| node.job(*job).number.index()).collect();
        assert_eq!(indices, [1, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!(counts(&mut node, group), (8, 0, 1));
    }
}

#[test]
fn tasks_are_named_together_or_not_at_all() {
    let mut node = node(1);
    let group = node.submit(of(array(9)));
    let number = node.job(group).number;
    let before = tasks(&mut node, group).len();
    node.command(Command::NameTasks(vec![number.task(5), number.task(100)])).unwrap_err();
    assert_eq!(tasks(&mut node, group).len(), before);
    let named = node.command(Command::NameTasks(vec![number.task(5), number.task(7), number.task(5)]));
    let Ok(Response::Submitted(taken)) = named else { panic!("{named:?}") };
    assert_eq!(taken.iter().map(|task| task.number).collect::<Vec<_>>(), [number.task(5), number.task(7)]);
    assert_eq!(tasks(&mut node, group).len(), before + 2);
}

#[test]
fn a_task_that_cannot_be_is_refused_with_the_reason() {
    let mut node = node(1);
    let group = node.submit(of(array(3)));
    let pending = node.submit(with(|job| (job.array, job.after) = (Some(array(3)), after(&[group], None))));
    assert!(name(&mut node, group, 4).unwrap_err().contains("no task 1.4: the tasks of job 1 are 1.1 to 1.3"));
    assert!(name(&mut node, group, 0).unwrap_err().contains("1.1 to 1.3"));
    assert!(name(&mut node, pending, 1).unwrap_err().contains("array 2 is pending"));
    let plain = node.submit(plain());
    assert!(name(&mut node, plain, 1).unwrap_err().contains("job 3 has no tasks"));
    node.act(group, cancel());
    assert!(name(&mut node, group, 3).unwrap_err().contains("jobmesh retry 1"));
}

/// Names all tasks of an array from `first` to `last`; says how many were made by that.
fn name_all(node: &mut Node, group: JobId, (first, last): (u32, u32)) -> Result<usize, String> {
    let group = node.job(group).number;
    match node.command(Command::NameRange(group.task(first), group.task(last))) {
        Ok(Response::Submitted(taken)) => Ok(taken.len()),
        Ok(Response::Unchanged) => Ok(0),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// `cancel 42.3-5` of tasks that had not started meant none of them, and said nothing.
#[test]
fn a_range_of_tasks_that_are_not_made_yet_can_be_named() {
    let mut node = node(1);
    let ranges = vec![Range { first: 1, last: 19, step: 2 }];
    let group = node.submit(of(Array { tasks: Tasks::Ranges(ranges), ..array(1) }));
    name(&mut node, group, 7).unwrap();
    assert_eq!(name_all(&mut node, group, (1, 10)), Ok(3), "1 runs, 7 was named: 3, 5 and 9");
    assert_eq!(name_all(&mut node, group, (1, 10)), Ok(0));
    assert!(name_all(&mut node, group, (3, 20)).unwrap_err().contains("no task 1.20: the tasks of job 1 are 1.1 to"));
    assert!(name_all(&mut node, group, (0, 3)).unwrap_err().contains("no task 1.0"));
    let held = node.submit(of(array(10)));
    node.act(held, JobAction::Hold { reason: String::new() });
    assert_eq!(name_all(&mut node, held, (3, 5)), Ok(3));
    assert_eq!(node.finish_all().len(), 10);
    node.act(held, cancel());
    assert_eq!(name_all(&mut node, held, (1, 10)), Ok(0), "what was dropped stays so");
}

#[test]
fn a_range_of_too_many_tasks_or_of_none_is_refused() {
    let mut node = node(1);
    let group = node.submit(of(array(20_000)));
    assert!(name_all(&mut node, group, (1, 20_000)).unwrap_err().contains("at most 10000"));
    let pending = node.submit(with(|job| (job.array, job.after) = (Some(array(3)), after(&[group], None))));
    assert!(name_all(&mut node, pending, (1, 2)).unwrap_err().contains("array 2 is pending"));
    let gone = JobNumber::new(99);
    let refusal = node.command(Command::NameRange(gone.task(1), gone.task(2))).unwrap_err();
    assert!(refusal.to_string().contains("no job 99"), "{refusal}");
    let refusal = node.command(Command::NameTasks(vec![gone.task(1)])).unwrap_err();
    assert!(refusal.to_string().contains("no job 99"), "{refusal}");
}

#[test]
fn an_array_with_a_named_task_is_held_dropped_and_taken_up_like_any_other() {
    let mut node = node(1);
    let group = node.submit(of(array(6)));
    node.act(group, JobAction::Hold { reason: String::new() });
    name(&mut node, group, 4).unwrap();
    let first = node.running()[0];
    node.ok(first);
    assert_eq!(node.running(), [], "a task of a held array is held");
    node.act(group, JobAction::Release);
    assert_eq!(node.running().len(), 1);
    node.act(group, cancel());
    let second = node.running()[0];
    node.end(second, Outcome::Cancelled);
    assert_eq!(counts(&mut node, group), (1, 0, 5));
    assert_eq!(node.state(group), JobState::Cancelled);
    node.act(group, JobAction::Retry);
    assert_eq!(counts(&mut node, group), (1, 0, 0));
    assert_eq!(node.finish_all().len(), 5);
    assert_eq!(node.state(group), JobState::Completed);
    assert_eq!(tasks(&mut node, group).len(), 6);
}

/// A named task started although its array was held afterwards, and one that had been dropped and taken up again with
/// its held array stayed held for ever.
#[test]
fn a_named_task_is_held_and_released_with_its_array() {
    let mut node = node(1);
    let blocker = node.submit(plain());
    let group = node.submit(of(array(3)));
    let first = name(&mut node, group, 1).unwrap();
    node.act(group, JobAction::Hold { reason: String::new() });
    node.ok(blocker);
    assert_eq!(node.running(), []);
    node.act(group, cancel());
    node.act(group, JobAction::Retry);
    node.restart(SECOND, |_| true);
    assert_eq!(node.running(), []);
    node.act(group, JobAction::Release);
    assert_eq!(node.finish_all().len(), 3);
    assert_eq!(node.states(&[group, first]), [JobState::Completed; 2]);
}

/// An array of which somebody had named a task failed where another one was skipped.
#[test]
fn an_array_with_a_named_task_that_never_began_is_skipped_like_any_other() {
    for (within, deadline, reason) in
        [(Some(HOUR), None, FinishReason::Expired), (None, Some(HOUR), FinishReason::Deadline)]
    {
        let mut node = node(1);
        node.submit(plain());
        let over = deadline.map(|wait| node.now.wall.plus(wait));
        let group = node.submit(with(|job| {
            (job.array, job.start_within_ms, job.deadline) = (Some(array(3)), within, over);
        }));
        let task = name(&mut node, group, 2).unwrap();
        node.pass(HOUR);
        assert_eq!(node.fate(group), (JobState::Skipped, Some(reason)));
        assert_eq!(node.fate(task), (JobState::Skipped, Some(reason)));
        assert_eq!(counts(&mut node, group), (0, 0, 3));
    }
}

/// It was said to have failed, though nothing had.
#[test]
fn an_array_of_which_a_task_was_cancelled_and_none_failed_ends_as_cancelled() {
    let mut node = node(3);
    let group = node.submit(with(|job| job.array = Some(array(3))));
    let tasks = [1, 2, 3].map(|index| node.task(group, index));
    node.act(tasks[0], cancel());
    node.end(tasks[0], Outcome::Cancelled);
    node.ok(tasks[1]);
    node.ok(tasks[2]);
    assert_eq!(node.fate(group), (JobState::Cancelled, Some(FinishReason::User)));
    node.act(group, JobAction::Retry);
    node.ok(tasks[0]);
    assert_eq!(node.state(group), JobState::Completed);
}
