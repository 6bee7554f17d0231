//! Stories that people fear, each told once from beginning to end: what happens to the jobs of a mesh when a partition
//! heals after both sides ran them, when a laptop sleeps through its lease, when an executor lies, when an origin is gone.
//!
//! The plans are written by hand and every invariant is watched. Who wins an auction is the draw of a seed, so a story is
//! told with several, and the tests say what must be true of each and what of all together.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_simulations::{
    Act, Ending, Fault, FaultKind, LinkFault, NodeFault, NodePlan, Operation, Plan, Report, RunFault, Shape, What,
    Work, Writes, run,
};

/// Every story is told so often.
const SEEDS: std::ops::Range<u64> = 1..7;
/// The tool that node 1 and node 2 have, and node 0 has not.
const SHARED: &str = "shared";
/// When the jobs are submitted: the nodes know each other by then.
const SUBMITTED_AT: DurationMillis = DurationMillis::from_secs(10);

const fn secs(secs: u64) -> DurationMillis {
    DurationMillis::from_secs(secs)
}

/// Three nodes that know each other; node 0 lacks the tool that its jobs need.
fn mesh(faulty: DurationMillis) -> Plan {
    let node = |seat| NodePlan { seat, slots: 3, is_shared: seat > 0, skew_ms: 0, drift_ppm: 0 };
    Plan {
        seed: 0,
        faulty,
        idle: secs(60),
        nodes: vec![node(0), node(1), node(2)],
        homes: vec![(0, 1), (0, 2), (1, 2)],
        tail_lines: 60,
        ..Plan::calm()
    }
}

/// A job of node 0 that takes so long and needs a tool.
fn work(takes: DurationMillis, tool: &str) -> Work {
    Work {
        home: 0,
        takes,
        ending: Ending::OkAfter(0),
        writes: Writes::Little,
        has_input: false,
        scope: Scope::Hybrid,
        effects: Effects::Idempotent,
        tool: Some(tool.to_owned()),
        attempts_max: 3,
        timeout: None,
        after: Vec::new(),
    }
}

/// Has so many such jobs submitted.
fn with_jobs(mut plan: Plan, jobs: usize, work: &Work) -> Plan {
    for _ in 0..jobs {
        let job = plan.works.len();
        plan.works.insert(job, work.clone());
        plan.operations.push(Operation { at: SUBMITTED_AT, act: Act::Submit, job });
    }
    plan
}

fn with_fault(mut plan: Plan, at: DurationMillis, length: DurationMillis, what: What) -> Plan {
    let number = u32::try_from(plan.faults.len()).unwrap();
    plan.faults.push(Fault { number, at, length, what });
    plan
}

/// Tells a story with every seed.
fn told(plan: &Plan) -> Vec<Report> {
    let tell = |seed| run(&Plan { seed, ..plan.clone() }).unwrap_or_else(|failure| panic!("{failure}"));
    SEEDS.map(tell).collect()
}

fn mark(report: &Report, mark: &str) -> u64 {
    report.marks.get(mark).copied().unwrap_or(0)
}

fn attempts(report: &Report, state: &str) -> u64 {
    report.attempts.get(state).copied().unwrap_or(0)
}

fn completed(report: &Report) -> u64 {
    report.states.get("completed").copied().unwrap_or(0)
}

/// Nodes 0 and 2 on one side and node 1 on the other, from 5 s after the submission on.
fn parted(length: DurationMillis, effects: Effects) -> Vec<Report> {
    let ways = vec![(0, 1), (1, 0), (2, 1), (1, 2)];
    let cut = What::Links(LinkFault::Cut { shape: Shape::Groups, ways });
    let plan = with_jobs(mesh(secs(240)), 4, &Work { effects, ..work(secs(25), SHARED) });
    told(&with_fault(plan, SUBMITTED_AT.plus(secs(5)), length, cut))
}

/// The executor beyond the partition is done while the origin's side has begun anew: its result comes first and counts,
/// and the second run is stopped.
#[test]
fn a_partition_heals_while_the_second_run_goes_on_and_the_first_result_counts() {
    let reports = parted(secs(50), Effects::Idempotent);
    for report in &reports {
        assert_eq!(completed(report), 4, "{report}");
        assert_eq!(mark(report, "verdict accepted"), 4, "{report}");
    }
    let late: u64 = reports.iter().map(|report| mark(report, "cause late")).sum();
    let stopped: u64 = reports.iter().map(|report| attempts(report, "cancelled")).sum();
    assert!(late > 0 && stopped > 0, "{late} results came late and {stopped} second runs were stopped");
}

