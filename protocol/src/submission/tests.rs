use proptest::prelude::*;

use super::*;
use crate::task::{ProcessTask, Task};

fn spec() -> JobSpec {
    JobSpec::new("x", Task::Process(ProcessTask::new(vec!["true".to_owned()])))
}

fn ranges(list: &[(u32, u32, u32)]) -> Array {
    let ranges = list.iter().map(|&(first, last, step)| Range { first, last, step }).collect();
    Array { tasks: Tasks::Ranges(ranges), at_a_time: None, max_fails: None }
}

#[test]
fn the_tasks_of_ranges_are_numbered_by_them() {
    let array = ranges(&[(1, 6, 2), (10, 11, 1)]);
    assert_eq!(array.check(), Ok(()));
    assert_eq!(array.count(), 5);
    let numbers: Vec<_> = (0..6).map(|place| array.index_at(place)).collect();
    assert_eq!(numbers, [Some(1), Some(3), Some(5), Some(10), Some(11), None]);
}

/// A task of such an item could never start: neither an argument nor a variable holds a zero byte.
#[test]
fn an_item_with_a_zero_byte_is_refused_by_its_place() {
    let items = |list: &[&str]| {
        let items = list.iter().map(|&item| item.to_owned()).collect();
        Array { tasks: Tasks::Items(items), at_a_time: None, max_fails: None }.check()
    };
    assert_eq!(items(&["a", "b\n"]), Ok(()));
    assert_eq!(items(&["a", "x\0y"]), Err(SubmissionError::Nul { item: 2 }));
}

#[test]
fn ranges_that_overlap_go_down_or_stand_still_are_refused() {
    for list in [&[(1, 5, 1), (5, 9, 1)][..], &[(5, 1, 1)], &[(1, 5, 0)], &[(1, u32::MAX, 1)]] {
        // It is counted before it is checked, where a part of the tasks may fail.
        assert!(ranges(list).check().is_err() && ranges(list).count() > 0, "{list:?}");
    }
    assert_eq!(ranges(&[]).check(), Err(SubmissionError::Tasks { count: 0 }));
}

#[test]
fn the_digest_follows_the_fields_that_count_and_no_others() {
    let unique = |by| Unique { key: None, by, scope: Span::Incomplete, on_conflict: Conflict::Return };
    let mut other = spec();
    other.queue = "slow".to_owned();
    let by_task = unique(vec![Field::Type, Field::Task]);
    assert_eq!(by_task.digest(&spec()), by_task.digest(&other));
    let by_queue = unique(vec![Field::Task, Field::Queue]);
    assert_ne!(by_queue.digest(&spec()), by_queue.digest(&other));
    assert_eq!(unique(Vec::new()).check(), Err(SubmissionError::UniqueByNothing));
}

#[test]
fn a_job_that_would_have_to_be_over_before_it_may_start_is_refused() {
    let of = |deadline| {
        let start = Start::At(UnixMillis(2000));
        Submission { start, deadline: Some(UnixMillis(deadline)), ..Submission::new(spec()) }.check()
    };
    assert_eq!(of(2001), Ok(()));
    let start = UnixMillis(2000);
    assert_eq!(of(2000), Err(SubmissionError::Deadline { deadline: start, start }));
}

#[test]
fn the_fault_of_a_range_is_named() {
    let words = |list: &[(u32, u32, u32)]| ranges(list).check().map_err(|error| error.to_string());
    for (list, said) in [
        (&[(1, 1, 1), (1, 1, 1)][..], "1 comes behind 1"),
        (&[(5, 5, 1), (3, 3, 1)], "3 comes behind 5"),
        (&[(1, 5, 0)], "1-5 in steps of 0"),
        (&[(5, 1, 1)], "5-1 must go up"),
    ] {
        assert!(words(list).is_err_and(|error| error.contains(said)), "{list:?}");
    }
}

#[test]
fn a_submission_is_an_array_or_open_but_not_both() {
    let both = Submission { array: Some(ranges(&[(1, 2, 1)])), open: true, ..Submission::new(spec()) };
    assert_eq!(both.check(), Err(SubmissionError::Shape));
}

