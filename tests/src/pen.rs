//! A control group that holds few processes, for a daemon whose job is to be a fork bomb: whatever jobmesh does, the
//! machine that the test runs on stays usable.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group that holds few processes.
#[derive(Debug)]
pub struct Pen {
    directory: PathBuf,
}

impl Pen {
    /// Makes a group that holds so many processes and threads; none where that is not allowed.
    #[must_use]
    pub fn new(processes_max: u32) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let name = format!("jobmesh-test-{}", std::process::id());
        let grounds = grounds(&mounts, &groups);
        grounds.into_iter().find_map(|ground| Self::at(ground.join(&name), processes_max))
    }

    fn at(directory: PathBuf, processes_max: u32) -> Option<Self> {
        fs::create_dir(&directory).ok()?;
        let pen = Self { directory };
        let file = pen.directory.join("pids.max");
        fs::write(&file, processes_max.to_string()).ok()?;
        let written = fs::read_to_string(&file).ok()?;
        let is_open = fs::OpenOptions::new().write(true).open(pen.directory.join("cgroup.procs")).is_ok();
        (is_open && written.trim() == processes_max.to_string()).then_some(pen)
    }

    /// The same command, in the group from its first moment on. It does not run if it can't be put there.
    #[must_use]
    pub fn around(&self, inner: &Command) -> Command {
        let mut outer = Command::new("sh");
        outer.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.directory.join("cgroup.procs"));
        outer.arg(inner.get_program()).args(inner.get_args()).env_clear();
        for (key, value) in inner.get_envs().filter_map(|(key, value)| Some((key, value?))) {
            outer.env(key, value);
        }
        if let Some(directory) = inner.get_current_dir() {
            outer.current_dir(directory);
        }
        outer
    }

    /// How many processes and threads are in it.
    ///
    /// # Panics
    /// If the group is gone.
    #[must_use]
    pub fn population(&self) -> u32 {
        let text = fs::read_to_string(self.directory.join("pids.current")).expect("the count of a control group");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Pen {
    /// Whoever is still inside is killed, and the group removed with those below it.
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("pids.max"), "0");
        kill_all(&self.directory);
        remove(&self.directory);
    }
}

/// Where groups that count processes can be made: below the test's own, or at the root of the hierarchy.
fn grounds(mounts: &str, groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in mounts.lines() {
        let mut words = mount.split(' ');
        let (Some(_), Some(path), Some(kind), Some(options)) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let controller = match kind {
            "cgroup" if options.split(',').any(|option| option == "pids") => "pids",
            "cgroup2" => "",
            _ => continue,
        };
        let own = groups.lines().find_map(|line| {
            let (controllers, own) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|word| word == controller).then_some(own)
        });
        found.extend(own.map(|own| Path::new(path).join(own.trim_start_matches('/'))));
        found.push(PathBuf::from(path));
    }
    found
}

fn groups_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn kill_all(directory: &Path) {
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for member in members.lines().filter_map(|line| line.parse().ok()) {
        crate::Pid::new(member).kill();
    }
    for below in groups_below(directory) {
        kill_all(&below);
    }
}

fn remove(directory: &Path) {
    for below in groups_below(directory) {
        remove(&below);
    }
    let _ = fs::remove_dir(directory);
}
