//! The root of a sandbox: a file system in memory into which the little that may be seen is mounted.
//!
//! The hard case is that what is mounted read-only stays so only if each mount below it is made read-only as well, with
//! the flags that it has already: in a namespace of users the kernel lets none of them be taken away.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount, unmount,
};

use super::plan::Plan;
use super::walls::DEVICES;
use super::{WORDS, WORK, words_path};

/// Where the new root is built: a directory that every system has. What was mounted on it stays beneath.
const BASE: &str = "/tmp";

/// Where the old root is for a moment.
const OLD: &str = ".old";

/// Trees of programs. Where they are links into each other, so are they inside.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The store of programs on systems that have one.
const STORE: &str = "nix/store";

/// What programs need to know of the machine's settings, and nothing that is secret: keys live beside certificates.
const SETTINGS: [&str; 21] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "pki/ca-trust",
    "pki/tls/certs",
    "crypto-policies",
    "alternatives",
    "localtime",
    "timezone",
    "nsswitch.conf",
    "protocols",
    "services",
    "mime.types",
    "terminfo",
    "fonts",
    "locale.alias",
    "perl",
    "python3",
];

/// Files of `/proc` by which root, by its number alone, could change the machine.
const FROZEN: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Files of `/proc` that tell of others.
const MASKED: [&str; 4] = ["kcore", "keys", "sched_debug", "timer_list"];

/// Most bytes of files in memory: `/tmp` and shared memory each. They count as memory of the run.
const MEMORY_FILES: &str = "mode=1777,size=256m";

/// Longest name server file.
const RESOLV_BYTES_MAX: u64 = 64 * 1024;

/// What can't be made, and why.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {}: {source}{hint}", path.display())]
pub(super) struct BuildError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
    hint: &'static str,
}

impl BuildError {
    fn new(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { what, path: path.to_owned(), source: source.into(), hint: "" }
    }
}

/// Builds the root in this process's namespace of mounts and goes there.
pub(super) fn build(plan: &Plan) -> Result<(), BuildError> {
    let root = Path::new("/");
    let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(root, apart).map_err(|error| BuildError::new("keep mounts to itself in", root, error))?;
    // Opened by their present names, before anything is mounted over them.
    let sources = Sources::open(plan)?;
    let resolv = plan.network.then(name_servers);
    let base = Path::new(BASE);
    memory(base, c"mode=0755,size=1m")?;
    system(base)?;
    settings(base, resolv.as_deref())?;
    devices(base)?;
    processes(base)?;
    for (path, options) in [("tmp", MEMORY_FILES), ("dev/shm", MEMORY_FILES)] {
        let place = directory(&base.join(path))?;
        let options = CString::new(options).map_err(|error| BuildError::new("name the size of", &place, error))?;
        memory(&place, &options)?;
    }
    // Last: one of them may lie in what was just made.
    sources.place(base)?;
    for path in ["var/tmp", "root", "home"] {
        directory(&base.join(path))?;
    }
    // The name is for people only.
    let _ = rustix::system::sethostname(b"sandbox");
    enter(base)
}

/// Makes the new root the only one.
fn enter(base: &Path) -> Result<(), BuildError> {
    let old = directory(&base.join(OLD))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: rustix::io::Errno| BuildError::new("move into", &path, error)
    };
    rustix::process::chdir(base).map_err(failed(base))?;
    rustix::process::pivot_root(".", OLD).map_err(failed(base))?;
    rustix::process::chdir("/").map_err(failed(base))?;
    let gone = Path::new("/").join(OLD);
    unmount(&gone, UnmountFlags::DETACH).map_err(failed(&old))?;
    fs::remove_dir(&gone).map_err(|error| BuildError::new("remove", &gone, error))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", flags, c"").map_err(|error| BuildError::new("make unwritable", Path::new("/"), error))?;
    rustix::process::chdir(WORK).map_err(failed(Path::new(WORK)))
}

