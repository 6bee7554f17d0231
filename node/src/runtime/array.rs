//! What makes a task of an array different from its siblings: its index and its item.
//!
//! **The hard case** is speed: items are in the database, 256 in a row, and thousands of tasks may start in a second.
//! So the rows that were read last are kept, and most tasks find theirs there.

use std::collections::VecDeque;

use jobmesh_protocol::JobNumber;
use jobmesh_protocol::place::Place;
use jobmesh_store::{Items, StoreError, View};

/// Most groups that are remembered: more than run at once, and their rows take some MiB at worst.
const GROUPS_MAX: usize = 16;

/// What was read of the group of a task.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// No array: its tasks were submitted one by one, each with a spec of its own.
    Open,
    /// An array of numbers.
    Numbers,
    /// An array of items, and some of those.
    Items(Items),
}

/// What can be told of a task without reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is no task of an array.
    Plain,
    /// Where it stands.
    At(Place),
    /// Its group has to be read first.
    Unknown,
}

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct Arrays {
    groups: VecDeque<(JobNumber, Known)>,
}

impl Arrays {
    pub(super) fn look(&self, task: JobNumber) -> Look {
        let Some(index) = task.index() else { return Look::Plain };
        let group = task.group();
        let place = |item| Look::At(Place { group, index, item });
        match self.groups.iter().find(|(known, _)| *known == group) {
            Some((_, Known::Open)) => Look::Plain,
            Some((_, Known::Numbers)) => place(None),
            Some((_, Known::Items(items))) => {
                items.of(index).map_or(Look::Unknown, |item| place(Some(item.to_owned())))
            }
            None => Look::Unknown,
        }
    }

    /// Keeps what was read, in place of what was known of the same group, or of the one that was read longest ago.
    pub(super) fn learn(&mut self, group: JobNumber, known: Known) {
        self.groups.retain(|(other, _)| *other != group);
        self.groups.truncate(GROUPS_MAX - 1);
        self.groups.push_front((group, known));
    }
}

impl Known {
    /// Where a task of this group stands; `None` if it is no array.
    pub(super) fn place(&self, task: JobNumber) -> Option<Place> {
        let (group, index) = (task.group(), task.index()?);
        match self {
            Self::Open => None,
            Self::Numbers => Some(Place { group, index, item: None }),
            Self::Items(items) => Some(Place { group, index, item: items.of(index).map(str::to_owned) }),
        }
    }
}

/// Reads about the group of a task.
pub(super) fn read(view: View<'_>, task: JobNumber) -> Result<Known, StoreError> {
    match view.group(task.group())? {
        Some(group) if group.is_array && group.ranges.is_some() => Ok(Known::Numbers),
        Some(group) if group.is_array => Ok(view.items_around(task)?.map_or(Known::Numbers, Known::Items)),
        Some(_) | None => Ok(Known::Open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_known_until_others_push_it_out() {
        let mut arrays = Arrays::default();
        let group = JobNumber::new(1);
        assert_eq!(arrays.look(group), Look::Plain);
        assert_eq!(arrays.look(group.task(300)), Look::Unknown);
        arrays.learn(
            group,
            Known::Items(Items { first: 257, items: (257..=512).map(|at: u32| at.to_string()).collect() }),
        );
        assert_eq!(arrays.look(group.task(1)), Look::Unknown);
        let found = Place { group, index: 300, item: Some("300".to_owned()) };
        assert_eq!(arrays.look(group.task(300)), Look::At(found));
        for other in 2..=40 {
            arrays.learn(JobNumber::new(other), if other % 2 == 0 { Known::Open } else { Known::Numbers });
        }
        assert_eq!(arrays.groups.len(), GROUPS_MAX);
        assert_eq!(arrays.look(group.task(300)), Look::Unknown);
        assert_eq!(arrays.look(JobNumber::new(40).task(1)), Look::Plain);
        assert!(matches!(arrays.look(JobNumber::new(39).task(5)), Look::At(Place { index: 5, item: None, .. })));
    }
}
