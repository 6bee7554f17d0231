//! Schedules: which instants fire, and what becomes of one that meets the job of another.

use jobmesh_engine::{
    Command, Declared, Input, JobAction, QueueAction, QueueLimits, Refusal, Response, Schedule, ScheduleAction,
};
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Conflict, Span, Start, Unique};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{DurationMillis, JobId, JobState, Outcome, UnixMillis, cbor};
use jobmesh_store::ScheduleRow;

use crate::desk::{HOUR, MINUTE, SECOND, YEAR, node, plain, with};
use crate::node::{Fate, Node, START, Setup};

fn hourly(overlap: Overlap, catch_up: CatchUp) -> Schedule {
    Schedule { timing: Timing::new("every 1h"), overlap, catch_up, submission: plain() }
}

fn act(node: &mut Node, action: ScheduleAction) -> Response {
    node.command(Command::Schedule("tidy".to_owned(), action)).unwrap()
}

fn set(node: &mut Node, schedule: Schedule) {
    assert!(matches!(act(node, ScheduleAction::Set(Box::new(schedule))), Response::Done));
}

/// A node with an hourly schedule, made at the start of time.
fn scheduled(overlap: Overlap, catch_up: CatchUp) -> Node {
    let mut node = node(9);
    set(&mut node, hourly(overlap, catch_up));
    node
}

/// The instants that fired, in hours after the start, by the order of their jobs.
fn instants(node: &mut Node) -> Vec<u64> {
    let jobs = node.jobs();
    jobs.iter().filter_map(|job| job.fire.as_ref()).map(|(_, at)| at.since(START).0 / HOUR.0).collect()
}

fn fired(node: &mut Node) -> Vec<JobId> {
    node.jobs().iter().filter(|job| job.fire.is_some()).map(|job| job.id).collect()
}

#[test]
fn an_instant_is_let_pass_while_the_last_job_runs() {
    let mut node = scheduled(Overlap::Skip, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR));
    assert_eq!(instants(&mut node), [1]);
    node.finish_all();
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [1, 3]);
}

#[test]
fn one_instant_is_kept_waiting() {
    let mut node = scheduled(Overlap::BufferOne, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR).plus(HOUR));
    assert_eq!(instants(&mut node), [1, 2]);
    let jobs = fired(&mut node);
    assert_eq!(node.states(&jobs), [JobState::Running, JobState::Pending]);
    node.ok(jobs[0]);
    assert_eq!(node.state(jobs[1]), JobState::Running);
}

#[test]
fn every_instant_is_kept_waiting_and_a_failure_holds_nobody_up() {
    let mut node = scheduled(Overlap::BufferAll, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR).plus(HOUR));
    let jobs = fired(&mut node);
    assert_eq!(node.states(&jobs), [JobState::Running, JobState::Pending, JobState::Pending]);
    node.end(jobs[0], crate::desk::failure());
    assert_eq!(node.states(&jobs[1..]), [JobState::Running, JobState::Pending]);
}

#[test]
fn the_job_before_is_replaced_and_the_new_one_waits_for_its_end() {
    let mut node = scheduled(Overlap::CancelOther, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR));
    let jobs = fired(&mut node);
    assert_eq!(node.executor.stops.len(), 1);
    assert_eq!(node.states(&jobs), [JobState::Running, JobState::Pending]);
    node.end(jobs[0], Outcome::Cancelled);
    assert_eq!(node.fate(jobs[0]), (JobState::Skipped, Some(FinishReason::Replaced)), "no person cancelled it");
    assert_eq!(node.job(jobs[0]).cancel_reason.as_deref(), Some("the next instant of its schedule came"));
    assert_eq!(node.running(), [jobs[1]]);
}