/// What is the run's own, held open.
struct Sources {
    places: Vec<(OwnedFd, PathBuf, Access)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Sources {
    fn open(plan: &Plan) -> Result<Self, BuildError> {
        let own = [(plan.work.clone(), WORK), (words_path(&plan.directory), WORDS)];
        let own = own.map(|(from, at)| (from, PathBuf::from(at), Access::Write));
        let shown = plan.shown.iter().map(|shown| (shown.from.clone(), shown.at.clone(), Access::Read));
        let mut places = Vec::new();
        for (from, at, access) in own.into_iter().chain(shown) {
            places.push((open(&from)?, at, access));
        }
        Ok(Self { places })
    }

    fn place(&self, base: &Path) -> Result<(), BuildError> {
        for (from, at, access) in &self.places {
            let place = base.join(at.strip_prefix("/").unwrap_or(at));
            bind_opened(from, &place, *access)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd, BuildError> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|error| BuildError::new("open", path, error))
}

/// A new file system in memory.
fn memory(place: &Path, options: &std::ffi::CStr) -> Result<(), BuildError> {
    mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .map_err(|error| BuildError::new("make a file system in memory on", place, error))
}

fn directory(path: &Path) -> Result<PathBuf, BuildError> {
    fs::create_dir_all(path).map_err(|error| BuildError::new("make", path, error))?;
    Ok(path.to_owned())
}

/// Mounts what is open on a place, which is made.
fn bind_opened(from: &OwnedFd, place: &Path, access: Access) -> Result<(), BuildError> {
    let found = rustix::fs::fstat(from).map_err(|error| BuildError::new("look at", place, error))?;
    let is_directory = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory;
    make_place(place, is_directory)?;
    let source = format!("/proc/self/fd/{}", from.as_raw_fd());
    mount_bind_recursive(source.as_str(), place).map_err(|error| BuildError::new("show", place, error))?;
    tighten(place, access)
}

/// Mounts a part of the machine on a place, for reading.
fn bind(from: &Path, place: &Path) -> Result<(), BuildError> {
    make_place(place, from.is_dir())?;
    mount_bind_recursive(from, place).map_err(|error| BuildError::new("show", place, error))?;
    tighten(place, Access::Read)
}

fn make_place(place: &Path, is_directory: bool) -> Result<(), BuildError> {
    if is_directory {
        return directory(place).map(drop);
    }
    if let Some(parent) = place.parent() {
        directory(parent)?;
    }
    File::create(place).map(drop).map_err(|error| BuildError::new("make", place, error))
}

/// Takes from a mount, and those below it, what the job has no business with.
fn tighten(place: &Path, access: Access) -> Result<(), BuildError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.map_err(|error| BuildError::new("read", Path::new("/proc/self/mountinfo"), error))?;
    for (point, options) in mounts.lines().filter_map(mount_line) {
        if !point.starts_with(place) {
            continue;
        }
        let mut flags = kept_flags(options) | MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
        if access == Access::Read {
            flags |= MountFlags::RDONLY;
        }
        mount_remount(&point, flags, c"").map_err(|error| BuildError::new("make unwritable", &point, error))?;
    }
    Ok(())
}

/// The mount point and its options in a line of `mountinfo` (proc(5)).
fn mount_line(line: &str) -> Option<(PathBuf, &str)> {
    let mut fields = line.split(' ').skip(4);
    let (point, options) = (fields.next()?, fields.next()?);
    Some((PathBuf::from(unescape(point)), options))
}

/// Undoes the octal form that spaces and the like have in `mountinfo`.
fn unescape(text: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

/// The flags that a mount keeps: none may be taken from it.
fn kept_flags(options: &str) -> MountFlags {
    let known = [
        ("ro", MountFlags::RDONLY),
        ("noexec", MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME),
        ("nodiratime", MountFlags::NODIRATIME),
        ("relatime", MountFlags::RELATIME),
    ];
    let has = |name: &str| options.split(',').any(|option| option == name);
    known.into_iter().filter(|(name, _)| has(name)).fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

fn system(base: &Path) -> Result<(), BuildError> {
    for name in SYSTEM {
        let (from, place) = (Path::new("/").join(name), base.join(name));
        match fs::symlink_metadata(&from) {
            Ok(found) if found.is_symlink() => copy_link(&from, &place)?,
            Ok(found) if found.is_dir() => bind(&from, &place)?,
            Ok(_) | Err(_) => {}
        }
    }
    let store = Path::new("/").join(STORE);
    if store.is_dir() { bind(&store, &base.join(STORE)) } else { Ok(()) }
}

fn copy_link(from: &Path, place: &Path) -> Result<(), BuildError> {
    let target = fs::read_link(from).map_err(|error| BuildError::new("read", from, error))?;
    symlink(target, place).map_err(|error| BuildError::new("make", place, error))
}

fn settings(base: &Path, resolv: Option<&str>) -> Result<(), BuildError> {
    let etc = directory(&base.join("etc"))?;
    for name in SETTINGS {
        let (from, place) = (Path::new("/etc").join(name), etc.join(name));
        let Ok(found) = fs::symlink_metadata(&from) else { continue };
        if let Some(parent) = place.parent() {
            directory(parent)?;
        }
        if found.is_symlink() { copy_link(&from, &place)? } else { bind(&from, &place)? }
    }
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\njob:x:{user}:{group}:job:{WORK}:/bin/sh\n\
                 nobody:x:65534:65534:nobody:/:/bin/false\n"
            ),
        ),
        ("group", format!("root:x:0:\njob:x:{group}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        ("hostname", "sandbox\n".to_owned()),
        ("resolv.conf", resolv.unwrap_or_default().to_owned()),
    ];
    for (name, text) in files {
        let place = etc.join(name);
        fs::write(&place, text).map_err(|error| BuildError::new("write", &place, error))?;
    }
    Ok(())
}

/// Whom to ask for names, if there is a network. Its file is often a link to somewhere that is not seen inside.
fn name_servers() -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let read = File::open("/etc/resolv.conf").and_then(|file| file.take(RESOLV_BYTES_MAX).read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}

fn devices(base: &Path) -> Result<(), BuildError> {
    let dev = directory(&base.join("dev"))?;
    for name in DEVICES {
        let (from, place) = (Path::new("/dev").join(name), dev.join(name));
        make_place(&place, false)?;
        mount_bind_recursive(&from, &place).map_err(|error| BuildError::new("show", &place, error))?;
    }
    let links = [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
    for (name, target) in links {
        let place = dev.join(name);
        symlink(target, &place).map_err(|error| BuildError::new("make", &place, error))?;
    }
    Ok(())
}

fn processes(base: &Path) -> Result<(), BuildError> {
    let proc = directory(&base.join("proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", &proc, "proc", flags, None).map_err(|error| BuildError {
        hint: "; parts of /proc are hidden here, as in a container: let it see all of /proc",
        ..BuildError::new("list processes in", &proc, error)
    })?;
    for name in FROZEN {
        let place = proc.join(name);
        if place.exists() {
            mount_bind_recursive(&place, &place).map_err(|error| BuildError::new("show", &place, error))?;
            tighten(&place, Access::Read)?;
        }
    }
    let nothing = base.join("dev/null");
    for name in MASKED {
        let place = proc.join(name);
        if place.exists() {
            mount_bind_recursive(&nothing, &place).map_err(|error| BuildError::new("hide", &place, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_keeps_the_flags_that_it_has() {
        let line = r"36 35 98:0 / /mnt/a\040b ro,nosuid,noexec,relatime master:1 - ext4 /dev/root rw";
        let (point, options) = mount_line(line).unwrap_or_default();
        assert_eq!(point, Path::new("/mnt/a b"));
        assert_eq!(kept_flags(options), MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::RELATIME);
        assert_eq!(mount_line("36 35"), None);
        assert_eq!(unescape(r"\04"), r"\04");
    }
}
