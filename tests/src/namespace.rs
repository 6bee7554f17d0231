//! A test that mounts file systems does so where nobody else sees them: in a copy of itself with mounts of its own.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

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
