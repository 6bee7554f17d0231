//! The system calls that a sandboxed program does without.
//!
//! A list of what is forbidden, not of what is allowed: ordinary programs have to run here, and the kernel gains calls
//! that they come to need. What is on it is what turns a mistake in the kernel into a way out (namespaces, `bpf`,
//! `io_uring`, `userfaultfd`, `perf`, keys, modules), reaches into other processes, or is the system's own business.
//! Calls that programs can do without by falling back get "not implemented"; for the others it is "not permitted".
//!
//! The hard case is another way to make the same call. A process of another architecture is killed by the filter, and
//! each number is forbidden in its x32 form too, which x86-64 kernels may still take.
//!
//! Numbers: `arch/x86/entry/syscalls/syscall_64.tbl` and `scripts/syscall.tbl` of Linux.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// `EPERM` of every Linux.
const NOT_PERMITTED: u32 = 1;

/// `ENOSYS` of every Linux.
const NOT_IMPLEMENTED: u32 = 38;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("no filter is known for this kind of processor")]
    Architecture,
    #[error("{0}")]
    Build(#[from] seccompiler::BackendError),
    #[error("{0}")]
    Install(#[from] seccompiler::Error),
}

/// Forbids them to this process and everything that it starts.
pub(super) fn forbid() -> Result<(), FilterError> {
    for (rules, answer) in [(refused()?, NOT_PERMITTED), (absent()?, NOT_IMPLEMENTED)] {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(answer), architecture()?)?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

fn architecture() -> Result<TargetArch, FilterError> {
    std::env::consts::ARCH.try_into().map_err(|_| FilterError::Architecture)
}

/// Rules by the number of a call. A call without a rule is forbidden whatever its arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What both processors give the same number. All newer calls are among them.
const REFUSED_EVERYWHERE: [i64; 15] = [
    424, // pidfd_send_signal: the namespace of processes holds, but nobody needs it
    428, // open_tree
    429, // move_mount
    430, // fsopen
    431, // fsconfig
    432, // fsmount
    433, // fspick
    438, // pidfd_getfd
    440, // process_madvise
    442, // mount_setattr
    443, // quotactl_fd
    448, // process_mrelease
    457, // statmount
    458, // listmount
    467, // open_tree_attr
];

/// Programs that know these know how to do without.
const ABSENT_EVERYWHERE: [i64; 4] = [
    425, // io_uring_setup
    426, // io_uring_enter
    427, // io_uring_register
    435, // clone3: its flags are in memory, where no filter can look
];

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub(super) const REFUSED: [i64; 46] = [
        101, // ptrace
        103, // syslog
        134, // uselib
        139, // sysfs
        153, // vhangup
        155, // pivot_root
        156, // _sysctl
        159, // adjtimex
        161, // chroot
        163, // acct
        164, // settimeofday
        165, // mount
        166, // umount2
        167, // swapon
        168, // swapoff
        169, // reboot
        170, // sethostname
        171, // setdomainname
        172, // iopl
        173, // ioperm
        175, // init_module
        176, // delete_module
        179, // quotactl
        180, // nfsservctl
        212, // lookup_dcookie
        227, // clock_settime
        246, // kexec_load
        248, // add_key
        249, // request_key
        250, // keyctl
        256, // migrate_pages
        272, // unshare
        279, // move_pages
        298, // perf_event_open
        300, // fanotify_init
        303, // name_to_handle_at
        304, // open_by_handle_at
        305, // clock_adjtime
        308, // setns
        310, // process_vm_readv
        311, // process_vm_writev
        312, // kcmp
        313, // finit_module
        320, // kexec_file_load
        321, // bpf
        323, // userfaultfd
    ];
    /// Calls that x32 has numbers of its own for: ptrace, kexec_load, process_vm_readv, process_vm_writev.
    pub(super) const X32: [i64; 4] = [521, 528, 539, 540];
    pub(super) const IOCTL: i64 = 16;
    pub(super) const IOCTL_X32: Option<i64> = Some(514);
    pub(super) const SOCKET: i64 = 41;
    pub(super) const SOCKETPAIR: i64 = 53;
    pub(super) const CLONE: i64 = 56;
    pub(super) const PERSONALITY: i64 = 135;
}

#[cfg(not(target_arch = "x86_64"))]
mod numbers {
    pub(super) const REFUSED: [i64; 38] = [
        18,  // lookup_dcookie
        39,  // umount2
        40,  // mount
        41,  // pivot_root
        42,  // nfsservctl
        51,  // chroot
        58,  // vhangup
        60,  // quotactl
        89,  // acct
        97,  // unshare
        104, // kexec_load
        105, // init_module
        106, // delete_module
        112, // clock_settime
        116, // syslog
        117, // ptrace
        142, // reboot
        161, // sethostname
        162, // setdomainname
        170, // settimeofday
        171, // adjtimex
        217, // add_key
        218, // request_key
        219, // keyctl
        224, // swapon
        225, // swapoff
        238, // migrate_pages
        239, // move_pages
        241, // perf_event_open
        262, // fanotify_init
        264, // name_to_handle_at
        265, // open_by_handle_at
        266, // clock_adjtime
        268, // setns
        270, // process_vm_readv
        271, // process_vm_writev
        272, // kcmp
        280, // bpf
    ];
    pub(super) const X32: [i64; 0] = [];
    pub(super) const IOCTL: i64 = 29;
    pub(super) const IOCTL_X32: Option<i64> = None;
    pub(super) const SOCKET: i64 = 198;
    pub(super) const SOCKETPAIR: i64 = 199;
    pub(super) const CLONE: i64 = 220;
    pub(super) const PERSONALITY: i64 = 92;
}

/// The bit that makes a number one of x32.
const X32_BIT: i64 = 0x4000_0000;

/// The same numbers in every form in which this processor's kernel may take them.
fn with_forms(numbers: impl IntoIterator<Item = i64>) -> impl Iterator<Item = i64> {
    let has_x32 = !numbers::X32.is_empty();
    numbers.into_iter().flat_map(move |number| [Some(number), has_x32.then_some(number | X32_BIT)]).flatten()
}

/// What is not permitted.
fn refused() -> Result<Rules, FilterError> {
    let always = numbers::REFUSED.into_iter().chain(REFUSED_EVERYWHERE).chain(numbers::X32);
    let mut rules: Rules = with_forms(always).map(|number| (number, Vec::new())).collect();
    // Modules from a file and user faults, where they are not in the list above.
    #[cfg(not(target_arch = "x86_64"))]
    rules.extend([273, 282, 294].map(|number| (number, Vec::new())));
    let sometimes = [
        (numbers::SOCKET, families()?),
        (numbers::SOCKETPAIR, families()?),
        (numbers::CLONE, namespaces()?),
        (numbers::PERSONALITY, personalities()?),
        (numbers::IOCTL, terminals()?),
    ];
    for (number, conditions) in sometimes {
        rules.extend(with_forms([number]).map(|number| (number, conditions.clone())));
    }
    if let Some(number) = numbers::IOCTL_X32 {
        rules.insert(number | X32_BIT, terminals()?);
    }
    Ok(rules)
}

/// What is not implemented.
fn absent() -> Result<Rules, FilterError> {
    Ok(with_forms(ABSENT_EVERYWHERE).map(|number| (number, Vec::new())).collect())
}

/// Sockets of any family but that of files, of the internet's fourth, and of its sixth version.
fn families() -> Result<Vec<SeccompRule>, FilterError> {
    let other = [1, 2, 10].map(|family| condition(0, SeccompCmpOp::Ne, family));
    Ok(vec![SeccompRule::new(other.into_iter().collect::<Result<_, _>>()?)?])
}

/// A child in a namespace of its own: mounts, control groups, names, IPC, users, processes, network.
fn namespaces() -> Result<Vec<SeccompRule>, FilterError> {
    const FLAGS: [u64; 7] = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    FLAGS
        .into_iter()
        .map(|flag| Ok(SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])?))
        .collect()
}