/// Both sides ran the jobs to their ends before the partition healed: the origin's side was first, and what the other
/// side did is kept as evidence and changes nothing.
#[test]
fn a_partition_heals_after_both_sides_ran_and_each_job_has_one_result() {
    let reports = parted(secs(120), Effects::Idempotent);
    for report in &reports {
        assert_eq!(completed(report), 4, "{report}");
        assert_eq!((mark(report, "cause late"), mark(report, "verdict accepted")), (0, 4), "{report}");
        assert_eq!(mark(report, "verdict superseded"), attempts(report, "lost"), "{report}");
    }
    assert!(reports.iter().any(|report| attempts(report, "lost") > 0), "no job was beyond the partition");
}

/// What must run once is not begun anew: nobody on this side of the partition knows how far it came.
#[test]
fn a_partition_ends_what_must_not_run_twice_and_nothing_runs_twice() {
    let reports = parted(secs(120), Effects::Once);
    for report in &reports {
        assert_eq!(report.runs, 4, "{report}");
        assert_eq!(completed(report) + attempts(report, "lost"), 4, "{report}");
    }
    assert!(reports.iter().any(|report| attempts(report, "lost") > 0), "no job was beyond the partition");
}

/// An executor signs receipts for outputs that nobody wrote. They are never taken: the bytes that come do not have the
/// hash, so the attempt is lost and the job runs again, elsewhere if it can.
#[test]
fn an_executor_that_lies_about_its_result_is_not_believed() {
    for writes in [Writes::Little, Writes::Much] {
        let plan = with_jobs(mesh(secs(300)), 3, &Work { writes, ..work(secs(2), SHARED) });
        let lie = What::Runs(RunFault::Lie { per_mille: 1000 });
        for report in told(&with_fault(plan, secs(0), secs(60), lie)) {
            assert_eq!(completed(&report), 3, "{report}");
            assert!(report.faults.get(&FaultKind::Lie).is_some_and(|lies| *lies >= 3), "{report}");
            assert_eq!(mark(&report, "verdict accepted"), 3, "one for each job, and none for a lie: {report}");
            assert!(attempts(&report, "lost") >= 3, "{report}");
        }
    }
}

/// The origin dies for good while its jobs run elsewhere. Those who run them stop when the lease ends, have their room
/// back, and go on with their own work.
#[test]
fn an_origin_that_is_gone_for_good_leaves_nothing_running() {
    let mut plan = with_jobs(mesh(secs(240)), 4, &Work { takes: secs(500), ..work(secs(0), SHARED) });
    plan.core = Some(vec![1, 2]);
    let crash = NodeFault::Crash { leaves_orphans: false };
    plan = with_fault(plan, secs(20), secs(1_000), What::Node { seat: 0, fault: crash });
    for seat in [1, 2] {
        for _ in 0..3 {
            let job = plan.works.len();
            plan.works.insert(job, Work { home: seat, scope: Scope::Local, ..work(secs(5), SHARED) });
            plan.operations.push(Operation { at: secs(100), act: Act::Submit, job });
        }
    }
    for report in told(&plan) {
        // Of those that heal; what the origin knew went with it.
        assert_eq!(report.states, BTreeMap::from([("completed", 6)]), "{report}");
        assert_eq!(report.runs, 10, "{report}");
        assert!(mark(&report, "count lease_ended") > 0, "{report}");
    }
}

/// Eight hours asleep, from 5 s after the submission on.
fn asleep(seat: usize, effects: Effects) -> Vec<Report> {
    let plan = with_jobs(mesh(secs(9 * 3600)), 4, &Work { effects, ..work(secs(60), SHARED) });
    let sleep = What::Node { seat, fault: NodeFault::Sleep };
    told(&with_fault(plan, SUBMITTED_AT.plus(secs(5)), secs(8 * 3600), sleep))
}

