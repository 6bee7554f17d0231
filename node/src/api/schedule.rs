//! Schedules: what fires when, and what was made of it.

use jobmesh_engine::Schedule;
use jobmesh_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

/// Most instants that are told at once.
pub const INSTANTS_MAX: u32 = 1000;

/// Every schedule, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedules {
    /// The schedules.
    pub schedules: Vec<ScheduleView>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When it fires, what it submits, and its policies.
    pub schedule: Schedule,
    /// When it fires, in words.
    pub words: String,
    /// Whether it fires no more until it is resumed.
    pub is_paused: bool,
    /// Whether the configuration file declares it.
    pub is_declared: bool,
    /// The last instant that it fired at, as far as that is still known.
    pub last: Option<UnixMillis>,
    /// The next one.
    pub next: Option<UnixMillis>,
    /// The newest instant whose job could not be submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Passed>,
}

/// An instant whose job could not be submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Which one.
    pub at: UnixMillis,
    /// Why.
    pub why: String,
}

/// Asks for the instants that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// After this.
    pub from: UnixMillis,
    /// Up to this.
    pub to: UnixMillis,
    /// Whether they are only to be counted.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a backfill did, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfilled {
    /// How many jobs it submitted, or would submit.
    pub jobs: usize,
}

/// The query of a schedule's next instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextQuery {
    /// How many; the default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// When a schedule fires next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instants {
    /// The instants, earliest first.
    pub instants: Vec<UnixMillis>,
    /// The same by the clock of the schedule's own zone.
    #[serde(default)]
    pub readings: Vec<String>,
}
