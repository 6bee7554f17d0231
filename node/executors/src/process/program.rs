//! Which file a program's name means.
//!
//! It is looked up here, in the daemon's PATH, and given to the system by its whole path. That keeps the lookup apart
//! from the PATH that the job sees, tells "not found" from "not executable", and lets the standard library take
//! `posix_spawn`, which is a quarter faster than a fork.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Access;

/// How long an answer is used again without looking: one second. Nobody installs a program and expects the job that
/// started in the same second to be the new one.
const FRESH: Duration = Duration::from_secs(1);

/// Longest program name or PATH in a message, in characters.
const SHOWN_MAX: usize = 256;

/// Why a name means no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    #[error("program {program:?} was not found in PATH ({path})")]
    NotFound { program: String, path: String },
    #[error("program {program:?} is not executable; try `chmod +x`")]
    NotExecutable { program: String },
}

/// The answer that was given last, for jobs that run the same program again and again.
#[derive(Debug, Default)]
pub(super) struct Programs {
    last: Option<Found>,
}

#[derive(Debug)]
struct Found {
    program: String,
    path: OsString,
    file: PathBuf,
    at: Instant,
}

impl Programs {
    /// The file of a program: as it is if it has a slash, else in `path`.
    pub(super) fn find(&mut self, program: &str, path: &OsStr) -> Result<PathBuf, FindError> {
        if program.contains('/') {
            return Ok(PathBuf::from(program));
        }
        if let Some(found) = &self.last
            && found.program == program
            && found.path == path
            && found.at.elapsed() < FRESH
        {
            return Ok(found.file.clone());
        }
        let file = search(program, path)?;
        let (file_found, at) = (file.clone(), Instant::now());
        self.last = Some(Found { program: program.to_owned(), path: path.to_owned(), file: file_found, at });
        Ok(file)
    }

    /// Forgets the last answer. `true` if there was one, so that looking again may give another.
    pub(super) fn forget(&mut self) -> bool {
        self.last.take().is_some()
    }
}

/// Looks for `program` in the directories of `path`. Unlike execvp it leaves out empty and relative ones: what the
/// directory of a job holds must not decide which program runs.
fn search(program: &str, path: &OsStr) -> Result<PathBuf, FindError> {
    let mut found = false;
    for directory in std::env::split_paths(path).filter(|directory| directory.is_absolute()) {
        let file = directory.join(program);
        if !Path::is_file(&file) {
            continue;
        }
        if rustix::fs::access(&file, Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        found = true;
    }
    let program = shown(program);
    if found {
        return Err(FindError::NotExecutable { program });
    }
    Err(FindError::NotFound { program, path: path.to_string_lossy().chars().take(SHOWN_MAX).collect() })
}

/// A program's name as it stands in a message.
pub(super) fn shown(program: &str) -> String {
    program.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_search_tells_missing_from_not_executable_and_skips_relative_directories() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("plain"), "x").unwrap();
        let path = std::env::join_paths([Path::new("."), Path::new(""), home.path()]).unwrap();
        assert!(matches!(search("plain", &path), Err(FindError::NotExecutable { .. })));
        assert!(matches!(search("Cargo.toml", &path), Err(FindError::NotFound { .. })));
        assert_eq!(search("sh", OsStr::new("/bin")).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn an_answer_is_used_again_until_it_is_forgotten() {
        let mut programs = Programs::default();
        assert_eq!(programs.find("sh", OsStr::new("/bin")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(programs.find("sh", OsStr::new("/bin")).unwrap(), Path::new("/bin/sh"));
        assert!(programs.forget() && !programs.forget());
        assert!(programs.find("sh", OsStr::new("/none")).is_err());
    }
}
