//! How many jobs ended how, hour by hour, and how long they ran.

use jobmesh_protocol::{DurationMillis, UnixMillis};
use serde::{Deserialize, Serialize};

/// The longest time that is looked back: for so long the hours are kept.
pub const METRICS_SPAN_MAX: DurationMillis = jobmesh_engine::METRICS_KEPT;

/// How finely a time is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// All of it as one.
    #[default]
    Whole,
    /// By days, which begin at midnight UTC.
    Day,
    /// By hours.
    Hour,
}

/// The query of what was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsQuery {
    /// How far to look back; the default is a day. The hour in which that begins is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<DurationMillis>,
    /// How finely.
    #[serde(default)]
    pub by: Grain,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// A row for each type and time in which a job of it ended, by time and type.
    pub rows: Vec<MetricView>,
}

/// What the jobs of one type were like in one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricView {
    /// When the time begins.
    pub from: UnixMillis,
    /// When it ends: not after now.
    pub to: UnixMillis,
    /// The job type.
    pub job_type: String,
    /// Jobs that completed.
    pub completed: u64,
    /// Jobs that failed for good.
    pub discarded: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that were skipped.
    pub skipped: u64,
    /// How long the last attempts of all these ran, together.
    pub run_ms: DurationMillis,
    /// Half of the attempts that succeeded on the days that the time touches took at most this long. Told of whole days
    /// only, and of those only that are kept as long as what the mesh learns from: 14 days.
    pub p50_ms: Option<DurationMillis>,
    /// Nine of ten of them took at most this long.
    pub p90_ms: Option<DurationMillis>,
}

impl MetricView {
    /// How many jobs ended, in whatever way.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.completed + self.discarded + self.cancelled + self.skipped
    }
}
