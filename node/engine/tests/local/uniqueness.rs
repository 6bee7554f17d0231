//! Jobs of which there may be only one, and submissions that may be repeated.

use jobmesh_engine::{Command, JobAction, Response};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Conflict, Span, Start, Unique};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{JobId, JobSpec, JobState, Submission};

use crate::desk::{DAY, HOUR, MINUTE, after, array, node, plain, with};
use crate::node::Node;

fn unique(scope: Span, on_conflict: Conflict) -> Submission {
    with(|job| job.unique = Some(Unique { key: Some("one".to_owned()), by: Vec::new(), scope, on_conflict }))
}

/// Submits again what is in the way of itself. Returns the job that answers, if it is the first one.
fn repeat(node: &mut Node, submission: &Submission, first: JobId) -> bool {
    let taken = node.take(submission.clone()).unwrap();
    assert_eq!(taken.is_new, taken.job != first);
    !taken.is_new
}

#[test]
fn the_first_job_is_in_the_way_for_as_long_as_its_scope_says() {
    for (scope, while_it_runs, after_its_end, after_an_hour) in [
        (Span::Incomplete, true, false, false),
        (Span::Retained, true, true, true),
        (Span::Period(HOUR), true, true, false),
    ] {
        for (moment, expected) in [(0, while_it_runs), (1, after_its_end), (2, after_an_hour)] {
            let mut node = node(1);
            let submission = unique(scope, Conflict::Return);
            let first = node.submit(submission.clone());
            if moment > 0 {
                node.ok(first);
            }
            if moment > 1 {
                node.pass(HOUR);
            }
            assert_eq!(repeat(&mut node, &submission, first), expected, "{scope:?} at {moment}");
        }
    }
}

#[test]
fn a_second_one_is_refused_by_the_name_of_the_first() {
    for scope in [Span::Incomplete, Span::Retained, Span::Period(HOUR)] {
        let mut node = node(1);
        let first = node.submit(unique(scope, Conflict::Reject));
        let refusal = node.take(unique(scope, Conflict::Reject)).unwrap_err().to_string();
        assert!(refusal.contains("job 1 has the same unique key"), "{refusal}");
        node.ok(first);
        assert_eq!(node.take(unique(scope, Conflict::Reject)).is_ok(), scope == Span::Incomplete);
    }
}

#[test]
fn a_newer_job_takes_the_place_of_one_that_waits_and_follows_one_that_runs() {
    for scope in [Span::Incomplete, Span::Retained, Span::Period(HOUR)] {
        let mut node = node(9);
        let waiting = |start| Submission { start, ..unique(scope, Conflict::Replace) };
        let first = node.submit(waiting(Start::After(HOUR)));
        let second = node.submit(waiting(Start::Now));
        assert_eq!(node.fate(first), (JobState::Skipped, Some(FinishReason::Replaced)));
        assert_eq!(node.state(second), JobState::Running);
        let third = node.submit(waiting(Start::Now));
        assert_eq!(node.states(&[second, third]), [JobState::Running, JobState::Pending], "what runs is never changed");
        let fourth = node.submit(waiting(Start::Now));
        assert_eq!(node.states(&[second, third, fourth]), [JobState::Running, JobState::Skipped, JobState::Pending]);
        node.restart(MINUTE, |_| true);
        node.end(second, crate::desk::failure());
        assert_eq!(node.running(), [fourth], "it was waited for, however it ended");
    }
}

#[test]
fn no_two_jobs_of_a_key_run_at_once_whatever_becomes_of_the_second() {
    for on_conflict in [Conflict::Replace, Conflict::Merge, Conflict::Debounce(MINUTE)] {
        let mut node = node(9);
        let first = node.submit(Submission { start: Start::Now, ..unique(Span::Incomplete, Conflict::Return) });
        let second = node.submit(unique(Span::Incomplete, on_conflict));
        node.pass(HOUR);
        assert_eq!(node.running(), [first], "{on_conflict:?}");
        node.ok(first);
        node.pass(HOUR);
        assert_eq!(node.running(), [second], "{on_conflict:?}");
    }
}

