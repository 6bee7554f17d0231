//! Who may be connected: so many at once, and beside them one for each run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jobmesh_protocol::RunId;

/// The seats of all connections.
#[derive(Debug)]
pub(super) struct Seats {
    shared_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    shared: usize,
    /// The runs that have their own.
    own: BTreeSet<RunId>,
}

/// The seat of one connection, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// The run whose own it is; none is one of those that all share.
    own: Option<RunId>,
}

impl Seats {
    pub(super) fn new(shared_max: usize) -> Arc<Self> {
        Arc::new(Self { shared_max, taken: Mutex::default() })
    }

    /// One of those that all share, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.shared >= self.shared_max {
            return None;
        }
        taken.shared += 1;
        Some(Seat { seats: Arc::clone(self), own: None })
    }
}

impl Seat {
    /// Changes to the seat of a run, if that is free.
    pub(super) fn introduce(&mut self, run: RunId) {
        if self.own.is_some() {
            return;
        }
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.own.insert(run) {
            taken.shared -= 1;
            self.own = Some(run);
        }
    }

    /// Whether it is a run's own.
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match self.own {
            Some(run) => {
                taken.own.remove(&run);
            }
            None => taken.shared -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::{Epoch, JobId};

    use super::*;

    #[test]
    fn each_run_has_one_beside_those_that_all_share() {
        let seats = Seats::new(2);
        let run = |byte| RunId { job: JobId::from_bytes([byte; 16]), epoch: Epoch(1) };
        let [mut first, mut second] = [(); 2].map(|()| seats.take().unwrap());
        assert!(seats.take().is_none());
        first.introduce(run(1));
        second.introduce(run(1));
        assert!(first.is_own() && !second.is_own());
        let mut third = seats.take().unwrap();
        assert!(seats.take().is_none());
        third.introduce(run(2));
        assert!(third.is_own() && seats.take().is_some());
        drop(first);
        second.introduce(run(1));
        assert!(second.is_own());
        drop((second, third));
        let all: Vec<_> = (0..3).map_while(|_| seats.take()).collect();
        assert_eq!(all.len(), 2);
    }
}
