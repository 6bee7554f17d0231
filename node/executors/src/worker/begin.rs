//! How every interpreter begins: it reads its guest, raises its walls, and writes down how well they stand.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::brief::{Brief, Walls};
use super::confine::{Allowance, ConfineError, confine};
use super::{Account, End};
use crate::event::chain;
use crate::process::size;

/// Why a guest did not run. What it is called, such as `module`, comes first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("failed to read the {guest} at {}; was it fetched to this node?", path.display())]
    Read { guest: &'static str, path: PathBuf, source: io::Error },
    #[error("{}", too_large(guest, *bytes_max))]
    TooLarge { guest: &'static str, bytes_max: u64 },
    #[error("failed to open the working directory")]
    Work(#[source] io::Error),
    #[error("the {guest} can't be kept apart from the machine")]
    Confine { guest: &'static str, source: ConfineError },
    #[error("failed to write down how the {guest} is kept apart; check the disk's space")]
    Account { guest: &'static str, source: io::Error },
}

/// What is said of a guest that is not even looked at.
pub(crate) fn too_large(guest: &str, bytes_max: u64) -> String {
    format!("the {guest} is larger than {}, the most that a {guest} may have", size(bytes_max))
}

impl BeginError {
    /// What it means for the job: would it fail again?
    pub(crate) fn end(&self) -> End {
        match self {
            Self::Read { .. } | Self::Work(_) | Self::Confine { .. } | Self::Account { .. } => End::error(chain(self)),
            Self::TooLarge { .. } => End::permanent(chain(self)),
        }
    }
}

/// Does the work of an interpreter: `run` with what this process was told.
pub(crate) fn interpret<P: DeserializeOwned>(run: impl FnOnce(Brief<P>) -> End) -> ExitCode {
    match Brief::read() {
        Ok(brief) => {
            let directory = brief.directory.clone();
            run(brief).tell(&directory)
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The bytes of a guest. This process has no limits yet, and what lies there need not be what the job named.
pub(crate) fn read_guest(guest: &'static str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, BeginError> {
    let failed = |source| BeginError::Read { guest, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max { Err(BeginError::TooLarge { guest, bytes_max }) } else { Ok(bytes) }
}

/// Raises the walls around this process, and leaves the account that says how well its guest is kept apart.
pub(crate) fn raise_walls<P>(
    guest: &'static str,
    brief: &Brief<P>,
    allowed: Allowance<'_>,
) -> Result<Account, BeginError> {
    match (confine(allowed), brief.walls) {
        (Ok(()), _) | (Err(_), Walls::AsFound) => {}
        (Err(source), Walls::Required) => return Err(BeginError::Confine { guest, source }),
    }
    let account = Account { isolation: brief.isolation, fuel: None };
    account.leave(&brief.directory).map_err(|source| BeginError::Account { guest, source })?;
    Ok(account)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_guest_is_read_up_to_its_limit_and_what_stops_it_says_whether_to_try_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest");
        let missing = read_guest("script", &path, 4).unwrap_err();
        assert!(missing.to_string().contains("was it fetched to this node?"), "{missing}");
        assert_eq!(missing.end(), End::error(chain(&missing)));
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_guest("script", &path, 4).unwrap(), b"1234");
        std::fs::write(&path, "12345").unwrap();
        let long = read_guest("script", &path, 4).unwrap_err();
        assert_eq!(long.end(), End::permanent(too_large("script", 4)));
    }
}
