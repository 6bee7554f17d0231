//! What waits for what, also when one of the two is gone.

use jobmesh_protocol::JobState;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::Condition;
use jobmesh_store::Edge;

use crate::samples::{end, insert_job, memory, number, start};

fn edge(upstream: u32, job: u32, condition: Option<Condition>) -> Edge {
    Edge { upstream: number(upstream), job: number(job), condition, is_met: false, is_of_key: false }
}

#[test]
fn a_job_waits_for_many_and_many_wait_for_one() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=4).for_each(|at| drop(insert_job(&txn, at)));
    let [first, second, third] =
        [edge(1, 4, None), edge(2, 4, Some(Condition::Failed)), edge(1, 3, Some(Condition::Ok))];
    for edge in [second, first, third] {
        txn.insert_edge(&edge).unwrap();
    }
    let live = Some(JobState::Available);
    assert_eq!(txn.view().dependencies(number(4)).unwrap(), [(first, live), (second, live)]);
    assert_eq!(txn.view().dependants(number(1)).unwrap(), [third, first]);
    assert_eq!(txn.view().dependants(number(4)).unwrap(), []);
    assert_eq!(txn.view().dependencies(number(1)).unwrap(), []);
}

#[test]
fn what_has_not_ended_is_awaited_by_what_was_dropped_as_well() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=5).for_each(|at| drop(insert_job(&txn, at)));
    for (upstream, job) in [(2, 4), (1, 4), (1, 5), (3, 5)] {
        txn.insert_edge(&edge(upstream, job, None)).unwrap();
    }
    assert_eq!(txn.view().awaited().unwrap(), [1, 2, 3].map(number));
    for (job, state, reason) in
        [(5, JobState::Skipped, FinishReason::UpstreamFailed), (2, JobState::Completed, FinishReason::Ok)]
    {
        assert!(txn.move_job(&start(number(job))).unwrap());
        assert!(txn.move_job(&end(number(job), state, reason)).unwrap());
    }
    assert_eq!(txn.view().awaited().unwrap(), [1, 3].map(number));
}

#[test]
fn every_condition_reads_back() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for (at, condition) in (1..).zip(Condition::ALL) {
        insert_job(&txn, at);
        let edge = edge(at, 9, Some(*condition));
        txn.insert_edge(&edge).unwrap();
        assert_eq!(txn.view().dependants(number(at)).unwrap(), [edge]);
    }
}

#[test]
fn an_edge_is_drawn_once_and_met_or_not() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let first = edge(1, 2, Some(Condition::Done));
    txn.insert_edge(&first).unwrap();
    txn.set_met(&first, true).unwrap();
    txn.insert_edge(&edge(1, 2, None)).unwrap();
    let met = Edge { is_met: true, ..first };
    assert_eq!(txn.view().dependants(number(1)).unwrap(), [met], "a second time changes nothing");
    txn.set_met(&met, false).unwrap();
    assert_eq!(txn.view().dependants(number(1)).unwrap(), [first]);
}

/// Retention may take a job away long before what waited for it is done: that it was waited for is still known.
#[test]
fn what_is_waited_for_may_be_deleted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=3).for_each(|at| drop(insert_job(&txn, at)));
    let edges = [edge(1, 2, None), edge(2, 3, None)];
    for edge in edges {
        txn.insert_edge(&edge).unwrap();
    }
    for at in [1, 2].map(number) {
        assert!(txn.move_job(&start(at)).unwrap());
        assert!(txn.move_job(&end(at, JobState::Completed, FinishReason::Ok)).unwrap());
    }
    let [first, second] = edges;
    txn.set_met(&first, true).unwrap();
    assert!(txn.delete_job(number(1)).unwrap());
    assert_eq!(txn.view().dependencies(number(2)).unwrap(), [(Edge { is_met: true, ..first }, None)]);
    assert!(txn.delete_job(number(2)).unwrap());
    assert_eq!(txn.view().dependants(number(1)).unwrap(), [], "what a job waited for goes with it");
    assert_eq!(txn.view().dependencies(number(3)).unwrap(), [(second, None)]);
}