/// It would have waited for its own task.
#[test]
fn a_task_is_kept_out_by_the_key_of_its_own_group() {
    let mut node = node(1);
    let replace = || unique(Span::Incomplete, Conflict::Replace);
    let group = node.submit(Submission { open: true, ..replace() });
    let refusal = node.take(Submission { into: Some(group), ..replace() }).unwrap_err().to_string();
    assert!(refusal.contains("job 1 has the same unique key"), "{refusal}");
}

/// A group has no attempts of its own, so it was taken for one that had not started, and its tasks lost their group.
#[test]
fn an_array_that_runs_is_not_replaced() {
    let mut node = node(1);
    let first = node.submit(Submission { array: Some(array(3)), ..unique(Span::Incomplete, Conflict::Replace) });
    node.submit(unique(Span::Incomplete, Conflict::Replace));
    assert_eq!(node.state(first), JobState::Running);
    node.finish_all();
    assert_eq!(node.state(first), JobState::Completed);
}

/// The third took the place of the second only, and waited for an array that nobody wanted any more.
#[test]
fn all_that_have_not_started_are_replaced_together() {
    let mut node = node(1);
    let held =
        node.submit(Submission { array: Some(array(3)), held: true, ..unique(Span::Incomplete, Conflict::Merge) });
    let waits = node.submit(unique(Span::Incomplete, Conflict::Merge));
    assert_eq!(node.state(waits), JobState::Pending);
    let new = node.submit(unique(Span::Incomplete, Conflict::Replace));
    for job in [held, waits] {
        assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Replaced)));
    }
    assert_eq!(node.running(), [new]);
}

#[test]
fn arguments_are_added_to_a_job_that_waits() {
    for scope in [Span::Incomplete, Span::Retained, Span::Period(HOUR)] {
        let mut node = node(1);
        let blocker = node.submit(plain());
        let with_file = |file: &str| {
            let mut submission = unique(scope, Conflict::Merge);
            if let Task::Process(process) = &mut submission.spec.task {
                process.argv.push(file.to_owned());
            }
            submission
        };
        let first = node.submit(with_file("a"));
        assert!(repeat(&mut node, &with_file("b"), first));
        let Task::Process(process) = node.job(first).spec.task.clone() else { panic!("no process") };
        assert_eq!(process.argv, ["work", "a", "b"]);
        node.ok(blocker);
        assert_eq!(node.state(first), JobState::Running);
        assert!(!repeat(&mut node, &with_file("c"), first), "what runs is never changed");
    }
}

/// Its arguments were dropped, or ended up with another program.
#[test]
fn what_cannot_be_merged_becomes_a_job_that_waits_for_the_one_before() {
    let merge = |change: &dyn Fn(&mut ProcessTask)| {
        let mut submission = unique(Span::Incomplete, Conflict::Merge);
        if let Task::Process(process) = &mut submission.spec.task {
            change(process);
        }
        submission
    };
    let noop = Submission { spec: JobSpec { task: Task::Noop {}, ..plain().spec }, ..merge(&|_| {}) };
    for other in [
        merge(&|process| process.argv = vec!["other".to_owned(), "a".to_owned()]),
        merge(&|process| process.argv.extend(vec!["b".to_owned(); 3000])),
        merge(&|process| process.directory = Some("/tmp".to_owned())),
        Submission { array: Some(array(2)), ..merge(&|_| {}) },
        noop,
    ] {
        let mut node = node(1);
        node.queue("default", jobmesh_engine::QueueAction::Pause);
        let first = node.submit(merge(&|process| process.argv.extend(vec!["a".to_owned(); 3000])));
        let before = node.job(first).spec;
        assert!(!repeat(&mut node, &other, first));
        assert_eq!(node.job(first).spec, before);
        let second = node.jobs()[1].clone();
        assert_eq!((second.state, &second.spec.task), (JobState::Pending, &other.spec.task));
        node.queue("default", jobmesh_engine::QueueAction::Resume);
        assert_eq!(node.running(), [first]);
        node.ok(first);
        assert_eq!(node.state(second.id), JobState::Running);
    }
}

