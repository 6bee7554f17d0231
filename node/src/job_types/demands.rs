//! What the jobs of a type take while they run: `cpus`, `mem` and other resources, or variants to choose from.

use std::collections::BTreeMap;

use jobmesh_protocol::resource::{Demand, Name, NameError, Request, RequestError, Requests, VARIANTS_MAX};

use crate::config::table::{Entry, Fault, Lined, Table};

/// The keys of this part.
pub(super) const KEYS: &[&str] = &["cpus", "mem", "resources", "variants"];

/// What one file says is taken; empty where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Demands {
    /// By resource; none takes nothing of it.
    single: BTreeMap<Name, Lined<Option<Demand>>>,
    variants: Option<Lined<Requests>>,
}

impl Demands {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        let mut single = BTreeMap::new();
        for (key, name) in [("cpus", Name::CPUS), ("mem", Name::MEM)] {
            if let Some(entry) = table.entry(key) {
                single.insert(name.clone(), read_demand(&entry, name)?);
            }
        }
        if let Some(resources) = table.entry("resources") {
            for (key, entry) in resources.table()?.entries() {
                let name: Name = key.parse().map_err(|error: NameError| entry.refused(&error))?;
                let demand = read_demand(&entry, name.clone())?;
                if single.insert(name, demand).is_some() {
                    return Err(entry.fault("is said twice; leave one of them out"));
                }
            }
        }
        let variants = table.read("variants", read_variants)?;
        match &variants {
            Some(variants) if !single.is_empty() => {
                let problem = format!("{}.variants stands beside cpus, mem or resources", table.path());
                Err(Fault::new(variants.place, problem).hint("write what each variant takes into it"))
            }
            Some(_) | None => Ok(Self { single, variants }),
        }
    }

    /// What `self` says, else what `base` says. Variants take the place of single demands, and the other way round.
    pub(super) fn over(self, base: Self) -> Self {
        if self.variants.is_some() {
            return self;
        }
        let variants = if self.single.is_empty() { base.variants } else { None };
        let mut single = base.single;
        single.extend(self.single);
        Self { single, variants }
    }

    /// Checks that they go together.
    pub(super) fn check(&self, path: &Lined<String>) -> Result<(), Fault> {
        let wrong = |error| Fault::new(path.place, format!("{} takes too much: {error}", path.value));
        self.requests().map(drop).map_err(wrong)
    }

    /// What a job takes; one processor where nothing else is said of processors.
    pub(super) fn requests(&self) -> Result<Requests, RequestError> {
        if let Some(variants) = &self.variants {
            return Ok(variants.value.clone());
        }
        let usual = Request::default();
        let unsaid = usual.demands().iter().filter(|demand| !self.single.contains_key(&demand.name)).cloned();
        let said = self.single.values().filter_map(|demand| demand.value.clone());
        Request::new(unsaid.chain(said).collect()).map(Requests::from)
    }

    /// The same for people, if anything is said.
    pub(super) fn words(&self) -> Option<String> {
        let is_silent = self.single.is_empty() && self.variants.is_none();
        if is_silent { None } else { self.requests().ok().map(|requests| requests.to_string()) }
    }
}

/// Reads `4`, `0.5`, `"8 compact!"`, `"all"`, of memory `"8G"`; 0 takes nothing.
fn read_demand(entry: &Entry<'_>, name: Name) -> Result<Lined<Option<Demand>>, Fault> {
    let text = match entry.as_text() {
        Some(text) => text.to_owned(),
        None if entry.is_number() => entry.shown(),
        None => return Err(entry.wrong("an amount such as 4, 0.5, \"8G\" or \"all\"")),
    };
    if text.trim() == "0" {
        return Ok(entry.lined(None));
    }
    let demand = Demand::parse(name, &text).map_err(|error| entry.refused(&error))?;
    Ok(entry.lined(Some(demand)))
}

fn read_variants(entry: &Entry<'_>) -> Result<Lined<Requests>, Fault> {
    let variants = entry.list(VARIANTS_MAX, Entry::spoken::<Request>)?;
    Requests::new(variants.value).map(|requests| entry.lined(requests)).map_err(|error| entry.refused(&error))
}
