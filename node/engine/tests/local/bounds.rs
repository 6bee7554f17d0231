//! Times at their bounds: no sum of them may be more than a column holds, for that would undo everybody's commit.

use jobmesh_engine::{Command, JobAction, Schedule, ScheduleAction};
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing};
use jobmesh_protocol::submission::{Conflict, Span, Start, Unique};
use jobmesh_protocol::time::{DATE_MAX, LENGTH_MAX};
use jobmesh_protocol::{JobState, Submission, UnixMillis};

use crate::desk::{HOUR, SECOND, node, plain, with};

fn unique(key: &str, scope: Span, on_conflict: Conflict) -> Submission {
    let unique = Unique { key: Some(key.to_owned()), by: Vec::new(), scope, on_conflict };
    with(|job| job.unique = Some(unique))
}

/// A job for each time that can be asked for, as far away as it can be.
fn far() -> Vec<Submission> {
    vec![
        with(|job| job.start = Start::After(LENGTH_MAX)),
        with(|job| job.start = Start::At(DATE_MAX)),
        with(|job| (job.start, job.start_within_ms) = (Start::At(DATE_MAX), Some(LENGTH_MAX))),
        with(|job| (job.start_within_ms, job.held) = (Some(LENGTH_MAX), true)),
        with(|job| job.deadline = Some(DATE_MAX)),
        with(|job| job.spec.keep_ms = Some(LENGTH_MAX)),
        with(|job| (job.spec.timeout_ms, job.spec.kill_grace_ms) = (Some(LENGTH_MAX), LENGTH_MAX)),
        with(|job| job.spec.heartbeat_ms = Some(LENGTH_MAX)),
        unique("period", Span::Period(LENGTH_MAX), Conflict::Return),
        unique("debounce", Span::Incomplete, Conflict::Debounce(LENGTH_MAX)),
        unique("throttle", Span::Incomplete, Conflict::Throttle(LENGTH_MAX)),
    ]
}

#[test]
fn times_at_their_bounds_survive_an_end_a_restart_and_a_firing() {
    let mut node = node(9);
    let jobs: Vec<_> = far().into_iter().map(|job| node.submit(job)).collect();
    for job in far() {
        node.take(job).unwrap();
    }
    for (place, submission) in far().into_iter().enumerate() {
        if submission.deadline.is_some() || matches!(submission.start, Start::At(_)) {
            continue;
        }
        let (overlap, catch_up) = (Overlap::Allow, CatchUp::Window(LENGTH_MAX));
        let schedule = Schedule { timing: Timing::new("every 1h"), overlap, catch_up, submission };
        let set = ScheduleAction::Set(Box::new(schedule));
        node.command(Command::Schedule(format!("schedule {place}"), set)).unwrap();
    }
    node.pass(HOUR.plus(HOUR));
    node.finish_all();
    node.restart(HOUR, |_| true);
    let reschedule = JobAction::Reschedule(DATE_MAX);
    node.act(jobs[0], reschedule);
    node.act(jobs[3], JobAction::Release);
    node.finish_all();
    node.restart(HOUR, |_| true);
    node.finish_all();
    assert_eq!(node.states(&jobs[..2]), [JobState::Scheduled; 2]);
    let ended = node.states(&jobs[3..]).into_iter().filter(|state| *state == JobState::Completed).count();
    assert_eq!(ended, 7, "all but the one that is put off");
}

#[test]
fn what_is_beyond_a_bound_is_refused_and_nobody_else_is() {
    let mut node = node(9);
    let beyond = UnixMillis(DATE_MAX.0 + 1);
    let job = node.submit(with(|job| job.start = Start::After(HOUR)));
    let refusal = node.refused(job, JobAction::Reschedule(beyond));
    assert!(refusal.contains("the year 9999"), "{refusal}");
    let refusal = node.take(with(|job| job.deadline = Some(UnixMillis(u64::MAX)))).unwrap_err().to_string();
    assert!(refusal.contains("the deadline is after the year 9999"), "{refusal}");
    node.pass(SECOND);
    let other = node.submit(plain());
    assert_eq!(node.running(), [other]);
}
