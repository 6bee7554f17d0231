//! How much of a machine a job takes.

use serde::{Deserialize, Serialize};

/// Processor time and memory, requested by a job or offered by a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a processor: 1500 is one and a half.
    pub cpu_milli: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Resources {
    /// Nothing at all.
    pub const ZERO: Self = Self { cpu_milli: 0, memory_bytes: 0 };

    /// Whether `self` fits into `free`.
    #[must_use]
    pub const fn fits(&self, free: &Self) -> bool {
        self.cpu_milli <= free.cpu_milli && self.memory_bytes <= free.memory_bytes
    }

    /// What is left of `self` after `taken`; never below zero.
    #[must_use]
    pub const fn less(&self, taken: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(taken.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(taken.memory_bytes),
        }
    }

    /// The sum of both.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

impl Default for Resources {
    /// One processor and no stated memory: what a plain command takes.
    fn default() -> Self {
        Self { cpu_milli: 1000, memory_bytes: 0 }
    }
}