/// A submission with this length or date in one of its fields, and the name of the field.
fn far(field: usize, millis: u64) -> (&'static str, Submission) {
    let mut one = Submission::new(spec());
    let (length, date) = (DurationMillis(millis), UnixMillis(millis));
    let unique = |scope, on_conflict| Unique { key: Some("k".to_owned()), by: Vec::new(), scope, on_conflict };
    let field = match field {
        0 => {
            one.start = Start::After(length);
            "delay"
        }
        1 => {
            one.start_within_ms = Some(length);
            "time to start within"
        }
        2 => {
            one.unique = Some(unique(Span::Period(length), Conflict::Return));
            "period"
        }
        3 => {
            one.unique = Some(unique(Span::Incomplete, Conflict::Debounce(length)));
            "period"
        }
        4 => {
            one.unique = Some(unique(Span::Incomplete, Conflict::Throttle(length)));
            "period"
        }
        5 => {
            one.spec.timeout_ms = Some(length);
            "timeout"
        }
        6 => {
            one.spec.kill_grace_ms = length;
            "TERM and KILL"
        }
        7 => {
            one.spec.heartbeat_ms = Some(length);
            "heartbeat"
        }
        8 => {
            one.spec.keep_ms = Some(length);
            "kept"
        }
        9 => {
            one.start = Start::At(date);
            "start"
        }
        _ => {
            one.deadline = Some(date);
            "deadline"
        }
    };
    (field, one)
}

/// One job to be kept for 300 000 000 years kept the daemon from committing the end of any.
#[test]
fn every_length_and_date_is_taken_up_to_its_bound() {
    for field in 0..=10 {
        let bound = if field < 9 { LENGTH_MAX.0 } else { DATE_MAX.0 };
        assert_eq!(far(field, bound).1.check(), Ok(()));
    }
}

proptest! {
    #[test]
    fn no_length_or_date_is_taken_beyond_its_bound(field in 0_usize..=10, beyond in 1_u64..) {
        let bound = if field < 9 { LENGTH_MAX.0 } else { DATE_MAX.0 };
        let (name, far) = far(field, bound.saturating_add(beyond));
        let refusal = far.check().map_err(|error| error.to_string());
        prop_assert!(refusal.as_ref().is_err_and(|error| error.contains(name)), "{:?}", refusal);
    }

    #[test]
    fn no_sum_of_a_date_and_a_length_leaves_the_calendar(at in 0..=DATE_MAX.0, by: u64) {
        let sum = UnixMillis(at).plus(DurationMillis(by));
        prop_assert!(UnixMillis(at) <= sum && sum <= DATE_MAX);
    }
}

#[test]
fn what_says_nothing_of_the_job_it_is_said_of_is_refused() {
    let rule = Submission { rule: Rule::AllDone, ..Submission::new(spec()) };
    assert_eq!(rule.check(), Err(SubmissionError::RuleOfNothing));
    let mut open = Submission { open: true, ..Submission::new(spec()) };
    assert_eq!(open.check(), Ok(()));
    open.spec.retry.max_attempts = 2;
    assert_eq!(open.check(), Err(SubmissionError::OpenRetries));
}

#[test]
fn a_name_of_blanks_is_none() {
    let mut one = Submission::new(spec());
    one.spec.queue = " ".to_owned();
    assert_eq!(one.check(), Err(SpecError::Name { what: "queue" }.into()));
}

/// It was taken on, and then run again.
#[test]
fn what_must_not_run_twice_is_not_tried_again() {
    let mut once = Submission::new(spec());
    once.spec.effects = Effects::Once;
    assert_eq!(once.check(), Ok(()));
    once.spec.retry.retry_on = vec![crate::retry::Failure::Timeout];
    assert_eq!(once.check(), Err(SubmissionError::OnceAgain));
    once.spec.retry = crate::retry::Retry { max_attempts: 2, ..crate::retry::Retry::default() };
    assert_eq!(once.check(), Err(SubmissionError::OnceAgain));
}
