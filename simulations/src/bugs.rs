//! Past failures, kept as files and run again for ever.
//!
//! Each holds the smallest plan that once failed. It must hold now. One that names a seeded bug must fail with that bug
//! as it did, which shows that the plan still goes where the failure was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::invariants::Violation;
use crate::plan::{Plan, PlanError};
use crate::report::run;

/// One past failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bug {
    /// What went wrong, in words.
    pub story: String,
    /// The name of the invariant that broke, without its prefix.
    pub broke: String,
    /// What was run.
    pub plan: Plan,
}

/// How a past failure does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Every promise holds.
    Holds,
    /// Every promise holds, and the seeded bug breaks the one that it broke.
    HoldsAndIsFound,
    /// Every promise holds; whether the seeded bug would be found, this build can't tell.
    HoldsUnproved,
}

/// What is wrong with a past failure.
#[derive(Debug, thiserror::Error)]
pub enum BugError {
    /// The file does not read.
    #[error("failed to read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no past failure.
    #[error("{} holds no past failure: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Its plan can't be run.
    #[error("the plan can't be run: {0}")]
    Plan(#[from] PlanError),
    /// It has come back.
    #[error("it has come back: {0}")]
    IsBack(Violation),
    /// The seeded bug breaks nothing any more, or something else.
    #[error("the seeded bug should break {wanted}, and breaks {found}; shrink a new plan for it")]
    IsBlunt {
        /// What it should break.
        wanted: String,
        /// What it does.
        found: String,
    },
}

impl Bug {
    /// Reads every file of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`BugError`] for the first file that does not read.
    pub fn read_all(folder: &Path) -> Result<Vec<(PathBuf, Self)>, BugError> {
        let io = |source| BugError::Io { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(|source| BugError::Io { path: path.clone(), source })?;
            let bug = serde_json::from_str(&text).map_err(|source| BugError::Json { path: path.clone(), source })?;
            Ok((path, bug))
        };
        paths.into_iter().map(read).collect()
    }

    /// Runs it again.
    ///
    /// # Errors
    /// [`BugError`] if a promise breaks, or if its seeded bug breaks none.
    pub fn check(&self) -> Result<Kept, BugError> {
        let healthy = Plan { mutant: None, ..self.plan.clone() };
        healthy.check()?;
        if let Err(failure) = run(&healthy) {
            return Err(BugError::IsBack(failure.violation));
        }
        if self.plan.mutant.is_none() {
            return Ok(Kept::Holds);
        }
        if cfg!(not(feature = "mutants")) {
            return Ok(Kept::HoldsUnproved);
        }
        match run(&self.plan) {
            Err(failure) if failure.violation.invariant == self.broke => Ok(Kept::HoldsAndIsFound),
            Err(failure) => self.blunt(failure.violation.invariant),
            Ok(_) => self.blunt("nothing"),
        }
    }

    fn blunt(&self, found: &str) -> Result<Kept, BugError> {
        Err(BugError::IsBlunt { wanted: self.broke.clone(), found: found.to_owned() })
    }
}
