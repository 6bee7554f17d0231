//! Real nodes under real faults, for as long as one likes: daemons that are killed or frozen past their leases, and
//! connections that are cut, stalled and closed in one direction. What the simulator shows of a model of all this is
//! looked at here on the parts that ship.
//!
//! Each runs at a scale that a change can wait for; `JOBMESH_FULL=1 cargo test --release -p jobmesh --test soak` goes on
//! for an hour.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

mod frozen;
mod ledger;
mod rounds;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmesh_tests::Bench;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// A job's number, and what the job shows of itself in the folder: a line for each start and each end.
fn script(folder: &Path, then: &str) -> String {
    let marks = folder.join("marks");
    let marks = marks.display();
    format!("echo \"start $0\" >> {marks}; {then}; echo \"end $0\" >> {marks}")
}

/// One soak at a time: what is measured in one is not to wait for the daemons of another.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
