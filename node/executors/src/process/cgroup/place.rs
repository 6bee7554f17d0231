//! Where in the file system a process's control groups are.

use std::fs;
use std::path::{Path, PathBuf};

/// The leaf of version 2 that a daemon moves itself into.
pub(super) const LEAF: &str = "jobmesh-daemon";

/// What a version 1 hierarchy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Pids,
}

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// This process's group in the version 1 hierarchy of one controller.
pub(super) fn own_v1(controller: Controller) -> Option<PathBuf> {
    let (groups, mounts) = read(std::process::id())?;
    v1(&groups, &mounts, controller)
}

/// This process's group in the version 2 hierarchy.
pub(super) fn own_v2() -> Option<PathBuf> {
    let (groups, mounts) = read(std::process::id())?;
    v2(&groups, &mounts)
}

/// The groups of a process in every hierarchy that we use.
pub(super) fn groups_of(pid: u32) -> Vec<PathBuf> {
    let Some((groups, mounts)) = read(pid) else { return Vec::new() };
    let v1 = [Controller::Memory, Controller::Pids].map(|controller| v1(&groups, &mounts, controller));
    v1.into_iter().flatten().chain(v2(&groups, &mounts)).collect()
}

fn read(pid: u32) -> Option<(String, String)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some((groups, fs::read_to_string("/proc/self/mountinfo").ok()?))
}

fn v1(groups: &str, mounts: &str, controller: Controller) -> Option<PathBuf> {
    let lists = |list: &str| list.split(',').any(|entry| entry == controller.name());
    let path = group_path(groups, lists)?;
    let mount = mounts.lines().filter_map(Mount::parse).find(|mount| mount.kind == "cgroup" && lists(mount.options))?;
    mount.locate(path)
}

fn v2(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = group_path(groups, str::is_empty)?;
    mounts.lines().filter_map(Mount::parse).find(|mount| mount.kind == "cgroup2")?.locate(path)
}

/// The path in the line `ID:CONTROLLERS:PATH` whose controllers are the right ones.
fn group_path(groups: &str, is_right: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_right(controllers).then_some(path)
    })
}

/// One line of `/proc/self/mountinfo` (proc(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut kind = kind.split(' ');
        let (root, point) = (place.next()?, place.next()?);
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        Some(Self { root, point, kind, options })
    }

    /// The directory of a group. None if the mount doesn't show it, as in some containers, or has a name that would have
    /// to be decoded.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let inside = Path::new(path).strip_prefix(self.root).ok()?;
        let is_plain = !self.point.contains('\\') && inside.components().all(|part| part.as_os_str() != "..");
        is_plain.then(|| Path::new(self.point).join(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 /docker/abc /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    const GROUPS: &str = "8:pids:/docker/abc/x\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/user.slice/me";

    #[test]
    fn each_hierarchy_has_its_place() {
        assert_eq!(v1(GROUPS, MOUNTS, Controller::Memory), Some(PathBuf::from("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(v1(GROUPS, MOUNTS, Controller::Pids), Some(PathBuf::from("/sys/fs/cgroup/pids/x")));
        assert_eq!(v2(GROUPS, MOUNTS), Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/me")));
    }

    #[test]
    fn a_group_that_the_mount_does_not_show_has_none() {
        assert_eq!(v1("8:pids:/elsewhere", MOUNTS, Controller::Pids), None);
        assert_eq!(v1("4:memory:/../other", MOUNTS, Controller::Memory), None);
        assert_eq!(v1(GROUPS, "", Controller::Memory), None);
        assert_eq!(v2("4:memory:/a", MOUNTS), None);
    }
}
