//! Processors, by NUMA node, as far as this process may use them.
//!
//! The hard case is a container: it sees all of the machine's processors, may run on some of them, and may have a
//! quota of time that is worth fewer still. With a quota it does not matter which processors are left out, so the
//! last ones are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jobmesh_engine::pool::{GROUPS_MAX, INDICES_MAX, Label, PoolKind};

/// Processors and nodes are numbered below this, whatever the kernel's files claim. Linux is built for up to 8192
/// processors and 1024 nodes.
const NUMBERS_MAX: u32 = 8192;

/// The processors below `root` that this process may use, `parallelism` of them at most.
///
/// Where the system doesn't say which those are, they are numbered from 0.
pub(super) fn pool(root: &Path, parallelism: usize) -> PoolKind {
    let mut left = parallelism.clamp(1, INDICES_MAX);
    let mut groups = Vec::new();
    for group in numa_groups(root).unwrap_or_default() {
        let labels: Vec<Label> = group.into_iter().take(left).map(Label::from).collect();
        left -= labels.len();
        if !labels.is_empty() {
            groups.push(labels);
        }
    }
    if groups.is_empty() {
        return PoolKind::numbered(u32::try_from(left).unwrap_or(1));
    }
    if groups.len() > GROUPS_MAX {
        groups = vec![groups.into_iter().flatten().collect()];
    }
    PoolKind::Indices { groups }
}

/// The processors that are online and allowed, by node; those of no node come last.
fn numa_groups(root: &Path) -> Option<Vec<BTreeSet<u32>>> {
    let mut usable = read_list(&root.join("sys/devices/system/cpu/online"))?;
    if let Some(allowed) = allowed(root) {
        usable.retain(|cpu| allowed.contains(cpu));
    }
    let mut groups = Vec::new();
    for node in nodes(&root.join("sys/devices/system/node")) {
        let listed = read_list(&root.join(format!("sys/devices/system/node/node{node}/cpulist"))).unwrap_or_default();
        let group: BTreeSet<u32> = listed.intersection(&usable).copied().collect();
        usable.retain(|cpu| !group.contains(cpu));
        groups.push(group);
    }
    groups.push(usable);
    Some(groups)
}

/// The numbers of the nodes, smallest first.
fn nodes(folder: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("node")?.parse().ok().filter(|number| *number < NUMBERS_MAX);
    entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect()
}

/// The process's affinity mask, which the kernel also writes as text.
fn allowed(root: &Path) -> Option<BTreeSet<u32>> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_list(list)
}

fn read_list(file: &Path) -> Option<BTreeSet<u32>> {
    parse_list(&fs::read_to_string(file).ok()?)
}

/// Reads a list as the kernel writes it: `0-3,8,10-11`. Empty for a node that has memory only.
fn parse_list(text: &str) -> Option<BTreeSet<u32>> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < NUMBERS_MAX);
    let mut found = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        found.extend(number(first)?..=number(last)?);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::fixture::tree;
    use super::*;

    const TWO_NODES: [(&str, &str); 4] = [
        ("sys/devices/system/cpu/online", "0-7,9\n"),
        ("sys/devices/system/node/node0/cpulist", "0-3\n"),
        ("sys/devices/system/node/node1/cpulist", "4-7\n"),
        ("sys/devices/system/node/possible", "0-1\n"),
    ];

    fn shown(files: &[(&str, &str)], parallelism: usize) -> String {
        pool(tree(files).path(), parallelism).to_string()
    }

    #[test]
    fn processors_are_grouped_by_node() {
        assert_eq!(shown(&TWO_NODES, 64), "[[0,1,2,3],[4,5,6,7],[9]]");
        let memory_only = [&TWO_NODES[..], &[("sys/devices/system/node/node2/cpulist", "\n")]].concat();
        assert_eq!(shown(&memory_only, 64), "[[0,1,2,3],[4,5,6,7],[9]]");
        assert_eq!(shown(&TWO_NODES[..1], 64), "[0,1,2,3,4,5,6,7,9]");
    }

    #[test]
    fn nodes_are_in_the_order_of_their_numbers() {
        let files = [
            ("sys/devices/system/cpu/online", "0-2"),
            ("sys/devices/system/node/node10/cpulist", "0"),
            ("sys/devices/system/node/node2/cpulist", "1"),
            ("sys/devices/system/node/nodes/cpulist", "2"),
        ];
        assert_eq!(shown(&files, 3), "[[1],[0],[2]]");
    }

    #[test]
    fn only_what_the_process_may_use_is_offered() {
        let status = ("proc/self/status", "Name:\tx\nCpus_allowed:\t3c\nCpus_allowed_list:\t2-5\nMems_allowed:\t1\n");
        let masked = [&TWO_NODES[..], &[status]].concat();
        assert_eq!(shown(&masked, 4), "[[2,3],[4,5]]");
        assert_eq!(shown(&masked, 3), "[[2,3],[4]]", "a quota of three processors' time");
        assert_eq!(shown(&masked, 0), "[2]", "there is always one");
    }

    #[test]
    fn what_the_system_does_not_say_is_counted() {
        assert_eq!(shown(&[], 3), "[0,1,2]");
        assert_eq!(shown(&[("sys/devices/system/cpu/online", "what?")], 2), "[0,1]");
        assert_eq!(shown(&[("sys/devices/system/cpu/online", "0-99999999")], 2), "[0,1]");
        let none = [TWO_NODES[0], ("proc/self/status", "Cpus_allowed_list:\t64\n")];
        assert_eq!(shown(&none, 2), "[0,1]");
    }

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse_list("0-2,5\n").unwrap(), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(parse_list("\n").unwrap(), BTreeSet::new());
        for text in ["a", "1-", "-1", "1-2-3", "8192", "0x1"] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }
}
