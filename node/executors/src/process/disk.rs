//! How much of the disk a run uses, by measuring it now and then.
//!
//! The kernel bounds each file (see the sandbox's limits); only measuring bounds their sum without a file system of the
//! run's own. The hard case is a tree that is made to be hard to measure: names deeper than a path can be, directories
//! that can't be read or entered, entries without a byte. The first two count as too much, and each entry counts as
//! something.
//!
//! A file that has no name any more is in no directory, and takes its room until nobody holds it open: those are counted
//! among what the run's processes hold ([`unlinked`]).

mod unlinked;

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::directory::work_path;
use crate::process::deadline;
use crate::process::limit::Breach;
use crate::sandbox;

/// Shortest time between two measurements.
const REST_MIN: Duration = Duration::from_secs(1);

/// The next measurement is so many times as far away as the last one took: measuring takes a twentieth of one processor.
const REST_FACTOR: u32 = 20;

/// What an entry takes at least: a node and a name.
const ENTRY_BYTES: u64 = 1024;

/// The watch over what one run writes.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    places: [PathBuf; 2],
    bytes_max: u64,
    next: Instant,
}

impl Disk {
    /// Watches the run of this directory.
    pub(super) fn new(directory: &Path, bytes_max: u64) -> Self {
        Self::over(directory, sandbox::words_path(directory), bytes_max)
    }

    /// Watches a run that can write to its working directory and to this one.
    pub(crate) fn over(directory: &Path, beside: PathBuf, bytes_max: u64) -> Self {
        let places = [work_path(directory), beside];
        Self { directory: directory.to_owned(), places, bytes_max, next: deadline(REST_MIN) }
    }

    /// What the run is guilty of if it uses more than it may.
    pub(crate) const fn breach(&self) -> Breach {
        Breach::Disk { bytes_max: self.bytes_max }
    }

    /// When it is time to look again.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Whether it uses more than it may, if it is time to look. `holders` names its processes.
    pub(super) fn look(&mut self, holders: impl FnOnce() -> BTreeSet<u32>) -> bool {
        Instant::now() >= self.next && self.look_now(holders)
    }

    /// Whether it uses more than it may. `holders` names its processes.
    pub(crate) fn look_now(&mut self, holders: impl FnOnce() -> BTreeSet<u32>) -> bool {
        let began = Instant::now();
        let mut left = self.bytes_max;
        let has_room = self.places.iter().all(|place| fits(place, &mut left));
        let is_beyond = !has_room || !unlinked::fit(&self.directory, &holders(), &mut left);
        self.next = deadline(REST_MIN.max(began.elapsed().saturating_mul(REST_FACTOR)));
        is_beyond
    }
}

/// Takes what is in a directory from what is left. `false` if it is more, or can't be told.
fn fits(place: &Path, left: &mut u64) -> bool {
    let mut directories = vec![place.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // It went meanwhile, or was never there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return false,
        };
        for entry in entries {
            let found = match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Whoever may list a directory and not enter it sees the names of files, and not how large they are.
                Err(_) => return false,
            };
            let (found, entry) = found;
            if !take(&found, left) {
                return false;
            }
            if found.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    true
}

/// Takes one thing from what is left. `false` if it is more.
fn take(found: &Metadata, left: &mut u64) -> bool {
    let rest = left.checked_sub(found.blocks().saturating_mul(512).max(ENTRY_BYTES));
    *left = rest.unwrap_or_default();
    rest.is_some()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn bytes_count_and_so_do_names() {
        let home = tempfile::tempdir().unwrap();
        let work = work_path(home.path());
        fs::create_dir_all(work.join("deeper")).unwrap();
        let is_beyond = |bytes_max| Disk::new(home.path(), bytes_max).look_now(BTreeSet::new);
        assert!(!is_beyond(100_000));
        fs::write(work.join("deeper/file"), vec![1; 200_000]).unwrap();
        assert!(is_beyond(100_000) && !is_beyond(300_000));
        for number in 0..100 {
            fs::write(work.join(number.to_string()), "").unwrap();
        }
        assert!(is_beyond(300_000));
        assert!(!Disk::new(Path::new("/nowhere"), 0).look_now(BTreeSet::new));
    }

    /// A run that isn't root's took the right to enter its directory away, and wrote on by what it held open.
    #[test]
    fn a_directory_that_can_not_be_entered_is_too_much() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let work = work_path(home.path());
        fs::create_dir_all(&work).unwrap();
        fs::write(work.join("file"), "").unwrap();
        fs::set_permissions(&work, fs::Permissions::from_mode(0o400)).unwrap();
        // Root enters it all the same.
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(Disk::new(home.path(), 1 << 30).look_now(BTreeSet::new), !is_root);
        fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_tree_that_is_too_deep_for_a_path_is_too_much() {
        let home = tempfile::tempdir().unwrap();
        let script = "mkdir work && cd work && n=0; while [ $n -lt 30 ]; do \
                      d=$(printf %0200d 0); mkdir $d && cd -P $d; n=$((n+1)); done";
        let made = std::process::Command::new("sh").args(["-c", script]).current_dir(home.path()).status().unwrap();
        let is_beyond = Disk::new(home.path(), 1 << 30).look_now(BTreeSet::new);
        // Taken away by the shell as well: no path reaches the last of them.
        std::process::Command::new("rm").arg("-rf").arg(home.path().join("work")).status().unwrap();
        assert!(made.success() && is_beyond);
    }
}
