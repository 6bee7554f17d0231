//! Plans as data: they read back, run the same from a file, shrink, and keep the past failures.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{Bug, Draw, Kept, Plan, PlanError, Report, Watch, run, shrink};

fn plan(seed: u64) -> Plan {
    Draw { faulty: DurationMillis::from_secs(120), ..Draw::new(seed) }.plan()
}

#[test]
fn a_plan_reads_back_and_runs_the_same() {
    for seed in [1, 2, 7] {
        let plan = plan(seed);
        let read = Plan::read(&plan.write().unwrap()).unwrap();
        assert_eq!(Plan { drawn: plan.drawn, ..read.clone() }, plan);
        let run = |plan| Report { databases: String::new(), ..run(plan).unwrap() }.trace;
        assert_eq!(run(&read), run(&plan));
    }
}

#[test]
fn what_is_no_plan_is_refused() {
    assert!(matches!(Plan::read("{}"), Err(PlanError::Json(_))));
    let mut empty = plan(1);
    empty.nodes.clear();
    assert!(matches!(Plan::read(&empty.write().unwrap()), Err(PlanError::Seats)));
    let mut doubled = plan(1);
    doubled.nodes.extend_from_within(0..1);
    assert!(matches!(Plan::read(&doubled.write().unwrap()), Err(PlanError::Seats)));
    let odd = plan(1).write().unwrap().replacen("\"seed\"", "\"unheard_of\": 1, \"seed\"", 1);
    assert!(matches!(Plan::read(&odd), Err(PlanError::Json(_))));
}

/// A fault that is taken out changes nothing before the time at which it would have struck.
#[test]
fn a_fault_can_be_taken_out_without_reshuffling_the_rest() {
    let whole = Plan { tail_lines: 1_000_000, ..plan(5) };
    let last = whole.faults.iter().enumerate().max_by_key(|(_, fault)| fault.at).unwrap();
    let (place, at) = (last.0, last.1.at);
    let mut without = whole.clone();
    without.faults.remove(place);
    // The canary ends both runs with all that happened in their hands.
    let lines = |plan: Plan| run(&Plan { watch: Watch::Canary, ..plan }).unwrap_err().tail;
    let seconds = |line: &String| line.split_whitespace().next().unwrap().parse::<f64>().unwrap();
    let before = |lines: Vec<String>| {
        let limit = std::time::Duration::from_millis(at.0).as_secs_f64();
        lines.into_iter().filter(|line| seconds(line) < limit).collect::<Vec<_>>()
    };
    let (whole, without) = (before(lines(whole)), before(lines(without)));
    assert!(!whole.is_empty());
    assert_eq!(whole, without);
}

#[test]
fn shrinking_keeps_the_failure_and_little_else() {
    let canary = Plan { watch: Watch::Canary, ..plan(9) };
    let shrunk = shrink(&canary, 300).unwrap();
    let small = &shrunk.failure.plan;
    assert_eq!(shrunk.failure.violation.invariant, "canary_no_job_completes");
    assert!(small.nodes.len() <= 2 && small.faults.is_empty() && small.operations.len() == 1, "{small}");
    assert_eq!(run(small).unwrap_err().violation, shrunk.failure.violation);
    assert_eq!(shrink(&plan(9), 300), None, "what holds has nothing to shrink");
}

#[test]
fn past_failures_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs");
    let bugs = Bug::read_all(&folder).unwrap();
    assert!(!bugs.is_empty());
    for (path, bug) in bugs {
        match bug.check() {
            Ok(Kept::Holds | Kept::HoldsAndIsFound | Kept::HoldsUnproved) => {}
            Err(error) => panic!("{}: {error}\n{}", path.display(), bug.story),
        }
    }
}