#[test]
fn an_array_of_the_instant_before_is_stopped_task_by_task() {
    let mut node = node(2);
    let submission = with(|job| job.array = Some(crate::desk::array(4)));
    set(&mut node, Schedule { submission, ..hourly(Overlap::CancelOther, CatchUp::Latest) });
    node.pass(HOUR.plus(HOUR));
    let jobs = fired(&mut node);
    let tasks = node.running();
    assert_eq!((node.executor.stops.len(), tasks.len()), (2, 2));
    node.restart(SECOND, |_| true);
    for task in &tasks {
        node.end(*task, Outcome::Cancelled);
        assert_eq!(node.fate(*task), (JobState::Skipped, Some(FinishReason::Replaced)));
    }
    assert_eq!(node.fate(jobs[0]), (JobState::Skipped, Some(FinishReason::Replaced)));
    assert_eq!(node.state(jobs[1]), JobState::Running);
}

#[test]
fn what_can_be_meant_for_one_instant_only_is_refused_by_name() {
    let mut node = node(1);
    let other = node.submit(plain());
    let group = node.submit(with(|job| job.open = true));
    for (submission, word) in [
        (with(|job| job.idempotency_key = Some("order 7".to_owned())), "idempotency key"),
        (with(|job| job.deadline = Some(START.plus(HOUR))), "deadline"),
        (with(|job| job.start = Start::At(START.plus(HOUR))), "start at one date"),
        (with(|job| job.into = Some(group)), "open group"),
        (with(|job| job.after = crate::desk::after(&[other], None)), "`after`"),
    ] {
        let action = ScheduleAction::Set(Box::new(Schedule { submission, ..hourly(Overlap::Skip, CatchUp::None) }));
        let refusal = node.command(Command::Schedule("tidy".to_owned(), action)).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
    let submission = with(|job| job.start = Start::After(MINUTE));
    set(&mut node, Schedule { submission, ..hourly(Overlap::Skip, CatchUp::None) });
}

#[test]
fn jobs_may_run_beside_each_other() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR).plus(HOUR));
    assert_eq!(node.running().len(), 3);
}

#[test]
fn what_was_missed_is_made_up_for_as_the_policy_says() {
    let half_past_five = DurationMillis(HOUR.0 * 5 + HOUR.0 / 2);
    for (policy, expected) in
        [(CatchUp::None, vec![]), (CatchUp::Latest, vec![5]), (CatchUp::Window(HOUR.plus(HOUR)), vec![4, 5])]
    {
        let mut node = scheduled(Overlap::Allow, policy);
        node.restart(half_past_five, |_| false);
        assert_eq!(instants(&mut node), expected, "{policy} after a restart");
        node.pass(HOUR);
        assert_eq!(instants(&mut node).last(), Some(&6), "and then it goes on");
    }
}

#[test]
fn a_clock_that_is_set_forward_by_a_year_counts_as_a_year_of_sleep() {
    for (policy, count) in [(CatchUp::None, 0), (CatchUp::Latest, 1), (CatchUp::Window(HOUR.plus(HOUR)), 2)] {
        let mut node = scheduled(Overlap::Allow, policy);
        node.set_clock(START.plus(YEAR).plus(HOUR).plus(MINUTE).plus(MINUTE));
        assert_eq!(fired(&mut node).len(), count, "{policy}");
        node.pass(HOUR);
        assert_eq!(fired(&mut node).len(), count + 1);
    }
}

#[test]
fn a_clock_that_is_set_back_by_a_year_fires_nothing_twice_and_goes_on() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.pass(HOUR);
    node.set_clock(UnixMillis(START.0 - YEAR.0));
    assert_eq!(fired(&mut node).len(), 1);
    node.pass(HOUR.plus(HOUR));
    let after_it = fired(&mut node).len();
    assert!(after_it <= 3, "no storm");
    node.set_clock(START.plus(HOUR));
    node.pass(MINUTE);
    let again: Vec<u64> = instants(&mut node).into_iter().filter(|hour| *hour == 1).collect();
    assert!(again.len() <= 1, "an instant fires once");
    node.pass(HOUR);
    assert!(fired(&mut node).len() > after_it);
}

