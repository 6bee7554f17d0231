//! Queues: their limits, and what waits in them.

use std::collections::BTreeMap;

use jobmesh_protocol::JobState;
use jobmesh_protocol::job::RateLimit;
use serde::{Deserialize, Deserializer, Serialize};

/// Every queue that has a job, a limit or a declaration, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// The queues.
    pub queues: Vec<QueueView>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub mode: QueueMode,
    /// How many of its jobs may run at once; none is no limit.
    pub concurrency: Option<u32>,
    /// How many of its jobs may start in a time; none is no limit.
    pub rate: Option<RateLimit>,
    /// Whether something was set by hand, over the configuration file.
    pub is_set_by_hand: bool,
    /// How many jobs it holds, by state; those without any are left out. Of those that run, what has begun: a group
    /// counts as its tasks, and as available while it has more to make; a job that was claimed behind another is
    /// available until it begins.
    pub jobs: BTreeMap<JobState, u64>,
}

/// What a queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueMode {
    /// It takes jobs and starts them.
    #[default]
    Open,
    /// It takes jobs and starts none.
    Paused,
    /// It takes none and runs those that it has.
    Draining,
}

impl QueueMode {
    /// The word for it in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// Asks for other limits. What is left out stays as it is; `null` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    /// How many of its jobs may run at once.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Option<u32>>,
    /// How many of its jobs may start in a time.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Option<RateLimit>>,
}

/// Tells `null`, which says that there is no limit, from a field that is not there.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn no_limit_is_not_the_same_as_nothing_said() {
        let read = |text| serde_json::from_str::<QueueRequest>(text).unwrap();
        assert_eq!(read("{}").concurrency, None);
        assert_eq!(read(r#"{"concurrency":null}"#).concurrency, Some(None));
        let both = QueueRequest { concurrency: Some(Some(4)), rate: Some(None) };
        assert_eq!(read(&serde_json::to_string(&both).unwrap()), both);
    }
}
