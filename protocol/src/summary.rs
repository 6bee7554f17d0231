//! What one node has seen of the work it had done: counts and a histogram per day, type, executor and node.
//!
//! A summary holds its author's own observations only and the newest version wins per author and day, so no
//! path, duplicate or replay can count anything twice. Sums over authors are formed when they are read.

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::NodeId;
use crate::job::NAME_BYTES_MAX;
use crate::time::DurationMillis;

/// Most cells of one summary, the busiest first: about 6 KB.
pub const CELLS_MAX: usize = 64;
/// Highest version of a summary: what a database column holds.
const VERSION_MAX: u64 = i64::MAX as u64;
/// Most heads in one message.
pub const HEADS_MAX: usize = 512;

/// Bins per doubling: a value is off by at most 19 %, the width of a bin.
const BINS_PER_OCTAVE: u32 = 4;
/// Bins in all: 1 ms to 4.6 h and everything above.
const BINS: usize = 96;

/// Durations in fixed logarithmic bins: counts are whole numbers, so adding is exact in any order.
///
/// Pairs of bin and count, by rising bin, no bin above the last and no count of zero. Anything else does not
/// decode, so no arithmetic here ever meets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u8, u32)>")]
pub struct Histogram(Vec<(u8, u32)>);

/// The bins are not those of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the histogram's bins must rise, be below {BINS} and have counts above 0")]
pub struct HistogramError;

impl TryFrom<Vec<(u8, u32)>> for Histogram {
    type Error = HistogramError;

    fn try_from(bins: Vec<(u8, u32)>) -> Result<Self, Self::Error> {
        let histogram = Self(bins);
        if histogram.is_bounded() { Ok(histogram) } else { Err(HistogramError) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: DurationMillis) {
        let bin = bin_of(duration);
        match self.0.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => {
                if let Some((_, count)) = self.0.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.0.insert(at, (bin, 1)),
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bin, more) in &other.0 {
            match self.0.binary_search_by_key(bin, |(bin, _)| *bin) {
                Ok(at) => {
                    if let Some((_, count)) = self.0.get_mut(at) {
                        *count = count.saturating_add(*more);
                    }
                }
                Err(at) => self.0.insert(at, (*bin, *more)),
            }
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The duration below which `percent` of the counted ones lie, to the upper edge of its bin.
    #[must_use]
    pub fn quantile(&self, percent: u32) -> Option<DurationMillis> {
        let wanted = (self.count() * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bin, count)| {
            seen += u64::from(*count);
            (seen >= wanted).then(|| upper_edge(*bin))
        })
    }

    /// Whether the bins are in order, in range and counted: what a received histogram must be.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let ordered = self.0.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        self.0.len() <= BINS && ordered && self.0.iter().all(|(bin, count)| usize::from(*bin) < BINS && *count > 0)
    }
}

/// The bin of a duration, by comparing with the edges: no floating point, so the same on every machine.
fn bin_of(duration: DurationMillis) -> u8 {
    let bins = 0..u8::try_from(BINS - 1).unwrap_or(u8::MAX);
    let last = bins.end;
    bins.into_iter().find(|bin| duration <= upper_edge(*bin)).unwrap_or(last)
}

/// The largest duration of a bin: 2^((bin + 1) / 4) ms, in fixed point.
fn upper_edge(bin: u8) -> DurationMillis {
    // 2^(k/4) for k = 0..4, times 10 000.
    const ROOTS: [u64; 4] = [10_000, 11_892, 14_142, 16_818];
    let steps = u32::from(bin) + 1;
    let root = ROOTS.get((steps % BINS_PER_OCTAVE) as usize).copied().unwrap_or(10_000);
    DurationMillis((root << (steps / BINS_PER_OCTAVE)) / 10_000)
}

/// What was seen of one kind of work on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Cell {
    /// The job type.
    pub job_type: String,
    /// The executor.
    pub executor: String,
    /// The node that ran it.
    pub node: NodeId,
    /// Attempts that succeeded.
    pub succeeded: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// Attempts that ran too long.
    pub timed_out: u32,
    /// Attempts that vanished.
    pub lost: u32,
    /// How long the successful ones took.
    pub durations: Histogram,
}

impl Cell {
    /// All attempts counted.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.succeeded.saturating_add(self.failed).saturating_add(self.timed_out).saturating_add(self.lost)
    }
}

/// An author's observations of one day. The author is the signer of its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Summary {
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// Grows with every change; the highest wins.
    pub version: u64,
    /// One cell per type, executor and node.
    pub cells: Vec<Cell>,
}

impl Summary {
    /// Whether the summary keeps to the limits.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let short = |cell: &Cell| cell.job_type.len() <= NAME_BYTES_MAX && cell.executor.len() <= NAME_BYTES_MAX;
        self.version <= VERSION_MAX
            && self.cells.len() <= CELLS_MAX
            && self.cells.iter().all(|cell| short(cell) && cell.durations.is_bounded())
    }
}

/// The newest version of an author's summary of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize_tuple, Deserialize_tuple)]
pub struct Head {
    /// Whose observations.
    pub author: NodeId,
    /// Of which day.
    pub day: u32,
    /// Which version.
    pub version: u64,
}

/// Tells a peer which summaries the sender has, or asks for those (`SummaryRequest`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Heads {
    /// The newest of each author and day.
    pub heads: Vec<Head>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_bin_above_the_truth() {
        let mut histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.add(DurationMillis(value));
        }
        let median = histogram.quantile(50).map(|d| d.0);
        assert!(median.is_some_and(|m| (500..=600).contains(&m)), "{median:?}");
        assert_eq!(histogram.count(), 1000);
        assert!(histogram.is_bounded());
    }

    #[test]
    fn merging_is_the_same_in_any_order() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        for value in [1, 5, 900, 40_000, u64::MAX] {
            a.add(DurationMillis(value));
        }
        for value in [0, 5, 5, 17] {
            b.add(DurationMillis(value));
        }
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
        assert_eq!(ab.count(), 9);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(50), None);
    }
}
