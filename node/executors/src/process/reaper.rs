//! The dead orphans that we adopted, and who may take them.
//!
//! A subreaper must take the status of every orphan it adopts, or they stay zombies for ever. But the process has
//! other children too, and taking a status that somebody waits for would make theirs unknown. So the main processes
//! of runs are registered and left alone, and a strange zombie is taken only after it was one for ten seconds: who
//! waits for a child takes it at once.
//!
//! Adoption is a property of the whole operating-system process, hence the statics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::handle;
use crate::process::tree::scan::{Stat, Table};

/// Age at which a zombie that nobody registered is nobody's.
const NOBODYS_AFTER: Duration = Duration::from_secs(10);

/// Least time between two sweeps, however many runs ask for one.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Whether orphans come to us.
static ADOPTING: AtomicBool = AtomicBool::new(false);

/// The main processes of runs.
static ROOTS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

static ZOMBIES: Mutex<Zombies> = Mutex::new(Zombies { swept: None, first_seen: BTreeMap::new() });

struct Zombies {
    swept: Option<Instant>,
    /// Strange zombies and when each was first seen. No longer than the table of processes.
    first_seen: BTreeMap<u32, Instant>,
}

/// Makes the calling process the new parent of all its descendants' orphans.
pub(crate) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    match rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        Ok(()) => ADOPTING.store(true, Ordering::Relaxed),
        Err(error) => tracing::warn!(error = %error, "not a subreaper; orphans of jobs are found by their environment"),
    }
}

/// Whether [`adopt_orphans`] worked.
pub(super) fn adopting() -> bool {
    ADOPTING.load(Ordering::Relaxed)
}

/// Whether the main process of a run has this number.
pub(super) fn is_root(pid: u32) -> bool {
    ROOTS.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// A registered main process. Dropped after its status was taken.
pub(super) struct Root(u32);

impl Root {
    pub(super) fn new(pid: u32) -> Self {
        ROOTS.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        Self(pid)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        ROOTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Takes adopted zombies of runs that still go on. Does nothing if the last sweep was a moment ago.
pub(super) fn sweep() {
    let now = Instant::now();
    let mut zombies = ZOMBIES.lock().unwrap_or_else(PoisonError::into_inner);
    if zombies.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_EVERY) {
        return;
    }
    zombies.swept = Some(now);
    let table = Table::read();
    let dead: Vec<&Stat> = table.children_of(std::process::id()).filter(|s| !s.alive && !is_root(s.pid)).collect();
    let mut first_seen = BTreeMap::new();
    for stat in dead {
        let since = zombies.first_seen.get(&stat.pid).copied().unwrap_or(now);
        if is_root(stat.group) || now.duration_since(since) >= NOBODYS_AFTER {
            handle::reap(stat.pid);
        } else {
            first_seen.insert(stat.pid, since);
        }
    }
    zombies.first_seen = first_seen;
}
