//! What one piece of an answer costs to read.
//!
//! What reads an answer keeps a piece until its end has come, copies it anew with each part of it that comes, and tells
//! nobody meanwhile how much it has. So a server that sends one piece without an end takes memory, and time by the square
//! of that. Its bytes can't be counted from here, but their price can: a thread of its own reads each answer, and the
//! system counts the processor time of threads.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Most processor time for one piece: five seconds. One of a mebibyte takes some milliseconds; what can be kept for five
/// seconds is some ten mebibytes. The first piece is paid for with the question, which may be 64 MiB, and the handshake.
const PIECE_MAX: Duration = Duration::from_secs(5);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Counts what the piece costs that is being read.
#[derive(Debug)]
pub(super) struct Meter {
    /// The processor time that this thread had taken when the last piece had come.
    begun_at: Cell<Duration>,
    piece_max: Duration,
}

impl Meter {
    /// Begins with what the calling thread has taken up to now. Not to be taken to another one.
    pub(super) fn start() -> Self {
        Self { begun_at: Cell::new(taken()), piece_max: PIECE_MAX }
    }

    /// A piece has come; the next one begins.
    pub(super) fn begin(&self) {
        self.begun_at.set(taken());
    }

    /// Waits until a piece has cost too much.
    pub(super) async fn ran_out(&self) {
        while taken().saturating_sub(self.begun_at.get()) <= self.piece_max {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The processor time of this thread.
fn taken() -> Duration {
    let taken = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(taken.tv_sec).unwrap_or_default(), u32::try_from(taken.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_piece_has_its_own_time_and_waiting_costs_none() {
        let meter = Meter { piece_max: Duration::from_millis(100), ..Meter::start() };
        let work = || {
            let until = taken() + Duration::from_millis(70);
            while taken() < until {}
        };
        let waits = async || tokio::time::timeout(LOOK * 2, meter.ran_out()).await.is_err();
        work();
        meter.begin();
        work();
        assert!(waits().await, "no piece cost too much");
        work();
        assert!(!waits().await);
    }
}
