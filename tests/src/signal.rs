//! Something that one thread waits for and another one gives.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long it may take to come: what is waited for takes less on the slowest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Something that one thread waits for and another one gives. It can be taken as often as it was given.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<(Mutex<usize>, Condvar)>);

impl Signal {
    /// Gives it once more.
    pub fn give(&self) {
        let (given, changed) = &*self.0;
        *given.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        changed.notify_all();
    }

    /// Waits for it and takes it; false if it does not come within a minute.
    #[must_use]
    pub fn take(&self) -> bool {
        let (given, changed) = &*self.0;
        let given = given.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(given, LIMIT, |given| *given == 0);
        let (mut given, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_there = *given > 0;
        *given = given.saturating_sub(1);
        is_there
    }
}
