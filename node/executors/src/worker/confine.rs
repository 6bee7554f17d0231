//! The walls that a worker puts around itself before it looks at what a stranger wrote.
//!
//! The interpreter is the first wall: neither a module nor a script has a way to name a file outside its working directory
//! or to open a socket. These are the second, for the day when the interpreter has a hole: landlock leaves the process
//! the directory of its run and no other file, and seccomp leaves it the few system calls that an interpreter makes:
//! no program, thread, process, signal, mount or code page can be made of them. Where modules are compiled, a page may
//! become code, but none that can still be written to.
//!
//! **The hard case** is a system that has only some of it. Then the caller decides: a worker that is not required to
//! have every wall raises those that there are, and its run is said to be kept apart less well.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::brief::Brief;

/// Most descriptors of a worker: a program that keeps more files open at once is a loop that forgets to close them.
const FILES_MAX: u64 = 256;

/// Address space beside twice the limit on memory: the program itself, its stack, and a copy while memory is moved.
const ADDRESSES_BESIDE: u64 = 1 << 30;

/// What a worker keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance<'a> {
    /// The directory of the run, in which it may make files but read none, but for its working directory.
    pub(crate) directory: &'a Path,
    /// Whether it has a connection to the socket of tasks. Another one it can't open.
    pub(crate) talks: bool,
    /// Whether what was written to a page may be run as code, once it can't be written to any more.
    pub(crate) code: bool,
    /// Most memory of what is interpreted.
    pub(crate) memory_bytes: Option<u64>,
    /// Largest file that it may write.
    pub(crate) file_bytes: Option<u64>,
}

impl<'a> Allowance<'a> {
    /// What every worker needs.
    pub(crate) fn least<P>(brief: &'a Brief<P>) -> Self {
        let (memory_bytes, file_bytes) = (brief.memory_bytes, brief.file_bytes);
        Self { directory: &brief.directory, talks: false, code: false, memory_bytes, file_bytes }
    }
}

