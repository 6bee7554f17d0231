//! What tests need of the machine beside what every machine has.

/// What tests need of the machine beside what every machine has.
#[derive(Clone, Copy, Debug)]
pub struct Tools;

impl Tools {
    /// Says that something is skipped for want of a tool.
    ///
    /// # Panics
    /// Where the tools are required (`JOBMESH_REQUIRE_TOOLS=1`).
    pub fn missing(what: &str, lacks: &str) {
        let is_required = std::env::var_os("JOBMESH_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!is_required, "{what} can't be tested: {lacks}");
        eprintln!("SKIPPED {what}: {lacks}");
    }
}