#[test]
fn an_instant_fires_once_wherever_the_daemon_or_the_commit_fails() {
    for point in 0..6 {
        let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
        let before = DurationMillis(HOUR.0 - 1);
        node.pass(before);
        node.now.mono = node.now.mono.plus(DurationMillis(1));
        node.now.wall = node.now.wall.plus(DurationMillis(1));
        match point {
            0 => node.restart(DurationMillis(0), |_| true),
            1 => node.step(&[Input::Tick], Fate::Undone),
            2 => node.step(&[Input::Tick], Fate::Unknown),
            3 => {
                node.step(&[Input::Tick], Fate::Kept);
                node.restart(DurationMillis(0), |_| true);
            }
            4 => {
                node.step(&[Input::Tick], Fate::Unknown);
                node.restart(SECOND, |_| false);
            }
            _ => {
                node.set_clock(START.plus(HOUR));
                node.set_clock(UnixMillis(START.0 + HOUR.0 - 5000));
            }
        }
        node.settle();
        node.pass(MINUTE);
        assert_eq!(instants(&mut node), [1], "point {point}");
        node.pass(HOUR);
        assert_eq!(instants(&mut node), [1, 2], "point {point}");
    }
}

#[test]
fn a_paused_schedule_misses_nothing() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Window(YEAR));
    act(&mut node, ScheduleAction::Pause);
    assert!(matches!(act(&mut node, ScheduleAction::Pause), Response::Unchanged));
    node.restart(HOUR.plus(HOUR), |_| false);
    node.pass(HOUR);
    act(&mut node, ScheduleAction::Resume);
    node.pass(SECOND);
    assert_eq!(instants(&mut node), []);
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [4]);
}

#[test]
fn a_trigger_is_beside_the_instants() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    assert!(matches!(act(&mut node, ScheduleAction::Trigger), Response::Submitted(_)));
    node.pass(HOUR);
    assert_eq!(node.running().len(), 2);
    assert_eq!(instants(&mut node), [0, 1]);
}

#[test]
fn a_backfill_done_twice_changes_nothing() {
    let mut node = scheduled(Overlap::BufferAll, CatchUp::Latest);
    node.pass(HOUR);
    act(&mut node, ScheduleAction::Pause);
    node.pass(DurationMillis(HOUR.0 * 3));
    let fill = || ScheduleAction::Backfill { from: START, to: START.plus(DurationMillis(HOUR.0 * 4)) };
    let count = |response| match response {
        Response::Submitted(taken) => taken.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(act(&mut node, fill())), 3, "one had fired");
    assert_eq!(count(act(&mut node, fill())), 0);
    act(&mut node, ScheduleAction::Resume);
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [1, 2, 3, 4, 5], "what was filled in does not fire again");
}

#[test]
fn a_jittered_job_starts_within_its_jitter_and_the_same_after_a_restart() {
    let mut node = node(9);
    let jitter = DurationMillis(HOUR.0 / 2);
    let timing = Timing { jitter_ms: jitter, ..Timing::new("every 1h") };
    set(&mut node, Schedule { timing, ..hourly(Overlap::Allow, CatchUp::Latest) });
    node.pass(HOUR);
    node.restart(DurationMillis(0), |_| false);
    let job = fired(&mut node)[0];
    let run_at = node.job(job).run_at.unwrap_or(START.plus(HOUR));
    assert!(run_at.since(START.plus(HOUR)) < jitter);
    node.pass(jitter);
    assert_eq!(node.state(job), JobState::Running);
}

#[test]
fn a_schedule_that_can_never_fire_is_refused() {
    let mut node = node(1);
    for text in ["0 0 30 2 *", "every 0s", "nonsense"] {
        let schedule = Schedule { timing: Timing::new(text), ..hourly(Overlap::Skip, CatchUp::None) };
        let command = Command::Schedule("tidy".to_owned(), ScheduleAction::Set(Box::new(schedule)));
        assert!(node.command(command).is_err(), "{text}");
    }
    assert!(node.command(Command::Schedule("tidy".to_owned(), ScheduleAction::Trigger)).is_err());
}

#[test]
fn a_schedule_that_is_removed_leaves_its_jobs() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.pass(HOUR);
    act(&mut node, ScheduleAction::Remove);
    node.restart(HOUR, |_| true);
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [1]);
    assert_eq!(node.running().len(), 1);
}

