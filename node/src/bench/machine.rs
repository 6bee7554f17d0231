//! Under which conditions was measured: date, machine, disk, build.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::cli::{clean, time_words};

/// The conditions of a measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    version: &'static str,
    /// Whether the program was built to be fast.
    is_release_build: bool,
    cpu: String,
    cores: usize,
    kernel: String,
    /// How many processes wanted to run in the last minute, on average: others that disturb.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<String>,
    folder: String,
    file_system: String,
    sqlite: &'static str,
    /// As every commit that is measured runs.
    synchronous: &'static str,
}

impl Machine {
    /// Looks at the machine; `folder` is where everything is written.
    pub(super) fn look(folder: &Path) -> Self {
        let kernel = rustix::system::uname();
        let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Self {
            date: time_words::now().to_rfc3339(),
            version: env!("CARGO_PKG_VERSION"),
            is_release_build: !cfg!(debug_assertions),
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores(),
            kernel: format!("{} {}", word(kernel.sysname()), word(kernel.release())),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split(' ').next()?.to_owned())),
            folder: folder.display().to_string(),
            file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
            sqlite: rusqlite::version(),
            synchronous: "WAL, synchronous=FULL",
        }
    }

    /// The lines for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let build = if self.is_release_build { "release build" } else { "DEBUG BUILD: figures mean little" };
        let load = self.load.as_ref().map(|load| format!(", load {load}")).unwrap_or_default();
        let facts = [
            ("date", self.date.clone()),
            ("jobmesh", format!("{}, {build}", self.version)),
            ("machine", format!("{} cores of {}{load}", self.cores, self.cpu)),
            ("kernel", self.kernel.clone()),
            ("disk", format!("{} at {}", self.file_system, self.folder)),
            ("sqlite", format!("{}, {}", self.sqlite, self.synchronous)),
        ];
        for (label, fact) in facts {
            let _ = writeln!(text, "{label:<8} {}", clean(&fact));
        }
        text
    }

    /// A machine for tests.
    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            date: "2026-11-21T00:00:00.000Z".to_owned(),
            version: "0.1.0",
            is_release_build: true,
            cpu: "a processor".to_owned(),
            cores: 2,
            kernel: "Linux 6.18".to_owned(),
            load: None,
            folder: "/home/a/.local/share/jobmesh".to_owned(),
            file_system: "ext4".to_owned(),
            sqlite: "3.50.0",
            synchronous: "WAL, synchronous=FULL",
        }
    }
}

/// How many processors may be used.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that `folder` is on, and its device.
fn file_system(folder: &Path) -> Option<String> {
    mounted(&fs::read_to_string("/proc/self/mountinfo").ok()?, folder)
}

/// Finds the mount that is nearest above `folder` (proc(5): point in field 5; type and source after ` - `).
fn mounted(table: &str, folder: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let point = Path::new(front.split(' ').nth(4)?);
        let mut back = back.split(' ');
        let (kind, source) = (back.next()?, back.next()?);
        folder.starts_with(point).then(|| (point.as_os_str().len(), format!("{kind} on {source}")))
    });
    // Of two mounts at the same place the later one covers the earlier.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let table = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                     30 22 0:28 / /tmp rw - tmpfs tmpfs rw\n\
                     31 22 0:29 / /home rw - overlay old rw\n\
                     32 22 0:29 / /home rw - btrfs /dev/sdb rw\n";
        let find = |folder| mounted(table, Path::new(folder));
        assert_eq!(find("/tmp/x").as_deref(), Some("tmpfs on tmpfs"));
        assert_eq!(find("/tmpfoo").as_deref(), Some("ext4 on /dev/vda"));
        assert_eq!(find("/home/a").as_deref(), Some("btrfs on /dev/sdb"));
    }

    #[test]
    fn a_debug_build_is_told_apart() {
        let mut machine = Machine::example();
        assert!(machine.text().contains("release build"));
        machine.is_release_build = false;
        assert!(machine.text().contains("DEBUG BUILD"));
    }
}
