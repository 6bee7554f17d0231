//! Room set aside on the disk for the day it is full.
//!
//! A full disk must not keep a job that has ended from being written down as ended, and SQLite needs room even to
//! delete. So a file of no content is kept beside the database, and given up at the first sign of a full disk: what
//! runs can then be finished, while new work is refused until there is room for the file again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What SQLite may need at once: a whole write-ahead log of 1,000 pages, copied into the database.
const BYTES: usize = 4 * 1024 * 1024;
/// How often the file is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The file, there or given up.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    given_up_at: Option<Instant>,
}

impl Ballast {
    /// Sets the room aside. A disk that is too full for it counts as full from the start.
    pub(super) fn load(directory: &Path) -> Self {
        let mut ballast = Self { path: directory.join("ballast"), given_up_at: None };
        if ballast.write().is_err() {
            ballast.drop_it();
        }
        ballast
    }

    /// Whether the disk is full, as far as is known.
    const fn is_gone(&self) -> bool {
        self.given_up_at.is_some()
    }

    /// Whether the disk is full, after another try if the last one was some time ago.
    pub(super) fn is_still_gone(&mut self) -> bool {
        self.reload();
        self.is_gone()
    }

    /// Gives the room up. False if that was done before.
    pub(super) fn drop_it(&mut self) -> bool {
        let was_there = fs::remove_file(&self.path).is_ok();
        self.given_up_at = Some(Instant::now());
        was_there
    }

    /// Sets the room aside again, if it was given up and some time has passed.
    pub(super) fn reload(&mut self) {
        if self.given_up_at.is_none_or(|at| at.elapsed() < AGAIN) {
            return;
        }
        match self.write() {
            Ok(()) => {
                tracing::info!("there is room on the disk again");
                self.given_up_at = None;
            }
            Err(_) => {
                self.drop_it();
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES as u64) {
            return Ok(());
        }
        let mut file = File::create(&self.path)?;
        file.write_all(&vec![0; BYTES])?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a broken fixture is a failed test")]
    use super::*;

    #[test]
    fn the_room_is_set_aside_given_up_and_not_taken_back_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::load(folder.path());
        assert!(!ballast.is_gone());
        assert!(ballast.drop_it());
        assert!(!folder.path().join("ballast").exists());
        ballast.reload();
        assert!(ballast.is_gone(), "a disk that was full a moment ago still is");
        assert!(!ballast.drop_it());
    }
}
