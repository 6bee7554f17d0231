//! What is looked up once per life of the daemon and is the same for every run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::process::cgroup::{Enforced, Enforcement, Grounds};
use crate::process::spare;
use crate::process::tree::scan;
use crate::surroundings::{Groups, Sandboxes};

/// What a job inherits from the daemon's environment, beside `LC_*`. The rest may hold secrets.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL"];

/// Where programs are when the daemon has no PATH (the default of execvp in the POSIX rationale, plus local programs).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The daemon's surroundings as runs see them.
#[derive(Debug)]
pub(crate) struct Host {
    variables: BTreeMap<OsString, OsString>,
    path: OsString,
    spares: Option<PathBuf>,
    grounds: Grounds,
    sandboxes: Sandboxes,
    worker: PathBuf,
}

impl Host {
    /// Looks around, and empties `spares`.
    pub(crate) fn look(spares: Option<PathBuf>, groups: Groups, (sandboxes, worker): (Sandboxes, PathBuf)) -> Self {
        if let Some(place) = &spares {
            spare::clear(place);
        }
        let variables = inherited(std::env::vars_os());
        let path = variables.get(OsStr::new("PATH")).cloned().unwrap_or_else(|| OsString::from(DEFAULT_PATH));
        let grounds = match groups {
            Groups::Use => Grounds::probe(),
            Groups::Avoid => Grounds::default(),
        };
        Self { variables, path, spares, grounds, sandboxes, worker }
    }

    /// What every job inherits.
    pub(super) const fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// What a sandboxed job inherits: how to write for people, and when it is.
    pub(super) fn sandbox_variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let pairs = self.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let told = pairs.filter(|(name, _)| *name == "LANG" || *name == "TZ" || name.starts_with("LC_"));
        told.map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// Whether sandboxes may be made.
    pub(super) const fn sandboxes(&self) -> Sandboxes {
        self.sandboxes
    }

    /// This very program, which is the first in a sandbox.
    pub(super) fn worker(&self) -> &Path {
        &self.worker
    }

    /// Where programs are looked for.
    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }

    /// Where control groups may be made.
    pub(super) const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// How limits are kept here.
    pub(crate) fn enforcement(&self) -> Enforcement {
        let looking = if scan::available() { Enforced::Watch } else { Enforced::No };
        Enforcement { memory: self.grounds.memory(), processes: self.grounds.processes().unwrap_or(looking) }
    }

    /// Where run directories wait for their next use.
    pub(super) fn spares(&self) -> Option<&Path> {
        self.spares.as_deref()
    }
}

/// Picks what a job may see of the daemon's environment.
fn inherited(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    all.filter(|(name, _)| name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> (OsString, OsString) {
        (name.into(), "x".into())
    }

    #[test]
    fn secrets_of_the_daemon_stay_with_it() {
        let all = ["PATH", "LC_ALL", "LANG", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "JOBMESH_HOME"].map(variable);
        let kept: Vec<OsString> = inherited(all.into_iter()).into_keys().collect();
        assert_eq!(kept, ["LANG", "LC_ALL", "PATH"]);
    }
}
