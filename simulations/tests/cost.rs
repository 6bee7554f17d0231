//! What a job costs on the wire, held to its limits.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_simulations::{AUCTIONED_MAX, Cost, LEASED_MAX, auctioned, leased};

fn assert_within(cost: &Cost, (messages, bytes): (f64, f64)) {
    assert!(cost.messages <= messages && cost.bytes <= bytes, "{cost:?}");
}

#[test]
fn an_auctioned_job_costs_no_more_than_it_may() {
    assert_within(&auctioned().unwrap(), AUCTIONED_MAX);
}

#[test]
fn a_job_under_a_slot_lease_costs_no_more_than_it_may() {
    assert_within(&leased().unwrap(), LEASED_MAX);
}