#[test]
fn a_changed_job_keeps_the_place_of_its_schedule_and_changed_times_begin_anew() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.pass(MINUTE);
    let submission = with(|job| job.spec.priority = 7);
    set(&mut node, Schedule { submission, ..hourly(Overlap::Allow, CatchUp::Latest) });
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [1]);
    let timing = Timing::new("every 2h");
    set(&mut node, Schedule { timing, ..hourly(Overlap::Allow, CatchUp::Latest) });
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [1]);
    node.pass(HOUR);
    assert_eq!(fired(&mut node).len(), 2);
}

/// A reload that was refused had changed the queues, and the schedules up to the one that is wrong.
#[test]
fn a_configuration_with_one_wrong_part_changes_nothing() {
    let schedule = |timing: &str| Schedule { timing: Timing::new(timing), ..hourly(Overlap::Allow, CatchUp::Latest) };
    let limits = |concurrency| QueueLimits { concurrency: Some(Some(concurrency)), rate: None };
    let declared = |schedules: &[(&str, &str)], concurrency| Declared {
        schedules: schedules.iter().map(|(name, timing)| ((*name).to_owned(), schedule(timing))).collect(),
        queues: [("default".to_owned(), limits(concurrency))].into(),
        ..Declared::default()
    };
    let mut node = node(9);
    let configure = |node: &mut Node, declared| node.command(Command::Configure(Box::new(declared)));
    configure(&mut node, declared(&[("kept", "every 1h")], 1)).unwrap();
    let removed = node.command(Command::Schedule("kept".to_owned(), ScheduleAction::Remove));
    assert_eq!(removed.unwrap_err(), Refusal::DeclaredSchedule("kept".to_owned()), "it would come back");
    for wrong in [declared(&[("a", "every 1h"), ("b", "every 61 o'clock")], 2), declared(&[("a", "every 1h")], 0)] {
        configure(&mut node, wrong).unwrap_err();
        let names: Vec<String> = node.read().view().schedules().unwrap().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["kept"]);
        let jobs = [node.submit(plain()), node.submit(plain())];
        assert_eq!(node.states(&jobs), [JobState::Running, JobState::Available], "the queue still runs one at a time");
        node.finish_all();
        node.finish_all();
    }
    configure(&mut node, declared(&[("a", "every 1h")], 2)).unwrap();
    let names: Vec<String> = node.read().view().schedules().unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["a"]);
}

/// The schedule was refused because of a job that had nothing to do with its instants.
#[test]
fn a_unique_key_is_claimed_by_each_instant_and_not_by_the_schedule() {
    let mut node = node(9);
    let unique =
        Unique { key: Some("k".to_owned()), by: Vec::new(), scope: Span::Incomplete, on_conflict: Conflict::Reject };
    let submission = with(|job| job.unique = Some(unique));
    let first = node.submit(submission.clone());
    set(&mut node, Schedule { submission, ..hourly(Overlap::Allow, CatchUp::Latest) });
    let trigger = |node: &mut Node| node.command(Command::Schedule("tidy".to_owned(), ScheduleAction::Trigger));
    assert!(trigger(&mut node).unwrap_err().to_string().contains("job 1 has the same unique key"));
    node.pass(HOUR);
    assert_eq!(instants(&mut node), []);
    node.ok(first);
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [2]);
}

#[test]
fn a_job_is_told_its_schedule_and_instant() {
    let mut node = node(9);
    let submission = with(|job| job.array = Some(crate::desk::array(2)));
    set(&mut node, Schedule { submission, ..hourly(Overlap::Allow, CatchUp::Latest) });
    node.pass(HOUR);
    let told: Vec<_> = node
        .jobs()
        .iter()
        .map(|job| job.spec.task.environment().cloned().unwrap_or_default().into_iter().collect::<Vec<_>>())
        .collect();
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let expected =
        [variable("JOBMESH_INSTANT", START.plus(HOUR).to_rfc3339()), variable("JOBMESH_SCHEDULE", "tidy".to_owned())];
    assert_eq!(told, [expected.to_vec(), expected.to_vec(), expected.to_vec()], "the array and its tasks");
}

