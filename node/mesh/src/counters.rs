//! What went wrong or was dropped, counted: too frequent and too much in a peer's hand for log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often at most one line goes into the log about what peers can cause at will.
const LINE_EVERY: Duration = Duration::from_secs(60);

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

/// One line of the log that peers can cause: what is beyond it is only counted.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Option<Instant>>);

impl Line {
    /// Whether it may be written now. If so, it counts as written.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= LINE_EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request for a damaged file wrote a line, as fast as a peer could ask.
    #[test]
    fn a_line_is_written_once_in_its_time() {
        let (line, start) = (Line::default(), Instant::now());
        let mut due = |seconds: u64| line.is_due_at(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59, 60, 61, 120].map(&mut due), [true, false, false, true, false, true]);
    }
}