/// A laptop that runs jobs of others sleeps for eight hours: they run elsewhere meanwhile, and when it wakes up, it stops
/// what it had begun and nothing that it says is accepted a second time.
#[test]
fn an_executor_that_sleeps_for_eight_hours_is_replaced_and_stops_when_it_wakes_up() {
    let reports = asleep(1, Effects::Idempotent);
    for report in &reports {
        assert_eq!((completed(report), mark(report, "verdict accepted")), (4, 4), "{report}");
        assert_eq!(mark(report, "cause late"), 0, "{report}");
        assert_eq!(report.runs as u64, 4 + attempts(report, "lost"), "{report}");
    }
    assert!(reports.iter().any(|report| attempts(report, "lost") > 0), "none of its jobs was lost");
}

/// The same with jobs that must not run twice: they end as lost, and nobody runs them again.
#[test]
fn what_must_not_run_twice_ends_when_its_executor_sleeps_for_eight_hours() {
    let reports = asleep(1, Effects::Once);
    for report in &reports {
        assert_eq!(report.runs, 4, "{report}");
        assert_eq!(completed(report) + attempts(report, "lost"), 4, "{report}");
    }
    assert!(reports.iter().any(|report| attempts(report, "lost") > 0), "none of its jobs was lost");
}

/// The laptop that asked sleeps for eight hours. Its jobs may run twice, so those who run them go on without it; it gives
/// them up when it wakes up, hears a moment later that they were done, and stops what it has begun anew.
#[test]
fn an_origin_that_sleeps_for_eight_hours_gets_its_results_when_it_wakes_up() {
    for report in asleep(0, Effects::Idempotent) {
        assert_eq!((completed(&report), mark(&report, "verdict accepted")), (4, 4), "{report}");
        assert_eq!((mark(&report, "cause lost"), mark(&report, "cause late")), (4, 4), "{report}");
        assert!(report.runs as u64 <= 4 + attempts(&report, "cancelled"), "{report}");
    }
}

/// The same with jobs that must not run twice: those who run them stop with the lease, and nobody runs them again.
#[test]
fn what_must_not_run_twice_ends_when_its_origin_sleeps_for_eight_hours() {
    for report in asleep(0, Effects::Once) {
        assert_eq!((report.runs, completed(&report), attempts(&report, "lost")), (4, 0, 4), "{report}");
        assert_eq!(mark(&report, "count lease_ended"), 4, "{report}");
    }
}

/// The origin's files are put back to what they were before its jobs ran elsewhere. Its peers know more of it than it does,
/// so it takes no number and no epoch that they know a second time, and what must not run twice waits until a person releases it.
#[test]
fn an_origin_that_is_set_back_to_an_old_backup_repeats_no_number_and_asks_before_it_repeats_work() {
    for effects in [Effects::Idempotent, Effects::Once] {
        let plan = with_jobs(mesh(secs(240)), 4, &Work { effects, ..work(secs(25), SHARED) });
        let back = What::Node { seat: 0, fault: NodeFault::OldBackup };
        for report in told(&with_fault(plan, SUBMITTED_AT.plus(DurationMillis(20)), secs(60), back)) {
            assert_eq!(report.states.values().sum::<u64>(), 4, "no job is lost: {report}");
            assert!(mark(&report, "count older_than_words") > 0, "{report}");
            let held = mark(&report, "count held_after_rollback");
            assert_eq!(held > 0, effects == Effects::Once, "{report}");
            if effects == Effects::Idempotent {
                assert_eq!(completed(&report), 4, "{report}");
            }
        }
    }
}

/// Two databases take turns under one key. Each hears from its peers that another one has spoken, and goes on as one of its
/// own; the jobs that both know come to their ends.
#[test]
fn two_databases_under_one_key_are_told_apart_and_lose_no_job() {
    let plan = with_jobs(mesh(secs(240)), 4, &work(secs(25), SHARED));
    let clone = What::Node { seat: 0, fault: NodeFault::Clone { turn_ms: 20_000 } };
    for report in told(&with_fault(plan, SUBMITTED_AT.plus(secs(1)), secs(150), clone)) {
        assert_eq!(completed(&report), 4, "{report}");
        assert!(mark(&report, "count older_than_words") > 0, "{report}");
        assert!(mark(&report, "count new_incarnation") > 1, "each goes on as a database of its own: {report}");
    }
}
