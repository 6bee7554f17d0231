//! Arrays and open groups: which task stands where, what it works on, and which ones are left.

use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Array, Range, Tasks};
use jobmesh_protocol::{JobNumber, JobState};
use jobmesh_store::Group;

use crate::samples::{array, end, id_of, insert, insert_job, job, memory, number, start};

fn range(first: u32, last: u32, step: u32) -> Range {
    Range { first, last, step }
}

fn items(count: u32) -> Tasks {
    Tasks::Items((1..=count).map(|item| format!("item {item}")).collect())
}

/// The group of an array as it is kept before its first task.
fn group_of(job: JobNumber, tasks: &Tasks) -> Group {
    let whole = Array { tasks: tasks.clone(), at_a_time: None, max_fails: None };
    let ranges = match tasks {
        Tasks::Ranges(ranges) => Some(ranges.clone()),
        Tasks::Items(_) => None,
    };
    Group { ranges, of: whole.count(), made: 0, at_a_time: None, max_fails: None, ..array(job) }
}

#[test]
fn a_group_reads_back_as_it_was_inserted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let ranges = Tasks::Ranges(vec![range(1, 6, 2), range(10, 11, 1)]);
    let open = Group { is_array: false, is_open: true, of: 0, made: 0, ..array(number(3)) };
    let groups =
        [(group_of(number(1), &items(2)), Some(items(2))), (group_of(number(2), &ranges), Some(ranges)), (open, None)];
    for (group, tasks) in &groups {
        txn.insert_group(group, tasks.as_ref()).unwrap();
        assert_eq!(txn.view().group(group.job).unwrap().as_ref(), Some(group));
    }
    assert_eq!(txn.view().group(number(4)).unwrap(), None);
    let (mut closed, _) = groups.into_iter().next_back().unwrap();
    (closed.is_open, closed.of, closed.made) = (false, 5, 4);
    (closed.completed, closed.failed, closed.dropped) = (2, 1, 1);
    txn.update_group(&closed).unwrap();
    assert_eq!(txn.view().group(number(3)).unwrap(), Some(closed));
}

/// Items are kept 256 in a row: the ends of the rows are where a task could get its neighbour's.
#[test]
fn every_task_gets_its_own_item() {
    for count in [1, 2, 255, 256, 257, 512, 513] {
        let mut store = memory();
        let txn = store.begin().unwrap();
        let group = number(1);
        txn.insert_group(&group_of(group, &items(count)), Some(&items(count))).unwrap();
        txn.insert_group(&group_of(number(2), &items(1)), Some(&items(1))).unwrap();
        let item = |task| txn.view().item(group.task(task)).unwrap();
        assert_eq!(item(0), None, "items are numbered from 1");
        for task in [1, 2, 255, 256, 257, 258, 511, 512, 513, count].into_iter().filter(|task| *task <= count) {
            assert_eq!(item(task), Some(format!("item {task}")), "of {count}");
        }
        assert_eq!((item(count + 1), item(10_000)), (None, None));
        assert_eq!(txn.view().items_around(group).unwrap(), None, "the group itself has none");
        assert_eq!(txn.view().items_around(number(3).task(1)).unwrap(), None);
    }
}

#[test]
fn a_task_of_ranges_has_no_item() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let tasks = Tasks::Ranges(vec![range(1, 9, 1)]);
    txn.insert_group(&group_of(number(1), &tasks), Some(&tasks)).unwrap();
    assert_eq!(txn.view().items_around(number(1).task(1)).unwrap(), None);
}

