//! Job types and what else the configuration file declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Pending;
use crate::job_types::TypeView;

/// Every job type, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    /// The types.
    pub types: Vec<TypeView>,
}

/// Asks for the submission of a job of a type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeRequest {
    /// The values of its parameters, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// The configuration file was read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What holds only after a restart.
    pub pending: Vec<Pending>,
}
