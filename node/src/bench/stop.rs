//! Being told to stop, for work that blocks.

use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::error::BenchError;

/// Longest time that passes without a look at whether to stop.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Says whether to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Asks for the end.
    pub(crate) fn stop(&self) {
        self.0.cancel();
    }

    /// Goes on unless the end was asked for.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`].
    pub(super) fn check(&self) -> Result<(), BenchError> {
        if self.0.is_cancelled() { Err(BenchError::Interrupted) } else { Ok(()) }
    }

    /// Lets `length` pass.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`], soon after the end was asked for.
    pub(super) fn rest(&self, length: Duration) -> Result<(), BenchError> {
        let until = Instant::now() + length;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}