/// The number of a task follows from its place; a submission and the database must agree on it.
#[test]
fn a_place_leads_to_the_task_that_the_submission_meant() {
    for tasks in [
        items(1),
        items(300),
        Tasks::Ranges(vec![range(0, 0, 1)]),
        Tasks::Ranges(vec![range(5, 9, 1)]),
        Tasks::Ranges(vec![range(1, 6, 2), range(10, 11, 1), range(20, 90, 35)]),
    ] {
        let whole = Array { tasks: tasks.clone(), at_a_time: None, max_fails: None };
        let group = group_of(number(7), &tasks);
        for place in 0..whole.count() + 2 {
            let wanted = whole.index_at(place).map(|index| number(7).task(index));
            assert_eq!(group.task_at(place), wanted, "{tasks:?} at {place}");
        }
        assert_eq!(group.task_at(u32::MAX), None);
    }
}

/// Ranges are checked when they are submitted; what a damaged file says instead ends in nothing, not in a panic.
#[test]
fn a_range_of_nonsense_leads_nowhere() {
    for ranges in [vec![range(5, 1, 1)], vec![range(1, 5, 0), range(9, 1, 3)], vec![]] {
        let group = Group { ranges: Some(ranges), ..array(number(1)) };
        assert_eq!(group.task_at(9), None);
    }
    let whole = Group { ranges: Some(vec![range(0, u32::MAX, 1)]), ..array(number(1)) };
    assert!(whole.task_at(u32::MAX).is_some());
}

#[test]
fn an_open_group_numbers_its_tasks_from_one_without_end() {
    let open = Group { is_array: false, is_open: true, of: 0, ..array(number(1)) };
    assert_eq!([0, 1, 4000].map(|place| open.task_at(place)), [1, 2, 4001].map(|task| Some(number(1).task(task))));
}

#[test]
fn a_group_is_over_when_all_its_tasks_have_ended_and_no_more_may_come() {
    let mut group = Group { of: 3, made: 3, ..array(number(1)) };
    for (state, over) in [(JobState::Completed, false), (JobState::Discarded, false), (JobState::Skipped, true)] {
        group.count(state);
        assert_eq!(group.is_over(), over, "{state}");
    }
    assert_eq!((group.completed, group.failed, group.dropped, group.ended()), (1, 1, 1, 3));
    assert!(!Group { is_open: true, ..group.clone() }.is_over());
    let before = group.clone();
    for state in JobState::ALL.iter().copied() {
        group.count(state);
        assert_eq!(group.ended(), 3 + u32::from(state.is_final()), "{state}");
        group.uncount(state);
        assert_eq!(group, before, "{state} taken back");
    }
    group.uncount(JobState::Discarded);
    assert!(!group.is_over(), "a task that is tried again keeps its group from ending");
}

#[test]
fn live_and_unfinished_tasks_are_found_by_their_group() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let group = number(2);
    [1, 2, 3].into_iter().for_each(|at| drop(insert_job(&txn, at)));
    for task in [number(1).task(1), number(3).task(1)] {
        insert(&txn, &job(task));
    }
    let ends = [
        (0, None),
        (1, Some(JobState::Completed)),
        (2, Some(JobState::Discarded)),
        (3, None),
        (4, Some(JobState::Cancelled)),
        (5, Some(JobState::Skipped)),
    ];
    for (task, state) in ends {
        insert(&txn, &job(group.task(task)));
        if let Some(state) = state {
            assert!(txn.move_job(&start(group.task(task))).unwrap());
            assert!(txn.move_job(&end(group.task(task), state, FinishReason::Exhausted)).unwrap());
        }
    }
    let numbers = |tasks: &[u32]| tasks.iter().map(|task| group.task(*task)).collect::<Vec<_>>();
    assert_eq!(txn.view().live_tasks(group).unwrap(), numbers(&[0, 3]));
    assert_eq!(txn.view().unfinished_tasks(group).unwrap(), numbers(&[2, 4, 5]));
    let ended: Vec<_> = numbers(&[1, 2, 4, 5]).into_iter().map(|task| (task, id_of(task))).collect();
    assert_eq!(txn.view().ended_tasks(group, 9).unwrap(), ended);
    assert_eq!(txn.view().live_tasks(number(4)).unwrap(), []);
}