#[test]
fn a_debounced_job_starts_once_it_has_been_left_alone() {
    for scope in [Span::Incomplete, Span::Retained, Span::Period(DAY)] {
        let mut node = node(1);
        let submission = Submission { start: Start::After(MINUTE), ..unique(scope, Conflict::Debounce(MINUTE)) };
        let first = node.submit(submission.clone());
        for _ in 0..3 {
            node.pass(jobmesh_protocol::DurationMillis(MINUTE.0 - 1));
            assert!(repeat(&mut node, &submission, first));
            assert_eq!(node.state(first), JobState::Scheduled);
        }
        node.pass(MINUTE);
        assert_eq!(node.state(first), JobState::Running);
        assert!(!repeat(&mut node, &submission, first));
    }
}

/// Whoever reads the results of what it waits for read those of the job before it as well.
#[test]
fn what_a_job_waits_for_because_of_its_key_is_told_from_what_it_asked_for() {
    let mut node = node(2);
    let (upstream, first) = (node.submit(plain()), node.submit(unique(Span::Incomplete, Conflict::Replace)));
    let both = Submission { after: after(&[upstream], None), ..unique(Span::Incomplete, Conflict::Replace) };
    let job = node.submit(both.clone());
    let asked = Submission { after: after(&[upstream, first], None), ..both };
    let last = node.submit(asked);
    let of_key = |node: &mut Node, job| {
        let number = node.job(job).number;
        let edges = node.read().view().dependencies(number).unwrap();
        edges.iter().map(|(edge, _)| (edge.upstream.number(), edge.is_of_key)).collect::<Vec<_>>()
    };
    assert_eq!(of_key(&mut node, job), [(1, false), (2, true)]);
    assert_eq!(of_key(&mut node, last), [(1, false), (2, false)]);
}

/// It was given a time in place of its dependencies, and started without them.
#[test]
fn a_debounced_job_still_waits_for_others() {
    let mut node = node(2);
    let upstream = node.submit(plain());
    let submission =
        Submission { after: after(&[upstream], None), ..unique(Span::Incomplete, Conflict::Debounce(MINUTE)) };
    let first = node.submit(submission.clone());
    assert!(repeat(&mut node, &submission, first));
    node.pass(HOUR);
    assert_eq!(node.state(first), JobState::Pending);
    node.ok(upstream);
    assert_eq!(node.state(first), JobState::Running);
}

#[test]
fn a_throttled_job_is_taken_on_once_in_a_while() {
    for scope in [Span::Retained, Span::Period(DAY)] {
        let mut node = node(1);
        let submission = unique(scope, Conflict::Throttle(HOUR));
        let first = node.submit(submission.clone());
        node.ok(first);
        assert!(repeat(&mut node, &submission, first));
        node.pass(HOUR);
        assert!(!repeat(&mut node, &submission, first));
    }
}

#[test]
fn a_key_outlives_a_restart_and_a_failed_commit() {
    let mut node = node(1);
    let submission = unique(Span::Incomplete, Conflict::Return);
    let first = node.submit(submission.clone());
    node.restart(MINUTE, |_| true);
    assert!(repeat(&mut node, &submission, first));
    node.step(&[], crate::node::Fate::Unknown);
    assert!(repeat(&mut node, &submission, first));
}

fn named() -> Submission {
    with(|job| job.idempotency_key = Some("order 7".to_owned()))
}

#[test]
fn a_submission_of_the_same_name_gets_the_same_answer_for_a_day() {
    let mut node = node(1);
    let first = node.submit(named());
    node.ok(first);
    node.restart(HOUR, |_| false);
    let again = node.take(named()).unwrap();
    assert_eq!((again.job, again.is_new), (first, false));
    node.pass(DAY);
    assert!(node.take(named()).unwrap().is_new);
}