/// Another personality than the usual one. Asking for the present one is allowed.
fn personalities() -> Result<Vec<SeccompRule>, FilterError> {
    let other = [0, 0xffff_ffff].map(|known| condition(0, SeccompCmpOp::Ne, known));
    Ok(vec![SeccompRule::new(other.into_iter().collect::<Result<_, _>>()?)?])
}

/// Typing into somebody's terminal: `TIOCSTI` and `TIOCLINUX`.
fn terminals() -> Result<Vec<SeccompRule>, FilterError> {
    let each = |request| Ok(SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?])?);
    [0x5412, 0x541c].into_iter().map(each).collect()
}

fn condition(argument: u8, comparison: SeccompCmpOp, value: u64) -> Result<SeccompCondition, FilterError> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_filters_can_be_built_and_no_number_is_there_twice() {
        for rules in [refused().unwrap(), absent().unwrap()] {
            let filter = SeccompFilter::new(
                rules,
                SeccompAction::Allow,
                SeccompAction::Errno(NOT_PERMITTED),
                architecture().unwrap(),
            );
            assert!(!BpfProgram::try_from(filter.unwrap()).unwrap().is_empty());
        }
        let mut all = numbers::REFUSED.to_vec();
        all.dedup();
        assert_eq!(all.len(), numbers::REFUSED.len());
        assert!(all.is_sorted());
    }
}