/// An instant fired again once its job was deleted.
#[test]
fn an_instant_whose_job_is_deleted_has_fired_all_the_same() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.pass(HOUR.plus(HOUR));
    node.finish_all();
    let last = node.submit(plain());
    let jobs = fired(&mut node);
    node.act(jobs[0], JobAction::Remove);
    let now = Some(node.now.wall.plus(SECOND));
    node.command(Command::Prune { limit: 9, ended_before: now }).unwrap();
    assert_eq!(node.jobs().iter().map(|job| job.id).collect::<Vec<_>>(), [last]);
    node.restart(SECOND, |_| true);
    let fill = ScheduleAction::Backfill { from: START, to: START.plus(HOUR).plus(HOUR) };
    assert!(matches!(act(&mut node, fill), Response::Submitted(taken) if taken.is_empty()));
}

/// The instants came and went without a word, or a job was put into the queue by hand.
#[test]
fn a_draining_queue_lets_the_instants_of_its_schedules_pass_and_says_so() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    node.queue("default", QueueAction::Drain);
    node.pass(HOUR.plus(MINUTE));
    assert_eq!(fired(&mut node), []);
    let passed = passed(&mut node).unwrap();
    assert_eq!(passed.0, START.plus(HOUR));
    assert!(passed.1.contains("draining"), "{}", passed.1);
    for action in [ScheduleAction::Trigger, ScheduleAction::Backfill { from: START, to: START.plus(HOUR) }] {
        let refusal = node.command(Command::Schedule("tidy".to_owned(), action)).unwrap_err();
        assert_eq!(refusal, Refusal::QueueDraining("default".to_owned()));
    }
    node.queue("default", QueueAction::Resume);
    node.pass(HOUR);
    assert_eq!(instants(&mut node), [2]);
}

fn passed(node: &mut Node) -> Option<(UnixMillis, String)> {
    node.read().view().schedule("tidy").unwrap().unwrap().passed
}

/// The daemon died at the first instant, and again at every start.
#[test]
fn a_schedule_whose_job_can_not_be_submitted_any_more_keeps_nobody_from_starting() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    let mut schedule = hourly(Overlap::Allow, CatchUp::Latest);
    schedule.submission.start = Start::After(DurationMillis(u64::MAX));
    let txn = node.read();
    let row = txn.view().schedule("tidy").unwrap().unwrap();
    txn.put_schedule(&ScheduleRow { body: cbor::encode(&schedule), ..row }).unwrap();
    drop(txn.commit().unwrap());
    node.restart(HOUR, |_| true);
    node.pass(HOUR);
    assert_eq!(fired(&mut node), []);
    let passed = passed(&mut node).unwrap();
    assert_eq!(
        passed,
        (START.plus(HOUR).plus(HOUR), "the job is refused: the delay is longer than 100 years".to_owned())
    );
}

#[test]
fn a_backfill_reaches_up_to_now() {
    let mut node = scheduled(Overlap::Allow, CatchUp::Latest);
    let action = ScheduleAction::Backfill { from: START, to: START.plus(MINUTE) };
    let refusal = node.command(Command::Schedule("tidy".to_owned(), action)).unwrap_err();
    assert_eq!(refusal, Refusal::InstantsToCome { now: START });
}

/// One made by hand took the place of the one of the configuration, and none was left when that was removed.
#[test]
fn a_declared_schedule_is_not_made_by_hand() {
    let schedules = [("tidy".to_owned(), hourly(Overlap::Skip, CatchUp::Latest))].into();
    let declared = Declared { schedules, ..Declared::default() };
    let mut node = Node::new(Setup { declared, ..Setup::default() });
    for action in [ScheduleAction::Set(Box::new(hourly(Overlap::Allow, CatchUp::None))), ScheduleAction::Remove] {
        let refusal = node.command(Command::Schedule("tidy".to_owned(), action)).unwrap_err();
        assert_eq!(refusal, Refusal::DeclaredSchedule("tidy".to_owned()));
    }
}

#[test]
fn a_group_is_not_opened_again_and_again() {
    let mut node = node(1);
    let mut schedule = hourly(Overlap::Allow, CatchUp::None);
    schedule.submission.open = true;
    let action = ScheduleAction::Set(Box::new(schedule));
    let refusal = node.command(Command::Schedule("tidy".to_owned(), action)).unwrap_err().to_string();
    assert!(refusal.contains("never be closed"), "{refusal}");
}