/// It was refused as a duplicate of itself.
#[test]
fn a_repeated_submission_is_answered_before_it_is_judged() {
    let mut node = node(1);
    let submission = Submission { unique: unique(Span::Incomplete, Conflict::Reject).unique, ..named() };
    let first = node.submit(submission.clone());
    assert_eq!(node.take(submission.clone()).unwrap().job, first);
    node.queue("default", jobmesh_engine::QueueAction::Drain);
    assert_eq!(node.take(submission).unwrap().job, first);
}

#[test]
fn one_bad_submission_of_a_request_keeps_the_others_out() {
    let mut node = node(1);
    let mut bad = plain();
    bad.spec.retry.max_attempts = 0;
    let refusal = node.command(Command::Submit(vec![plain(), bad])).unwrap_err().to_string();
    assert!(refusal.contains("submission 2 of the request"), "{refusal}");
    assert_eq!(node.jobs(), []);
    let Response::Submitted(taken) = node.command(Command::Submit(vec![plain(), plain()])).unwrap() else {
        panic!("not submitted")
    };
    assert_eq!(taken.iter().map(|taken| taken.number.number()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_retried_job_has_its_key_again_and_does_not_take_it_from_one_that_may_run() {
    let mut node = node(2);
    let submission = unique(Span::Incomplete, Conflict::Return);
    let first = node.submit(submission.clone());
    node.ok(first);
    let second = node.submit(submission.clone());
    let refusal = node.refused(first, JobAction::Retry);
    assert!(refusal.contains("job 1 can't be tried again while job 2 holds its unique key"), "{refusal}");
    assert!(repeat(&mut node, &submission, second));
    node.ok(second);
    node.act(first, JobAction::Retry);
    assert!(repeat(&mut node, &submission, first), "it went in the way again");
    assert!(node.refused(second, JobAction::Retry).contains("job 1 holds"));
    node.ok(first);
    assert!(!repeat(&mut node, &submission, first), "and lost it with its end");
}

#[test]
fn a_retried_group_or_task_needs_the_key_of_the_group() {
    let mut node = node(9);
    let submission = unique(Span::Incomplete, Conflict::Return);
    let group = node.submit(Submission { array: Some(array(1)), ..submission.clone() });
    let task = node.task(group, 1);
    node.end(task, crate::desk::failure());
    let second = node.submit(submission.clone());
    for job in [group, task] {
        assert!(node.refused(job, JobAction::Retry).contains("job 2 holds its unique key"));
    }
    node.ok(second);
    node.act(task, JobAction::Retry);
    assert!(repeat(&mut node, &submission, group));
}

#[test]
fn what_was_dropped_with_its_upstream_is_not_revived_beside_another_of_its_key() {
    for is_taken in [false, true] {
        let mut node = node(9);
        let upstream = node.submit(plain());
        let submission = unique(Span::Incomplete, Conflict::Return);
        let first = node.submit(Submission { after: after(&[upstream], None), ..submission.clone() });
        node.end(upstream, crate::desk::failure());
        assert_eq!(node.state(first), JobState::Skipped);
        let second = is_taken.then(|| node.submit(submission.clone()));
        node.act(upstream, JobAction::Retry);
        assert_eq!(node.state(first), if is_taken { JobState::Skipped } else { JobState::Pending });
        assert!(repeat(&mut node, &submission, second.unwrap_or(first)));
    }
}

/// It waited for all tries of a job that failed again and again.
#[test]
fn a_job_between_two_attempts_is_replaced_like_one_that_waits() {
    let mut node = node(9);
    let first = node.submit(Submission {
        spec: JobSpec {
            retry: jobmesh_protocol::retry::Retry { max_attempts: 5, ..plain().spec.retry },
            ..plain().spec
        },
        ..unique(Span::Incomplete, Conflict::Replace)
    });
    node.end(first, crate::desk::failure());
    assert_eq!(node.state(first), JobState::Retryable);
    let second = node.submit(unique(Span::Incomplete, Conflict::Replace));
    assert_eq!(node.fate(first), (JobState::Skipped, Some(FinishReason::Replaced)));
    assert_eq!((node.attempts(first).len(), node.running()), (1, vec![second]));
}

#[test]
fn a_merge_is_told_from_an_answer_by_the_job_that_is_there() {
    let mut node = node(1);
    node.queue("default", jobmesh_engine::QueueAction::Pause);
    node.submit(unique(Span::Incomplete, Conflict::Merge));
    let merged = |node: &mut Node, conflict| node.take(unique(Span::Incomplete, conflict)).unwrap().is_merged;
    assert!(merged(&mut node, Conflict::Merge) && !merged(&mut node, Conflict::Return));
}

/// A dry run answered as if the key were not there.
#[test]
fn a_plan_knows_the_job_of_its_key() {
    let plan = |node: &mut Node, submission: Submission| match node.command(Command::Plan(Box::new(submission))) {
        Ok(Response::Explained(plan)) => Ok((plan.number.map(|number| number.number()), plan.state, plan.summary)),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.to_string()),
    };
    let first = || Submission { start: Start::After(HOUR), ..unique(Span::Incomplete, Conflict::Return) };
    for on_conflict in [
        Conflict::Return,
        Conflict::Reject,
        Conflict::Replace,
        Conflict::Merge,
        Conflict::Debounce(DAY),
        Conflict::Throttle(MINUTE),
    ] {
        for is_running in [false, true] {
            let mut node = node(9);
            let start = if is_running { Start::Now } else { Start::After(HOUR) };
            let holder = node.submit(Submission { start, ..first() });
            let second = || unique(Span::Incomplete, on_conflict);
            let promised = plan(&mut node, second());
            let Ok(taken) = node.take(second()) else {
                assert!(promised.unwrap_err().contains("job 1 has the same unique key"));
                continue;
            };
            let (number, state, summary) = promised.unwrap();
            let case = format!("{on_conflict:?}, running: {is_running}: {summary}");
            assert_eq!(number.is_none(), taken.is_new, "{case}");
            let now = node.job(taken.job);
            // A job that is taken on starts at once if it may.
            let state_then =
                if now.state == JobState::Running && taken.is_new { JobState::Available } else { now.state };
            assert_eq!(state, state_then, "{case}");
            assert_eq!(summary.contains("nothing new would be queued"), !taken.is_new, "{case}");
            assert_eq!(summary.contains("take the place of job 1"), node.state(holder) == JobState::Skipped, "{case}");
        }
    }
}

#[test]
fn a_plan_knows_an_earlier_submission_of_its_name() {
    let mut node = node(1);
    let named = || with(|job| job.idempotency_key = Some("one".to_owned()));
    node.submit(named());
    let Ok(Response::Explained(plan)) = node.command(Command::Plan(Box::new(named()))) else { panic!("no plan") };
    assert_eq!((plan.number.map(|number| number.number()), plan.state), (Some(1), JobState::Running));
    assert!(plan.summary.starts_with("was submitted under the same idempotency key; nothing new"), "{}", plan.summary);
}

/// What each would wait for was taken over by the next one twice, and thirty lines took all memory.
#[test]
fn a_request_of_many_that_merge_is_looked_at_in_small_time() {
    let mut node = node(1);
    let upstream = node.submit(plain());
    let group = node.submit(with(|job| job.open = true));
    let submission = |_| {
        let mut one = unique(Span::Incomplete, Conflict::Merge);
        (one.after, one.into) = (after(&[upstream], None), Some(group));
        one
    };
    let answer = node.command(Command::Submit((0..100).map(submission).collect()));
    let Ok(Response::Submitted(taken)) = answer else { panic!("{answer:?}") };
    assert_eq!(taken.len(), 100);
}
