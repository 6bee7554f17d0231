//! A test that mounts file systems does so where nobody else sees them: in a copy of itself with mounts of its own.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the copy.
const VARIABLE: &str = "JOBMESH_TEST_MOUNTS";

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With mounts of its own: go on.
    Inside,
    /// The copy has done the work, or this machine allows no such thing and it said so.
    Outside,
}

/// Runs the test of this name once more in mounts of its own, and says which of the two runs this is.
///
/// # Panics
/// If the copy fails.
#[must_use]
pub fn private_mounts(test: &str) -> Place {
    if std::env::var_os(VARIABLE).is_some() {
        return Place::Inside;
    }
    let can = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        let said = can.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        eprintln!("SKIPPED {test}: this machine allows no mounts of one's own: {said}");
        return Place::Outside;
    }
    let binary = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new("unshare");
    command.arg("-rm").arg(binary).args(["--exact", test, "--nocapture"]).env(VARIABLE, "1");
    let output = command.output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Place::Outside
}

/// A small file system of its own at a directory, for as long as this lives.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
}

impl Mount {
    /// Mounts an empty file system in memory, with these options beside its mode.
    ///
    /// # Panics
    /// If it can't be mounted: only inside of [`private_mounts`] it can.
    #[must_use]
    pub fn new(directory: PathBuf, options: &str) -> Self {
        std::fs::create_dir(&directory).expect("a directory to mount at");
        let mount = Self { directory };
        mount.mount(&["-t", "tmpfs", "-o", &format!("mode=700,{options}"), "tmpfs"]);
        mount
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Mounts it again with other options, such as `ro`.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn change(&self, options: &str) {
        self.mount(&["-o", &format!("remount,{options}")]);
    }

    fn mount(&self, arguments: &[&str]) {
        let output = Command::new("mount").args(arguments).arg(&self.directory).output().expect("mount starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Mount {
    /// Takes it away even while a daemon is still on it, so that the directory can be removed.
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}
