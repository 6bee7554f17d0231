//! What this machine has, found out once at start.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Detected;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::{Resources, Tag};

/// Looks at the machine. `slots` is how many jobs the owner lets run at once.
///
/// Attributes are `os`, `arch`, `kernel`, `cpus` and, where the system says it, `memory` in bytes.
#[must_use]
pub fn detect(slots: u32) -> Detected {
    let cpus = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let memory = memory_bytes();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let text = |text: &str| Value::Text(text.to_owned());
    let mut attributes = BTreeMap::from([
        ("os".to_owned(), text(std::env::consts::OS)),
        ("arch".to_owned(), text(std::env::consts::ARCH)),
        ("kernel".to_owned(), text(&kernel)),
        ("cpus".to_owned(), Value::Number(u64::from(cpus))),
    ]);
    if memory > 0 {
        attributes.insert("memory".to_owned(), Value::Number(memory));
    }
    let tags: BTreeSet<Tag> = ["executor:process"].into_iter().filter_map(|tag| tag.parse().ok()).collect();
    Detected {
        tags,
        attributes,
        resources: Resources { cpu_milli: cpus.saturating_mul(1000), memory_bytes: memory },
        slots,
    }
}

/// All of the machine's memory.
#[cfg(target_os = "linux")]
fn memory_bytes() -> u64 {
    let found = rustix::system::sysinfo();
    // Both fields are as wide as the machine's words, so the conversions are no-ops on 64 bits.
    #[expect(clippy::useless_conversion, reason = "the field is 32 bits wide on some machines")]
    u64::from(found.totalram).saturating_mul(u64::from(found.mem_unit))
}

/// Not known here without a system call of its own: jobs that ask for memory then go elsewhere.
#[cfg(not(target_os = "linux"))]
fn memory_bytes() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_processor_and_runs_processes() {
        let found = detect(3);
        assert_eq!(found.slots, 3);
        assert!(found.resources.cpu_milli >= 1000);
        assert!(found.tags.iter().any(|tag| tag.as_str() == "executor:process"));
        assert_eq!(found.attributes.get("os"), Some(&Value::Text(std::env::consts::OS.to_owned())));
    }
}
