//! What one file says of a job type, and how the sayings of several are laid over each other.

use std::collections::BTreeMap;

use jobmesh_protocol::job::NAME_BYTES_MAX;

use crate::config::table::{Entry, Fault, Lined, Place, Table};
use crate::job_types::demands::{self, Demands};
use crate::job_types::grants::{self, Grants};
use crate::job_types::inputs::{self, Inputs};
use crate::job_types::other;
use crate::job_types::parameter::{ParameterDeclaration, read_parameters};
use crate::job_types::plan::{Plan, read_plan};
use crate::job_types::policy::{self, Policy};
use crate::job_types::sharing::{self, Sharing};
use crate::job_types::work::{self, Work};

/// Most job types.
const TYPES_MAX: usize = 1000;

const KEYS: &[&str] = &["description", "extends", "enabled", "parameters", "schedule"];

/// Job types by name, as one file declares them.
pub(crate) type Declarations = BTreeMap<String, Declaration>;

/// What one file says of a type; `None` where it is silent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declaration {
    pub(super) place: Place,
    pub(super) description: Option<Lined<String>>,
    pub(super) extends: Option<Lined<String>>,
    pub(super) is_enabled: Option<Lined<bool>>,
    pub(super) plan: Option<Lined<Option<Plan>>>,
    /// In the order in which they were written.
    pub(super) parameters: Vec<(String, ParameterDeclaration)>,
    pub(super) work: Work,
    pub(super) policy: Policy,
    pub(super) sharing: Sharing,
    pub(super) demands: Demands,
    pub(super) grants: Grants,
    pub(super) inputs: Inputs,
}

/// Reads `[job_types]`.
pub(crate) fn read_declarations(entry: &Entry<'_>) -> Result<Declarations, Fault> {
    let mut types = Declarations::new();
    for (name, entry) in entry.table()?.entries() {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_led = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !is_led || name.len() > NAME_BYTES_MAX || !name.chars().all(legal) {
            let wanted = format!("1 to {NAME_BYTES_MAX} letters, digits, - _ and ., with a letter or digit in front");
            return Err(entry.fault(&format!("is no name of a job type; it must be {wanted}")));
        }
        types.insert(name.to_owned(), Declaration::read(&entry.table()?)?);
    }
    if types.len() > TYPES_MAX {
        return Err(entry.fault(&format!("has {} job types; the limit is {TYPES_MAX}", types.len())));
    }
    Ok(types)
}

impl Declaration {
    fn read(table: &Table<'_>) -> Result<Self, Fault> {
        let what = [KEYS, work::KEYS, other::KEYS, inputs::KEYS];
        let how = [policy::KEYS, sharing::KEYS, demands::KEYS, grants::KEYS];
        let parts = [what, how].concat();
        table.check_keys(&parts.concat(), &[])?;
        Ok(Self {
            place: table.place(),
            description: table.read("description", Entry::text)?,
            extends: table.read("extends", Entry::text)?,
            is_enabled: table.read("enabled", Entry::boolean)?,
            plan: table.read("schedule", read_plan)?,
            parameters: table.read("parameters", read_parameters)?.unwrap_or_default(),
            work: Work::read(table)?,
            policy: Policy::read(table)?,
            sharing: Sharing::read(table)?,
            demands: Demands::read(table)?,
            grants: Grants::read(table)?,
            inputs: Inputs::read(table)?,
        })
    }

    /// What `self` says, else what `base` says. Tables of parameters, variables and labels are laid over each other
    /// name by name.
    pub(super) fn over(self, base: Self) -> Self {
        let mut parameters = base.parameters;
        for (name, declaration) in self.parameters {
            match parameters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, below)) => *below = declaration.over(below.clone()),
                None => parameters.push((name, declaration)),
            }
        }
        Self {
            place: self.place,
            description: self.description.or(base.description),
            extends: self.extends.or(base.extends),
            is_enabled: self.is_enabled.or(base.is_enabled),
            plan: self.plan.or(base.plan),
            parameters,
            work: self.work.over(base.work),
            policy: self.policy.over(base.policy),
            sharing: self.sharing.over(base.sharing),
            demands: self.demands.over(base.demands),
            grants: self.grants.over(base.grants),
            inputs: self.inputs.over(base.inputs),
        }
    }

    /// The same without what makes a type run by itself: another type that extends it must say so anew, or two
    /// would do one's work.
    pub(super) fn without_schedule(self) -> Self {
        Self { plan: None, is_enabled: None, extends: None, ..self }
    }
}
