//! Deleting blobs that nothing refers to, and what has come of transfers that nobody goes on with.
//!
//! The files are compared with all that jobs, attempts and schedules refer to, the files of the trees among that included:
//! everything that is referred to is struck from a list of files, and what is left on it goes. **The hard case** is a job that is submitted at that moment with an
//! input that was uploaded long ago. Whoever finds a blob makes it a day younger by that (see [`crate::blobs`]), and only
//! old ones are deleted, so it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use jobmesh_engine::{SCHEDULE_BYTES_MAX, Schedule};
use jobmesh_executors::{Shelf, ShelfError, TreeReadError};
use jobmesh_protocol::cbor;
use jobmesh_protocol::id::Hash;
use jobmesh_store::{InUse, Reader, View};

use super::{ChoreError, check, reader};
use crate::causes::causes;
use crate::home::Home;
use crate::runtime::Handle;

/// How long a blob is kept that nothing refers to: an upload comes before its job, an output before its receipt.
const KEPT: Duration = Duration::from_secs(86_400);
/// The same where there is no room: longer than a person takes from an upload to its job. What is found is made young again
/// more often than that.
const PRESSED: Duration = Duration::from_secs(3600);
/// Most files on the list at a time: some MiB. With more, the hashes are gone through in parts.
const LISTED_MAX: usize = 1 << 16;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

pub(super) fn perform(handle: &Handle) -> Result<Swept, ChoreError> {
    let shelf = handle.blobs().shelf();
    let parts = handle.shared().downloads.sweep_old_parts(shelf.folder());
    let mut swept = sweep(shelf, KEPT, u64::MAX, &|| check(handle), &|| reader(handle))?;
    swept.files += parts;
    // Others may have put files there, or taken them away.
    shelf.count_again().map_err(ChoreError::file(shelf.folder()))?;
    Ok(swept)
}

/// Deletes so many bytes that nothing refers to, the oldest first, because there is no room. What was uploaded within the
/// last hour stays: its job may be about to be submitted.
pub(in crate::runtime) fn make_room(home: &Home, shelf: &Shelf, bytes: u64) {
    let open = || Ok(Reader::open(home.path())?);
    match sweep(shelf, PRESSED, bytes, &|| Ok(()), &open) {
        Ok(swept) => {
            tracing::info!(blobs = swept.files, bytes = swept.bytes, wanted = bytes, "made room for other blobs");
        }
        Err(error) => tracing::error!(error = %causes(&error), "no room could be made for other blobs"),
    }
}

/// Deletes blobs that nobody has found for so long and nothing refers to, until so many bytes are free. With more files
/// than fit on the list, the oldest of each part go first.
fn sweep(
    shelf: &Shelf,
    age: Duration,
    bytes_wanted: u64,
    check: &dyn Fn() -> Result<(), ChoreError>,
    reader: &dyn Fn() -> Result<Reader, ChoreError>,
) -> Result<Swept, ChoreError> {
    let failed = || ChoreError::file(shelf.folder());
    let mut swept = Swept::default();
    let parts = shelf.each_older(age, |_, _| ()).map_err(failed())? / LISTED_MAX + 1;
    for part in 0..parts {
        check()?;
        let mut unused = BTreeMap::new();
        shelf
            .each_older(age, |hash, at| {
                if part_of(hash, parts) == part && unused.len() < LISTED_MAX {
                    unused.insert(hash, at);
                }
            })
            .map_err(failed())?;
        if unused.is_empty() {
            continue;
        }
        strike_used(reader()?.view(), shelf, &mut unused)?;
        let mut oldest: Vec<_> = unused.into_iter().map(|(hash, at)| (at, hash)).collect();
        oldest.sort_unstable();
        for (_, hash) in oldest {
            check()?;
            if swept.bytes >= bytes_wanted {
                return Ok(swept);
            }
            if let Some(bytes) = shelf.remove_older(hash, age).map_err(failed())? {
                swept.files += 1;
                swept.bytes += bytes;
            }
        }
    }
    Ok(swept)
}

/// Which of so many parts a hash belongs to.
fn part_of(hash: Hash, parts: usize) -> usize {
    let [first, second, ..] = *hash.as_bytes();
    (usize::from(u16::from_be_bytes([first, second])) * parts) >> 16
}

/// Blobs by what was last heard of them.
type Listed = BTreeMap<Hash, SystemTime>;

/// Takes everything off the list that is referred to.
fn strike_used(view: View<'_>, shelf: &Shelf, listed: &mut Listed) -> Result<(), ChoreError> {
    let mut trees = BTreeSet::new();
    let mut strike = |used: InUse| match used {
        InUse::Bytes(hash) => {
            listed.remove(&hash);
        }
        InUse::Tree(hash) => {
            listed.remove(&hash);
            trees.insert(hash);
        }
    };
    view.each_blob_in_use(&mut strike)?;
    let mut is_known = true;
    for row in view.schedules()? {
        match cbor::decode::<Schedule>(&row.body, SCHEDULE_BYTES_MAX) {
            Ok(schedule) => InUse::by(&schedule.submission.spec).for_each(&mut strike),
            Err(error) => {
                // Who knows what it needs.
                tracing::error!(schedule = row.name, %error, "a schedule can't be read; no blob is deleted");
                is_known = false;
            }
        }
    }
    for tree in trees {
        is_known &= strike_tree(shelf, tree, listed);
    }
    if !is_known {
        listed.clear();
    }
    Ok(())
}

/// Takes the files of a tree off the list. Says whether they are known.
fn strike_tree(shelf: &Shelf, tree: Hash, listed: &mut Listed) -> bool {
    match shelf.tree(tree) {
        Ok(tree) => {
            for blob in tree.blobs() {
                listed.remove(&blob.hash);
            }
            true
        }
        // Without it, nobody can use its files either; and what is no tree names none.
        Err(TreeReadError::Shelf(ShelfError::Missing { .. } | ShelfError::Damaged { .. }) | TreeReadError::Tree(_)) => {
            true
        }
        Err(TreeReadError::Shelf(error)) => {
            tracing::error!(%tree, error = %causes(&error), "a tree can't be read; no blob is deleted");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_in_one_part() {
        for parts in [1, 2, 3, 7, 1000] {
            let lowest = part_of(Hash::from_bytes([0; 32]), parts);
            let highest = part_of(Hash::from_bytes([0xff; 32]), parts);
            assert_eq!((lowest, highest), (0, parts - 1));
        }
    }
}
