//! How a person names a job: its number, its whole id, or `last`.

use std::fmt;
use std::str::FromStr;

use jobmesh_protocol::JobId;
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
        if text == "last" || is_number(text) {
            return Ok(Self(text.to_owned()));
        }
        let id = text.parse::<JobId>().map_err(|_| "a job is its number, its whole id, or `last`".to_owned())?;
        Ok(Self::of(id))
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_an_id_or_last_names_a_job() {
        for good in ["7", "last", "01890a5d-ac96-774b-bcce-b302099a8057"] {
            assert!(good.parse::<JobRef>().is_ok(), "{good}");
        }
        for bad in ["", "-1", "+1", "../status", "7/logs", "first", "0x89"] {
            assert!(bad.parse::<JobRef>().is_err(), "{bad}");
        }
    }
}
