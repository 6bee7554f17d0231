//! What is where in the directory of a run.
//!
//! | name | what |
//! |---|---|
//! | `work` | where it works, unless it was given a place |
//! | `stdout`, `stderr` | its logs |
//! | `outcome` | what it says of its own end |
//! | `result` | its result |
//! | `words`, `exchange` | in place of the last two, what a sandbox or a container is shown until its end |
//! | `account` | what a worker leaves of itself |
//! | `sandbox-failure` | why a sandbox was not made |

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::files::remove_tree;
use crate::output::Stream;

/// Who may enter a run's directories: their owner.
pub(crate) const MODE: u32 = 0o700;

/// Where the log of `stream` lies in the directory of a run, while it runs and after.
#[must_use]
pub fn log_path(directory: &Path, stream: Stream) -> PathBuf {
    directory.join(stream.file_name())
}

/// Where a run may write its result, in its directory.
#[must_use]
pub fn result_path(directory: &Path) -> PathBuf {
    directory.join("result")
}

/// Where a run may say how it ended, in its directory.
pub(crate) fn outcome_path(directory: &Path) -> PathBuf {
    directory.join("outcome")
}

/// Where a run works unless it was given a place, in its directory.
pub(crate) fn work_path(directory: &Path) -> PathBuf {
    directory.join("work")
}

/// Makes a directory and those above it, for the owner only. It may exist.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(MODE).create(path)
}

/// Puts what a run left about its end in `from`, which was shown to it as a directory of its own, where it is looked for in
/// the run's directory. If there is no such directory there is nothing to do.
///
/// The run could write there and to nothing beside it, so neither a link nor anything else of its making decides where
/// something is put. Names are moved, so a link stays one and is refused by whoever reads it.
pub(crate) fn bring_out(from: &Path, directory: &Path) {
    for place in [outcome_path(directory), result_path(directory)] {
        let Some(name) = place.file_name() else { continue };
        match fs::rename(from.join(name), &place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %place.display(), %error, "failed to take what a run left about its end");
            }
            Ok(()) | Err(_) => {}
        }
    }
    if let Err(error) = remove_tree(from) {
        tracing::warn!(path = %from.display(), %error, "failed to remove what a run left beside that");
    }
}
