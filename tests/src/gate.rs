//! A place at which a job waits until the test lets it go on: a named pipe, which the job reads and nobody writes to.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::path::Path;
use std::process::Command;

/// A place at which one job waits.
#[derive(Debug)]
pub struct Gate {
    path: String,
}

impl Gate {
    /// Makes a gate in a folder.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name).to_string_lossy().into_owned();
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
        assert!(made.success(), "no pipe could be made at {path}");
        Self { path }
    }

    /// What a job reads to wait here: `cat PATH`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Waits until a job stands here, and lets it go on.
    ///
    /// # Panics
    /// If none comes within a minute.
    pub fn open(&self) {
        let opened = Command::new("timeout").args(["60", "sh", "-c", ": > \"$0\"", &self.path]).status();
        assert!(opened.expect("timeout starts").success(), "no job came to {}", self.path);
    }
}
