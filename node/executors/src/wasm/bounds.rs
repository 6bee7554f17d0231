//! How much a module may have of what grows.

/// Most entries of all tables together: ten times what a large program has functions.
const ENTRIES_MAX: usize = 1_000_000;
/// Most tables and memories each; compilers make one.
pub(super) const EACH_MAX: usize = 16;

/// What a module has and may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most bytes of all memories together; none is as much as the format can name, which is 4 GiB for each.
    memory_bytes_max: Option<u64>,
    memory_bytes: u64,
    entries: usize,
    was_refused: bool,
}

impl Bounds {
    pub(super) const fn new(memory_bytes_max: Option<u64>) -> Self {
        Self { memory_bytes_max, memory_bytes: 0, entries: 0, was_refused: false }
    }

    /// The limit on memory, if the module ever wanted more.
    pub(super) fn exceeded(&self) -> Option<u64> {
        self.memory_bytes_max.filter(|_| self.was_refused)
    }

    /// Whether a memory may grow. A no is the answer that the instruction has for it, so that a program that is prepared
    /// for that goes on.
    pub(super) fn grow_memory(&mut self, current: usize, wanted: usize) -> bool {
        let more = u64::try_from(wanted.saturating_sub(current)).unwrap_or(u64::MAX);
        let total = self.memory_bytes.saturating_add(more);
        if self.memory_bytes_max.is_some_and(|most| total > most) {
            self.was_refused = true;
            return false;
        }
        self.memory_bytes = total;
        true
    }

    /// Whether a table may grow.
    pub(super) fn grow_table(&mut self, current: usize, wanted: usize) -> bool {
        let total = self.entries.saturating_add(wanted.saturating_sub(current));
        if total > ENTRIES_MAX {
            return false;
        }
        self.entries = total;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit_and_tables_another() {
        let mut bounds = Bounds::new(Some(100));
        assert!(bounds.grow_memory(0, 60));
        assert!(bounds.grow_memory(0, 40));
        assert_eq!(bounds.exceeded(), None);
        assert!(!bounds.grow_memory(60, 61));
        assert_eq!(bounds.exceeded(), Some(100));
        assert!(bounds.grow_table(0, ENTRIES_MAX));
        assert!(!bounds.grow_table(0, 1));
    }
}
