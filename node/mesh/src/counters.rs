//! What went wrong or was dropped, counted: too frequent and too much in a peer's hand for log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Named counters, shared by all tasks. Names are literals, so a peer can't grow the map.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    /// Adds one to `what`.
    pub(crate) fn add(&self, what: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds so many to `what`.
    pub(crate) fn add_many(&self, what: &'static str, many: u64) {
        if many > 0 {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(what).or_default();
            *count = count.saturating_add(many);
        }
    }

    /// Returns all counts that are not zero.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
