//! Who may be connected.
//!
//! Whoever comes waits in a **lobby** until it has shown whose it is. Then it has the seat of its run, which each run has
//! one of, or one of those that all runs share, of which a run may take a few.
//!
//! **The hard case** is a run that wants to keep the others out. It can't do so by what it has shown, since its part of the
//! shared seats is bounded and the own ones are not shared. In the lobby nobody is known, so it can't be divided: if it is
//! full, whoever has been in it for the longest goes. The one who says at once whose it is has left it by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobmesh_protocol::RunId;
use tokio_util::sync::CancellationToken;

/// How many there may be at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections of nobody known.
    pub(super) lobby: usize,
    /// Connections beside the one of each run.
    pub(super) shared: usize,
    /// Those of them that one run may have.
    pub(super) of_run: usize,
}

/// The seats of all connections.
#[derive(Debug)]
pub(super) struct Seats {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Who has not shown whose it is, in the order in which they came, with what shows each out.
    lobby: BTreeMap<u64, CancellationToken>,
    /// How many ever came.
    came: u64,
    /// The runs that have their own.
    own: BTreeSet<RunId>,
    /// How many of the shared ones each run has; none that has none.
    shared: BTreeMap<RunId, usize>,
}

/// The place of one connection, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    place: Place,
    shown_out: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lobby(u64),
    Own(RunId),
    Shared(RunId),
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place in the lobby. If that is full, the one who came first goes.
    pub(super) fn enter(self: &Arc<Self>) -> Seat {
        let mut taken = self.lock();
        if taken.lobby.len() >= self.limits.lobby
            && let Some((_, first)) = taken.lobby.pop_first()
        {
            first.cancel();
        }
        let (number, shown_out) = (taken.came, CancellationToken::new());
        taken.came += 1;
        taken.lobby.insert(number, shown_out.clone());
        Seat { seats: Arc::clone(self), place: Place::Lobby(number), shown_out }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The best place that is free for a run.
    fn place(&mut self, run: RunId, limits: Limits) -> Option<Place> {
        if self.own.insert(run) {
            return Some(Place::Own(run));
        }
        let (all, its) = (self.shared.values().sum::<usize>(), self.shared.entry(run).or_default());
        if all < limits.shared && *its < limits.of_run {
            *its += 1;
            return Some(Place::Shared(run));
        }
        if *its == 0 {
            self.shared.remove(&run);
        }
        None
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Lobby(number) => drop(self.lobby.remove(&number)),
            Place::Own(run) => {
                self.own.remove(&run);
            }
            Place::Shared(run) => {
                if let Some(its) = self.shared.get_mut(&run) {
                    *its -= 1;
                    if *its == 0 {
                        self.shared.remove(&run);
                    }
                }
            }
        }
    }
}

impl Seat {
    /// Goes from the lobby to a seat of its run. `false` if there is none for it.
    pub(super) fn introduce(&mut self, run: RunId) -> bool {
        let mut taken = self.seats.lock();
        // Whoever is shown out at this moment goes, too.
        if self.shown_out.is_cancelled() {
            return false;
        }
        let Some(place) = taken.place(run, self.seats.limits) else { return false };
        taken.leave(self.place);
        self.place = place;
        true
    }

    /// Whether it is a run's own.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self.place, Place::Own(_))
    }

    /// Ends when it has to give its place in the lobby to another.
    pub(super) fn shown_out(&self) -> CancellationToken {
        self.shown_out.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::{Epoch, JobId};

    use super::*;

    const LIMITS: Limits = Limits { lobby: 2, shared: 3, of_run: 2 };

    fn run(byte: u8) -> RunId {
        RunId { job: JobId::from_bytes([byte; 16]), epoch: Epoch(1) }
    }

    /// A seat of a run, if there is one for it.
    fn seat(seats: &Arc<Seats>, byte: u8) -> Option<Seat> {
        let mut seat = seats.enter();
        seat.introduce(run(byte)).then_some(seat)
    }

    #[test]
    fn each_run_has_one_of_its_own_and_a_few_of_those_that_all_share() {
        let seats = Seats::new(LIMITS);
        let mut first: Vec<_> = (0..5).map_while(|_| seat(&seats, 1)).collect();
        assert_eq!(first.iter().map(Seat::is_own).collect::<Vec<_>>(), [true, false, false]);
        let second: Vec<_> = (0..5).map_while(|_| seat(&seats, 2)).collect();
        assert_eq!(second.len(), 2, "its own and the last that is shared");
        assert!(seat(&seats, 3).is_some_and(|seat| seat.is_own()), "nobody takes it from another run");
        drop(first.remove(0));
        assert!(seat(&seats, 1).is_some_and(|seat| seat.is_own()));
        drop((first, second));
        let third: Vec<_> = (0..5).map_while(|_| seat(&seats, 3)).collect();
        assert_eq!(third.len(), 3, "each is free again when it is dropped");
        drop(third);
        let taken = seats.lock();
        assert!(taken.lobby.is_empty() && taken.own.is_empty() && taken.shared.is_empty(), "{taken:?}");
    }

    #[test]
    fn the_first_to_come_leaves_a_full_lobby() {
        let seats = Seats::new(LIMITS);
        let [mut first, mut second] = [seats.enter(), seats.enter()];
        assert!(second.introduce(run(1)));
        let _third = seats.enter();
        assert!(!first.shown_out().is_cancelled(), "it has room for two");
        let _fourth = seats.enter();
        assert!(first.shown_out().is_cancelled() && !second.shown_out().is_cancelled());
        assert!(!first.introduce(run(2)), "it is to go");
        drop(first);
        assert_eq!(seats.lock().lobby.len(), 2);
    }
}
