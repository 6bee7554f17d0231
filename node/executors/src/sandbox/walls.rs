//! What a process gives up before it starts a program that is not trusted: limits, capabilities, Landlock, seccomp.
//!
//! The order is what is left of the rights that the next step needs: seccomp is last, since it forbids what the others do.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::plan::{Plan, ProcessLimits};
use super::{WORDS, WORK, calls};

/// Most open files of a process: what most systems start with, and four times that for those who ask.
const FILES: (u64, u64) = (1024, 4096);

/// The newest version of Landlock whose rights are used where the kernel has them. Its first version is required.
const NEWEST: ABI = ABI::V6;

/// Where anything that is seen may be read and run.
const READABLE: [&str; 11] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/etc", "/proc", "/run"];

/// Directories for the job's own.
const WRITABLE: [&str; 4] = [WORK, WORDS, "/tmp", "/dev/shm"];

/// The devices.
pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Which wall can't be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WallError {
    #[error("failed to set a limit: {0}")]
    Limit(io::Error),
    #[error("failed to give up capabilities: {0}")]
    Capabilities(io::Error),
    #[error("Landlock is not enabled in this kernel, or refuses: {0}; boot with `lsm=landlock,…`")]
    Landlock(RulesetError),
    #[error("failed to open {}: {source}", path.display())]
    Path { path: PathBuf, source: landlock::PathFdError },
    #[error("seccomp refuses: {0}")]
    Seccomp(#[from] calls::FilterError),
}

/// Closes them all, for this process and everything that it starts.
pub(super) fn close(plan: &Plan, stdin: Option<&File>) -> Result<(), WallError> {
    limit(plan.limits).map_err(WallError::Limit)?;
    drop_capabilities().map_err(WallError::Capabilities)?;
    restrict(plan, stdin)?;
    calls::forbid()?;
    Ok(())
}

fn limit(limits: ProcessLimits) -> io::Result<()> {
    set(Resource::Core, (0, 0))?;
    set(Resource::Nofile, FILES)?;
    if let Some(bytes) = limits.file_bytes {
        set(Resource::Fsize, (bytes, bytes))?;
    }
    if let Some(bytes) = limits.address_bytes {
        set(Resource::As, (bytes, bytes))?;
    }
    Ok(())
}

/// Sets a limit, unless there is a lower one already.
fn set(resource: Resource, (current, maximum): (u64, u64)) -> io::Result<()> {
    let now = getrlimit(resource);
    let maximum = now.maximum.map_or(maximum, |now| now.min(maximum));
    let current = now.current.map_or(current, |now| now.min(current)).min(maximum);
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    // Those that the kernel doesn't know are an error, and there is nothing to be dropped of them.
    for bit in 0..64 {
        let _ = rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn restrict(plan: &Plan, stdin: Option<&File>) -> Result<(), WallError> {
    let mut rules = ruleset(plan.network).map_err(WallError::Landlock)?;
    let all = AccessFs::from_all(NEWEST);
    let (read, file) = (AccessFs::from_read(NEWEST), AccessFs::from_file(NEWEST));
    let special = BitFlags::from(AccessFs::MakeChar) | AccessFs::MakeBlock;
    // Names can be listed wherever something is seen.
    rules = allow(rules, Path::new("/"), AccessFs::ReadDir.into())?;
    for path in READABLE {
        rules = allow(rules, Path::new(path), read)?;
    }
    for path in WRITABLE {
        rules = allow(rules, Path::new(path), all & !special)?;
    }
    rules = allow(rules, Path::new("/dev"), AccessFs::ReadDir.into())?;
    for device in DEVICES {
        rules = allow(rules, &Path::new("/dev").join(device), file & !BitFlags::from(AccessFs::Execute))?;
    }
    for shown in &plan.shown {
        rules = allow(rules, &shown.at, if shown.at.is_dir() { read } else { read & file })?;
    }
    // So that /dev/stdin and its like can be opened by name: they are files outside.
    let written = file & !BitFlags::from(AccessFs::Execute);
    rules = allow_opened(rules, io::stdout(), written)?;
    rules = allow_opened(rules, io::stderr(), written)?;
    if let Some(stdin) = stdin {
        rules = allow_opened(rules, stdin, AccessFs::ReadFile.into())?;
    }
    rules.restrict_self().map_err(WallError::Landlock)?;
    Ok(())
}

/// All that the kernel can keep back. What only newer kernels can is asked for, and no error where it is missing.
fn ruleset(network: bool) -> Result<RulesetCreated, RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let mut ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V1))?;
    ruleset = ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST))?;
    if !network {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal)?.create()
}

/// Allows something beneath a path, if there is such a path.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, WallError> {
    if !path.exists() {
        return Ok(rules);
    }
    let opened = PathFd::new(path).map_err(|source| WallError::Path { path: path.to_owned(), source })?;
    rules.add_rule(PathBeneath::new(opened, access)).map_err(WallError::Landlock)
}

/// Allows something of a file that is open, if it is one.
fn allow_opened(
    rules: RulesetCreated,
    file: impl AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, WallError> {
    let is_file = rustix::fs::fstat(&file)
        .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::RegularFile);
    if is_file { rules.add_rule(PathBeneath::new(file, access)).map_err(WallError::Landlock) } else { Ok(rules) }
}