/// Why a wall doesn't stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("failed to lower a limit of the process")]
    Limit(#[from] rustix::io::Errno),
    #[cfg(target_os = "linux")]
    #[error("landlock is not there; it takes Linux 5.19 with `landlock` in the kernel's `lsm=` parameter")]
    Landlock(#[from] landlock::RulesetError),
    #[cfg(target_os = "linux")]
    #[error("landlock can't be told of {path}")]
    Path { path: String, source: landlock::PathFdError },
    #[cfg(target_os = "linux")]
    #[error("seccomp can't be used; it takes a kernel with CONFIG_SECCOMP_FILTER")]
    Seccomp(#[from] seccompiler::Error),
    #[cfg(not(target_os = "linux"))]
    #[error("this system has neither landlock nor seccomp")]
    System,
    #[error("a wall was raised and holds nothing back: {what}")]
    Hollow { what: &'static str },
}

/// Raises every wall around this process, for good. Those before one that fails stand.
pub(crate) fn confine(allowed: Allowance<'_>) -> Result<(), ConfineError> {
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, FILES_MAX)?;
    if let Some(bytes) = allowed.memory_bytes {
        limit(Resource::As, bytes.saturating_mul(2).saturating_add(ADDRESSES_BESIDE))?;
    }
    if let Some(bytes) = allowed.file_bytes {
        limit(Resource::Fsize, bytes)?;
    }
    let landlocked = walls::landlock(Some(allowed));
    walls::seccomp(Some(allowed))?;
    landlocked
}

/// Tries the walls and says on standard output which one is missing; nothing if none is.
pub(crate) fn probe() -> ExitCode {
    let raised = walls::landlock(None).and_then(|()| walls::seccomp(None)).and_then(|()| look_around());
    match raised {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", crate::event::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Tries what must not work any more.
fn look_around() -> Result<(), ConfineError> {
    if std::fs::File::open("/").is_ok() {
        return Err(ConfineError::Hollow { what: "files can be opened" });
    }
    if std::os::unix::net::UnixDatagram::unbound().is_ok() {
        return Err(ConfineError::Hollow { what: "sockets can be made" });
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> Result<(), rustix::io::Errno> {
    let now = rustix::process::getrlimit(resource);
    let most = now.maximum.map_or(most, |maximum| maximum.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

#[cfg(not(target_os = "linux"))]
mod walls {
    use super::{Allowance, ConfineError};

    pub(super) fn landlock(_allowed: Option<Allowance<'_>>) -> Result<(), ConfineError> {
        Err(ConfineError::System)
    }

    pub(super) fn seccomp(_allowed: Option<Allowance<'_>>) -> Result<(), ConfineError> {
        Err(ConfineError::System)
    }
}

#[cfg(target_os = "linux")]
mod walls {
    use std::path::Path;

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _, Scope,
    };
    use serde_json::{Value, json};

    use super::{Allowance, ConfineError};

    use crate::directory::work_path;

    /// The system calls of an interpreter with files: none of them makes, names or looks into another process.
    const CALLS: [&str; 53] = [
        "brk",
        "clock_getres",
        "clock_gettime",
        "clock_nanosleep",
        "close",
        "dup",
        "exit",
        "exit_group",
        "fadvise64",
        "fallocate",
        "fdatasync",
        "fstat",
        "fsync",
        "ftruncate",
        "futex",
        "getdents64",
        "getpid",
        "getrandom",
        "gettid",
        "gettimeofday",
        "linkat",
        "lseek",
        "madvise",
        "mkdirat",
        "mremap",
        "munmap",
        "nanosleep",
        "newfstatat",
        "openat",
        "openat2",
        "ppoll",
        "pread64",
        "preadv",
        "preadv2",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "read",
        "readlinkat",
        "readv",
        "renameat",
        "renameat2",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_yield",
        "sigaltstack",
        "statx",
        "symlinkat",
        "unlinkat",
        "utimensat",
        "write",
    ];

    /// What there is of them on one architecture only.
    const OLD_CALLS: &[&str] = if cfg!(target_arch = "x86_64") { &["poll", "stat", "writev"] } else { &["writev"] };

    /// What it takes to talk over a socket that is connected.
    const SOCKET_CALLS: [&str; 5] = ["getsockopt", "recvfrom", "sendto", "setsockopt", "shutdown"];

    /// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_DUPFD_CLOEXEC`: not who is sent a signal.
    const FCNTL_COMMANDS: [u64; 6] = [0, 1, 2, 3, 4, 1030];
    /// `TCGETS`, `FIONBIO`, `FIONREAD`.
    const IOCTL_REQUESTS: [u64; 3] = [0x5401, 0x5421, 0x541B];
    const PROT_READ: u64 = 1;
    const PROT_EXEC: u64 = 4;
    const ENOSYS: u32 = 38;

    pub(super) fn landlock(allowed: Option<Allowance<'_>>) -> Result<(), ConfineError> {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V2))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(Scope::from_all(ABI::V6))?;
        let mut rules = rules.create()?;
        if let Some(allowed) = allowed {
            let inside = AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::Refer;
            let beside = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::Refer;
            rules = rules
                .add_rule(PathBeneath::new(open(&work_path(allowed.directory))?, inside))?
                .add_rule(PathBeneath::new(open(allowed.directory)?, beside))?;
        }
        rules.restrict_self()?;
        Ok(())
    }

    fn open(path: &Path) -> Result<PathFd, ConfineError> {
        PathFd::new(path).map_err(|source| ConfineError::Path { path: path.display().to_string(), source })
    }

    pub(super) fn seccomp(allowed: Option<Allowance<'_>>) -> Result<(), ConfineError> {
        let text = filter(allowed).to_string();
        let arch = std::env::consts::ARCH.try_into().map_err(seccompiler::Error::Backend)?;
        let filters = seccompiler::compile_from_json(text.as_bytes(), arch)?;
        for filter in filters.values() {
            seccompiler::apply_filter(filter)?;
        }
        Ok(())
    }

    /// Everything that isn't listed is answered as by a kernel that doesn't have it.
    fn filter(allowed: Option<Allowance<'_>>) -> Value {
        let mut rules: Vec<Value> = CALLS.iter().chain(OLD_CALLS).map(|name| json!({ "syscall": name })).collect();
        rules.extend(FCNTL_COMMANDS.map(|command| with("fcntl", 1, &json!("eq"), command)));
        rules.extend(IOCTL_REQUESTS.map(|request| with("ioctl", 1, &json!("eq"), request)));
        let no_code = json!({ "masked_eq": PROT_EXEC });
        rules.extend(["mmap", "mprotect"].map(|name| with(name, 2, &no_code, 0)));
        if allowed.is_some_and(|allowed| allowed.code) {
            rules.push(with("mprotect", 2, &json!("eq"), PROT_READ | PROT_EXEC));
            // Told to every processor that may run it, where that takes a call.
            rules.push(json!({ "syscall": "membarrier" }));
        }
        // To end itself, which is what `abort` does; nobody else can be meant.
        rules.push(with("tgkill", 0, &json!("eq"), u64::from(std::process::id())));
        if allowed.is_some_and(|allowed| allowed.talks) {
            rules.extend(SOCKET_CALLS.map(|name| json!({ "syscall": name })));
        }
        json!({ "worker": {
            "mismatch_action": { "errno": ENOSYS },
            "match_action": "allow",
            "filter": rules,
        } })
    }

    /// A call of which one argument counts.
    fn with(name: &str, index: u8, op: &Value, value: u64) -> Value {
        json!({ "syscall": name, "args": [{ "index": index, "type": "dword", "op": op, "val": value }] })
    }
}
