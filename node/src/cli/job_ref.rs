//! How a person names one job: its number, its whole id, or `last`.

use std::fmt;
use std::str::FromStr;

use jobmesh::api::Pick;
use jobmesh_protocol::{JobId, JobNumber};
use serde::Serialize;

/// A job as it was named on the command line. Safe to put into a path of the control API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct JobRef(String);

impl JobRef {
    /// The job with this id.
    pub(crate) fn of(id: JobId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for JobRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(Pick::Last) => return Ok(Self(text.to_owned())),
            Ok(Pick::LastTasks(first, last)) if first == last => return Ok(Self(text.to_owned())),
            Ok(Pick::LastTasks(..) | Pick::All | Pick::Id(_) | Pick::Numbers(_)) | Err(_) => {}
        }
        if let Ok(number) = text.parse::<JobNumber>() {
            return Ok(Self(number.to_string()));
        }
        let wrong =
            |_| "a job is its number, such as 42 or 42.7 for a task, its whole id, `last` or `last.7`".to_owned();
        text.parse::<JobId>().map(Self::of).map_err(wrong)
    }
}

impl JobRef {
    /// The same name among those that select jobs.
    pub(crate) fn pick(&self) -> Pick {
        // Every name of one job names a selection of one.
        self.0.parse().unwrap_or(Pick::Last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_an_id_or_last_names_a_job() {
        for good in ["7", "42.7", "last", "last.3", "01890a5d-ac96-774b-bcce-b302099a8057"] {
            assert!(good.parse::<JobRef>().is_ok(), "{good}");
        }
        for bad in ["", "7-9", "last.3-4", "all", "-1", "+1", "../status", "7/logs", "first", "0x89"] {
            assert!(bad.parse::<JobRef>().is_err(), "{bad}");
        }
    }
}
