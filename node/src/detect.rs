//! What this machine has, found out once at start.

mod cpus;
#[cfg(test)]
mod fixture;
mod gpus;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;

use jobmesh_engine::Detected;
use jobmesh_engine::pool::PoolKind;
use jobmesh_executors::Probe;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::resource::{Amount, Name};
use jobmesh_protocol::{Isolation, Tag};

/// Looks at the machine. `slots` is how many jobs the owner lets run at once, `pools` what they may take, `probes` what the
/// executors found.
///
/// Attributes are `os`, `arch`, `kernel`, `cpus` and, where the system says it, `memory` in bytes.
#[must_use]
pub fn detect(slots: u32, pools: BTreeMap<Name, PoolKind>, probes: &[Probe]) -> Detected {
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
    let own = ["noop", "builtin"].map(str::to_owned);
    let executors = probes.iter().filter(|probe| probe.isolation.is_some()).map(|probe| probe.executor.to_owned());
    let tags = own.into_iter().chain(executors).filter_map(|name| format!("executor:{name}").parse().ok());
    let tags: BTreeSet<Tag> = tags.chain(probes.iter().flat_map(tags_of)).collect();
    Detected { tags, attributes, pools, slots }
}

/// How well an executor keeps tasks apart, and what else it knows.
fn tags_of(probe: &Probe) -> Vec<Tag> {
    let levels = probe.isolation.unwrap_or(Isolation::None).tags_up_to(probe.executor);
    let others = probe.tags.iter().filter(|_| probe.isolation.is_some()).filter_map(|tag| tag.parse().ok());
    levels.chain(others).collect()
}

/// Looks for what jobs can be given: processors by NUMA node, memory in bytes, and graphics processors by vendor.
///
/// Only what this process may use counts: its affinity mask and its control groups' limits hold for its jobs too.
/// What there is none of, or what the system doesn't tell, has no pool.
#[must_use]
pub fn detect_pools() -> BTreeMap<Name, PoolKind> {
    let root = Path::new("/");
    // Knows of quotas on processor time besides the mask.
    let parallelism = std::thread::available_parallelism().map_or(1, NonZero::get);
    let memory = memory_bytes();
    let visible = |variable: &str| std::env::var(variable).ok();
    let found = [
        (Name::CPUS, Some(cpus::pool(root, parallelism))),
        (Name::MEM, (memory > 0).then(|| PoolKind::Sum(Amount::whole(memory)))),
        (Name::GPUS_NVIDIA, gpus::nvidia(root, visible("CUDA_VISIBLE_DEVICES").as_deref())),
        (Name::GPUS_AMD, gpus::amd(root, visible("ROCR_VISIBLE_DEVICES").as_deref())),
    ];
    found.into_iter().filter_map(|(name, kind)| Some((name, kind?))).collect()
}

/// The memory that this node may use: the machine's, or what its control groups are given of it.
pub(crate) fn memory_bytes() -> u64 {
    memory::limit_bytes(Path::new("/")).unwrap_or(u64::MAX).min(installed_bytes())
}

/// All of the machine's memory.
#[cfg(target_os = "linux")]
fn installed_bytes() -> u64 {
    let found = rustix::system::sysinfo();
    // Both fields are as wide as the machine's words, so the conversions are no-ops on 64 bits.
    #[expect(clippy::useless_conversion, reason = "the field is 32 bits wide on some machines")]
    u64::from(found.totalram).saturating_mul(u64::from(found.mem_unit))
}

/// Not known here without a system call of its own: jobs that ask for memory then go elsewhere.
#[cfg(not(target_os = "linux"))]
fn installed_bytes() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use jobmesh_engine::pool::Pools;

    use super::*;

    #[test]
    fn the_machine_has_a_processor_and_runs_processes() {
        let probe = |executor, isolation| Probe {
            executor,
            isolation,
            tags: [format!("{executor}:extra")].into(),
            facts: BTreeMap::new(),
            lacks: Vec::new(),
        };
        let probes = [
            probe("process", Some(Isolation::Sandboxed)),
            probe("container", None),
            probe("llm", Some(Isolation::Contained)),
        ];
        let found = detect(3, detect_pools(), &probes);
        let tags: Vec<&str> = found.tags.iter().map(Tag::as_str).collect();
        let expected = [
            "executor:builtin",
            "executor:llm",
            "executor:noop",
            "executor:process",
            "isolation:process:sandboxed",
            "llm:extra",
            "process:extra",
        ];
        assert_eq!(tags, expected);
        assert_eq!(found.slots, 3);
        assert!(found.pools.contains_key(&Name::CPUS));
        assert!(found.tags.iter().any(|tag| tag.as_str() == "executor:process"));
        assert_eq!(found.attributes.get("os"), Some(&Value::Text(std::env::consts::OS.to_owned())));
    }

    #[test]
    fn the_pools_of_this_machine_can_be_used() {
        let pools = Pools::new(detect_pools()).unwrap();
        assert!(pools.could_ever(&"cpus=1".parse().unwrap()).is_ok());
        #[cfg(target_os = "linux")]
        assert!(pools.total().amount(&Name::MEM) <= Amount::whole(memory_bytes()));
    }
}
