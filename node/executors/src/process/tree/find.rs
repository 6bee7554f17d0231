//! Which processes belong to a run, now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::ProcessId;
use crate::process::cgroup::Fence;
use crate::process::tree::Target;
use crate::process::tree::scan::{self, Environment, Stat, Table};
use crate::process::{handle, reaper};

/// Age of a run up to which its processes can be looked for among the newest numbers only.
///
/// Numbers are given out in a circle of at least 32,768. No system goes round it in a tenth of a second.
const YOUNG: Duration = Duration::from_millis(100);

/// How often we look where a process has no environment: it may be just starting a program, which takes less than a
/// millisecond, or may have cleared it for good.
pub(super) const LOOKS_MAX: u32 = 3;

/// Finds the living processes of one run, and takes its dead ones that came to us.
pub(super) struct Finder<'a> {
    target: Target,
    /// The control groups around the run: whoever is in them belongs to it.
    fences: &'a [Fence],
    marker: Vec<u8>,
    reach: Reach,
    /// Everything that ever was a member, with its start time. It stays one while it dies and has no environment any more,
    /// and is reaped when it has died.
    seen: BTreeMap<u32, u64>,
    looked: bool,
}

/// Where orphans of the run may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Only among our children: we adopt them.
    Adopted,
    /// Anywhere.
    Everywhere,
}

impl<'a> Finder<'a> {
    /// Finds the processes of a run that we started.
    pub(super) fn among_ours(target: Target, fences: &'a [Fence]) -> Self {
        let reach = if reaper::adopting() { Reach::Adopted } else { Reach::Everywhere };
        Self::new(target, fences, reach)
    }

    /// Finds the processes of a run that an earlier daemon started.
    pub(super) fn everywhere(target: Target, fences: &'a [Fence]) -> Self {
        Self::new(target, fences, Reach::Everywhere)
    }

    fn new(target: Target, fences: &'a [Fence], reach: Reach) -> Self {
        let marker = scan::marker(target.run);
        Self { target, fences, marker, reach, seen: BTreeMap::new(), looked: false }
    }

    /// Whose processes it finds.
    pub(super) const fn target(&self) -> Target {
        self.target
    }

    /// The members in a table that somebody read a moment ago.
    pub(super) fn among(&self, table: &Table) -> BTreeSet<u32> {
        self.members(table).0
    }

    /// The living members, in the order of their numbers.
    pub(super) fn find(&mut self) -> Vec<ProcessId> {
        let mut looks = 0;
        loop {
            let table = self.table();
            let (members, unclear) = self.members(&table);
            looks += 1;
            if unclear && looks < LOOKS_MAX {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let found = table.iter().filter(|stat| members.contains(&stat.pid));
            self.seen.extend(found.map(|stat| (stat.pid, stat.started)));
            self.reap(&table);
            let alive = table.iter().filter(|stat| stat.alive && members.contains(&stat.pid));
            return alive.map(|stat| ProcessId { pid: stat.pid, started: stat.started }).collect();
        }
    }

    /// The whole table of processes, or the newest of them if that is enough, which is a hundred times cheaper.
    fn table(&mut self) -> Table {
        let first = !std::mem::replace(&mut self.looked, true);
        if first
            && self.reach == Reach::Adopted
            && let (Some(root), Some(at)) = (self.target.root, self.target.root_started)
            && let Some(table) = Table::read_from(root.pid)
            && at.elapsed() < YOUNG
        {
            return table;
        }
        Table::read()
    }

    /// The members in `table`, and whether there was one that we can't tell yet.
    fn members(&self, table: &Table) -> (BTreeSet<u32>, bool) {
        let own = std::process::id();
        // If the number was given to another, then nobody of the group is left: a group keeps the number from being used.
        let is_same = |root: &ProcessId| table.of_number(root.pid).is_none_or(|stat| stat.started == root.started);
        let root = self.target.root.filter(|root| root.started == 0 || is_same(root)).map(|root| root.pid);
        let mut unclear = false;
        let mut members: BTreeSet<u32> = self.fences.iter().flat_map(Fence::members).collect();
        for stat in table.iter().filter(|stat| stat.pid != own) {
            let was_seen = self.seen.get(&stat.pid) == Some(&stat.started);
            if was_seen || Some(stat.pid) == root || Some(stat.group) == root {
                members.insert(stat.pid);
            } else if self.may_be_orphan(stat, own) {
                match scan::environment(stat.pid, &self.marker) {
                    Environment::Marked => drop(members.insert(stat.pid)),
                    Environment::Empty => unclear = true,
                    Environment::Strange => {}
                }
            }
        }
        table.add_descendants(&mut members, own);
        (members, unclear)
    }

    fn may_be_orphan(&self, stat: &Stat, own: u32) -> bool {
        let near = match self.reach {
            Reach::Adopted => stat.parent == own,
            Reach::Everywhere => true,
        };
        near && stat.alive && !stat.kernel && !reaper::is_root(stat.pid)
    }

    /// Takes the status of dead members that are our children, except the main process.
    fn reap(&mut self, table: &Table) {
        for stat in table.children_of(std::process::id()) {
            if !stat.alive && self.seen.contains_key(&stat.pid) && !reaper::is_root(stat.pid) {
                handle::reap(stat.pid);
                self.seen.remove(&stat.pid);
            }
        }
    }
}
