//! What the jobs of a type are granted beside the machine, and which of their files are kept.

use std::collections::BTreeMap;

use jobmesh_executors::check_patterns;
use jobmesh_protocol::job::{OUTPUT_PATTERNS_MAX, SECRETS_MAX};
use jobmesh_protocol::task::check_variable;
use jobmesh_protocol::{Isolation, JobSpec};

use crate::config::table::{Entry, Fault, Lined, Table};

/// The keys of this part.
pub(super) const KEYS: &[&str] = &["network", "isolation", "outputs", "secrets"];

/// The levels that a job can ask for.
const LEVELS: &[(&str, Isolation)] =
    &[("contained", Isolation::Contained), ("sandboxed", Isolation::Sandboxed), ("untrusted", Isolation::Untrusted)];

/// What one file says is granted; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grants {
    network: Option<Lined<bool>>,
    isolation: Option<Lined<Isolation>>,
    outputs: Option<Lined<Vec<String>>>,
    secrets: BTreeMap<String, String>,
}

impl Grants {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            network: table.read("network", Entry::boolean)?,
            isolation: table.read("isolation", |entry| entry.word(LEVELS))?,
            outputs: table.read("outputs", |entry| entry.list(OUTPUT_PATTERNS_MAX, read_pattern))?,
            secrets: table.read("secrets", read_secrets)?.unwrap_or_default(),
        })
    }

    /// What `self` says, else what `base` says. Secrets are laid over each other variable by variable.
    pub(super) fn over(self, base: Self) -> Self {
        let mut secrets = base.secrets;
        secrets.extend(self.secrets);
        Self {
            network: self.network.or(base.network),
            isolation: self.isolation.or(base.isolation),
            outputs: self.outputs.or(base.outputs),
            secrets,
        }
    }

    /// The patterns of the files that are kept.
    pub(super) fn outputs(&self) -> &[String] {
        self.outputs.as_ref().map_or(&[], |outputs| &outputs.value)
    }

    /// Puts it into a spec.
    pub(super) fn apply(&self, spec: &mut JobSpec) {
        spec.network = self.network.as_ref().is_some_and(|network| network.value);
        spec.isolation = self.isolation.as_ref().map(|level| level.value);
        spec.outputs = self.outputs().to_vec();
        spec.secrets.clone_from(&self.secrets);
    }
}

/// Reads a pattern; a wrong one is told with its line, and not by each job that has it.
fn read_pattern(entry: &Entry<'_>) -> Result<Lined<String>, Fault> {
    let pattern = entry.text()?;
    check_patterns(std::slice::from_ref(&pattern.value)).map_err(|error| entry.refused(&error))?;
    Ok(pattern)
}

fn read_secrets(entry: &Entry<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let mut secrets = BTreeMap::new();
    for (variable, entry) in entry.table()?.entries() {
        check_variable(variable).map_err(|error| entry.refused(&error))?;
        secrets.insert(variable.to_owned(), entry.text()?.value);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(entry.fault(&format!("has {} secrets; the limit is {SECRETS_MAX}", secrets.len())));
    }
    Ok(secrets)
}
