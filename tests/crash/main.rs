//! What can happen to a node: `kill -9` of anything at any time, more work than it can do, a full, read-only or damaged
//! disk, jobs that want to do harm, and being stopped in the middle.
//!
//! Each runs at a scale that a change can wait for; `JOBMESH_FULL=1 cargo test --release -p jobmesh --test crash` runs
//! the whole of it, 200 rounds of kills and 10,000 waits.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

mod adoption;
mod contain;
mod crowd;
mod damage;
mod disk;
mod drain;
mod kills;
mod record;
mod rounds;

use jobmesh_tests::{Bench, Value};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// What the history of a job says beside its states, all of it.
fn notes(shown: &Value) -> String {
    let events = shown["events"].as_array().unwrap();
    events.iter().filter_map(|event| event["note"].as_str()).collect::<Vec<_>>().join("\n")
}

/// How often something moved a job.
fn count(shown: &Value, cause: &str) -> usize {
    shown["events"].as_array().unwrap().iter().filter(|event| event["cause"] == cause).count()
}
