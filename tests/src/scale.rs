//! How much of a thing a test does: little for every change, all of it for a release.

/// Set to anything for the full scale.
const VARIABLE: &str = "JOBMESH_FULL";

/// `full` if the environment asks for the full scale, else `brief`.
#[must_use]
pub fn scaled(brief: usize, full: usize) -> usize {
    if std::env::var_os(VARIABLE).is_some() { full } else { brief }
}
