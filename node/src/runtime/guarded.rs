//! What must be taken out of the reports of runs that have secrets.
//!
//! Logs, results and outcomes pass through the executors, which see to that themselves. What a run says on the socket of
//! tasks (its progress, checkpoints, new jobs) does not, and all of it is kept in the database.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jobmesh_executors::{Redaction, Secrets};
use jobmesh_protocol::RunId;
use serde_json::Value;

/// The runs that have secrets. No more than there are slots and those that stand behind them.
#[derive(Debug, Default)]
pub(super) struct Guarded(Mutex<BTreeMap<RunId, Redaction>>);

impl Guarded {
    /// Looks for these in what a run reports, from before its start on.
    pub(super) fn watch(&self, run: RunId, secrets: &Secrets) {
        if let Some(redaction) = Redaction::of(secrets) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, redaction);
        }
    }

    /// A run is over and reports no more.
    pub(super) fn forget(&self, run: RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// What is to be taken out of what a run reports.
    pub(super) fn of(&self, run: RunId) -> Option<Redaction> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }
}

/// Takes the secrets out of every text of a document, names included.
pub(super) fn clean(redaction: &Redaction, document: Value) -> Value {
    match document {
        Value::String(text) => Value::String(redaction.clean(&text)),
        Value::Array(items) => items.into_iter().map(|item| clean(redaction, item)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (redaction.clean(&name), clean(redaction, value))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}
