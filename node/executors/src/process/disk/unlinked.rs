//! The files without a name that the processes of a run hold open.
//!
//! Nothing but the lists of their descriptors leads to them. A file counts if it is on the disk of the run's directory:
//! what has no name in memory (`memfd`, `/dev/shm`) is counted as memory.
//!
//! The hard case is that there may be as many descriptors as a hostile run likes; so many that looking through them takes
//! long are too much. Not seen is what is only mapped, or on its way between two sockets: it is bounded by the kernel, each
//! file by the largest that the run may write.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::directory::log_path;
use crate::output::Stream;

/// Most descriptors that are looked through: 64 processes with as many as a sandboxed one may have. It takes half a second.
const DESCRIPTORS_MAX: u32 = 256 * 1024;

/// Takes what these processes hold open and has no name from what is left. `false` if it is more, or can't be told.
pub(super) fn fit(directory: &Path, holders: &BTreeSet<u32>, left: &mut u64) -> bool {
    let devices = devices(directory);
    let (mut looked, mut seen) = (0_u32, BTreeSet::new());
    for holder in holders {
        // It has ended, or is one that its own user may not look into; a sandboxed one never is.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{holder}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            looked += 1;
            if looked > DESCRIPTORS_MAX {
                return false;
            }
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            let is_unlinked = found.nlink() == 0 && found.is_file() && devices.contains(&found.dev());
            if is_unlinked && seen.insert((found.dev(), found.ino())) && !super::take(&found, left) {
                return false;
            }
        }
    }
    true
}

/// What the disk of a run's directory is called. Some file systems of several layers have a name of their own for what is
/// in a directory, so one of our own files there is asked, too.
fn devices(directory: &Path) -> BTreeSet<u64> {
    let places = [directory.to_owned(), log_path(directory, Stream::Stdout)];
    places.iter().filter_map(|place| Some(fs::symlink_metadata(place).ok()?.dev())).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_has_no_name_counts_once_and_what_has_one_not_here() {
        let home = tempfile::tempdir().unwrap();
        let script = "exec 3>named 4>unnamed; head -c 16M /dev/zero >&3; head -c 4M /dev/zero >&4; \
                      rm unnamed; exec 5>&4; echo ready; read line";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(home.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let fits = |mut left| fit(home.path(), &BTreeSet::from([child.id()]), &mut left);
        assert!(!fits(3 * MIB) && fits(6 * MIB));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
