//! The memory that the control groups around this process leave it, in both versions of them.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The lowest limit in bytes that a control group sets on this process; `None` if none does.
///
/// A limit holds for everything below the group that has it, so each group up to the root is asked. A container
/// often sees only its own part of the tree, mounted as if it were the root, under a path that means something
/// outside only; then the walk up ends there.
pub(super) fn limit_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().filter_map(Membership::parse).filter_map(|membership| membership.limit_bytes(root)).min()
}

/// A line of `/proc/self/cgroup`: the group of this process in one tree.
struct Membership {
    /// Where the tree may be mounted, below the root.
    mounts: &'static [&'static str],
    /// The file with the limit.
    file: &'static str,
    /// The group, below the mount.
    group: PathBuf,
}

impl Membership {
    /// Reads `0::/path` of version 2 or `4:memory:/path` of version 1; `None` for a tree that limits no memory.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        let (mounts, file): (&[&str], &str) = match (number, is_memory) {
            ("0", false) => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max"),
            (_, true) => (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes"),
            (_, false) => return None,
        };
        // A path that leads out of what is visible here (`/../x`) is not followed.
        let components = Path::new(path.trim_start_matches('/')).components();
        let group = components.take_while(|part| matches!(part, Component::Normal(_))).collect();
        Some(Self { mounts, file, group })
    }

    fn limit_bytes(&self, root: &Path) -> Option<u64> {
        let mounts = self.mounts.iter().map(|mount| root.join(mount));
        let folders = mounts.flat_map(|mount| self.group.ancestors().map(move |group| mount.join(group)));
        // A group without a limit says `max`, which is no number, or in version 1 a number beyond any machine.
        let limit = |folder: PathBuf| fs::read_to_string(folder.join(self.file)).ok()?.trim().parse().ok();
        folders.filter_map(limit).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::tree;
    use super::*;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        limit_bytes(tree(files).path())
    }

    #[test]
    fn the_lowest_limit_above_the_process_counts() {
        let files = [
            ("proc/self/cgroup", "0::/user/job\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/user/memory.max", "4096\n"),
            ("sys/fs/cgroup/user/job/memory.max", "8192\n"),
            ("sys/fs/cgroup/other/memory.max", "1\n"),
        ];
        assert_eq!(limit(&files), Some(4096));
    }

    #[test]
    fn a_limit_of_version_1_counts() {
        let files = [
            ("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/box\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1024\n"),
        ];
        assert_eq!(limit(&files), Some(1024));
    }

    #[test]
    fn a_container_finds_its_limit_at_the_root_that_it_sees() {
        let files =
            [("proc/self/cgroup", "4:memory:/docker/5f2c\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7")];
        assert_eq!(limit(&files), Some(7));
        let outside =
            [("proc/self/cgroup", "0::/../../x\n"), ("sys/fs/cgroup/memory.max", "9"), ("sys/fs/memory.max", "1")];
        assert_eq!(limit(&outside), Some(9));
    }

    #[test]
    fn there_may_be_no_limit() {
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("proc/self/cgroup", "0::/\nnonsense\n1:2\n"), ("sys/fs/cgroup/memory.max", "max")]), None);
    }
}
