//! What a run proves itself by on the socket of tasks.
//!
//! A token is the keyed BLAKE3 hash of the run's name, under a key of the node. Nothing has to be kept for it, so a run
//! that outlives its daemon speaks to the next one as before. It keeps jobs from speaking for each other by mistake,
//! or by guess from inside a sandbox; another program of the same user can read the key, as it can everything else.

use jobmesh_keys::key_file::{self, KeyFileError};
use jobmesh_protocol::RunId;

use crate::home::Home;

/// The name of the key's file. It has the format of the other keys: 32 bytes, for the owner only.
const KEY_NAME: &str = "task.key";

/// Makes and checks tokens.
#[derive(Clone)]
pub(in crate::runtime) struct Tokens {
    key: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the key; at the first start it is made of `fresh`.
    pub(in crate::runtime) fn load(home: &Home, fresh: [u8; 32]) -> Result<Self, KeyFileError> {
        let kept = key_file::load_or_create(home.path(), KEY_NAME, || fresh)?;
        Ok(Self { key: kept.to_seed() })
    }

    /// What a run is given as `JOBMESH_TOKEN`.
    pub(in crate::runtime) fn token(&self, run: RunId) -> String {
        self.hash(run).to_hex().as_str().to_owned()
    }

    /// Whether `token` is that of the run. Takes as long for a good guess as for a bad one.
    pub(in crate::runtime) fn is_of(&self, run: RunId, token: &str) -> bool {
        blake3::Hash::from_hex(token).is_ok_and(|given| given == self.hash(run))
    }

    fn hash(&self, run: RunId) -> blake3::Hash {
        blake3::keyed_hash(&self.key, run.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::PermissionsExt as _;

    use jobmesh_protocol::{Epoch, JobId};

    use super::*;

    #[test]
    fn a_token_is_good_for_its_run_after_a_restart_and_for_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&folder.path().join("home"))).unwrap();
        home.create().unwrap();
        let run = RunId { job: JobId::from_bytes([7; 16]), epoch: Epoch(1) };
        let token = Tokens::load(&home, [1; 32]).unwrap().token(run);
        let later = Tokens::load(&home, [2; 32]).unwrap();
        assert!(later.is_of(run, &token));
        assert!(!later.is_of(RunId { epoch: Epoch(2), ..run }, &token));
        for wrong in ["", "00", &token.replace(['0', '1', '2', '3'], "4"), &format!("{token}0")] {
            assert!(!later.is_of(run, wrong), "{wrong}");
        }
        let mode = std::fs::metadata(home.path().join(KEY_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(format!("{later:?}"), "Tokens { .. }");
    }
}
