//! What a worker leaves of itself in the run's directory, for whoever sees it to its end: also for a daemon that was not
//! there at its start, and doesn't know what the run is.
//!
//! No guest can name the file, since all that it is shown is its working directory. A plain command can write one of that
//! name; so it is looked for only where a worker ran.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use jobmesh_protocol::Isolation;
use serde::{Deserialize, Serialize};

use crate::event::Ended;
use crate::files::open_plain;

/// Its name.
const NAME: &str = "account";

/// Largest one: a word and a number.
const BYTES_MAX: u64 = 1024;

/// How a worker did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// How well its guest is kept apart. Written before the guest begins.
    pub(crate) isolation: Isolation,
    /// The fuel that it used. Written at its end.
    #[serde(default)]
    pub(crate) fuel: Option<u64>,
}

impl Account {
    /// Writes it down.
    pub(crate) fn leave(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(NAME), serde_json::to_vec(self)?)
    }

    /// Takes it away; none if no worker left one.
    pub(crate) fn take(directory: &Path) -> Option<Self> {
        let path = directory.join(NAME);
        let mut bytes = Vec::new();
        let file = open_plain(File::options().read(true), &path);
        let _ = fs::remove_file(&path);
        file.ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The end of a run that was a worker's.
    pub(crate) fn complete(directory: &Path, mut ended: Ended) -> Ended {
        if let Some(account) = Self::take(directory) {
            ended.isolation = account.isolation;
            ended.usage.fuel = account.fuel;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::Outcome;

    use super::*;

    #[test]
    fn an_account_is_taken_once_and_completes_an_end() {
        let home = tempfile::tempdir().unwrap();
        let ended = || Ended::without_process(Outcome::Ok);
        assert_eq!(Account::complete(home.path(), ended()), ended());
        let account = Account { isolation: Isolation::Untrusted, fuel: Some(7) };
        account.leave(home.path()).unwrap();
        let complete = Account::complete(home.path(), ended());
        assert_eq!((complete.isolation, complete.usage.fuel), (Isolation::Untrusted, Some(7)));
        assert_eq!(Account::take(home.path()), None);
        let elsewhere = tempfile::tempdir().unwrap();
        account.leave(elsewhere.path()).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join(NAME), home.path().join(NAME)).unwrap();
        assert_eq!(Account::take(home.path()), None, "a link was followed");
        let made = std::process::Command::new("mkfifo").arg(home.path().join(NAME)).status().unwrap();
        assert!(made.success());
        assert_eq!(Account::take(home.path()), None, "a pipe was believed");
    }
}
