//! Deleting blobs that nothing refers to.
//!
//! The files are compared with all that jobs, attempts and schedules refer to: everything that is referred to is struck
//! from a list of files, and what is left on it goes. **The hard case** is a job that is submitted at that moment with an
//! input that was uploaded long ago. Whoever finds a blob makes it a day younger by that (see [`crate::blobs`]), and only
//! old ones are deleted, so it stays.

use std::collections::BTreeSet;
use std::time::Duration;

use jobmesh_engine::{SCHEDULE_BYTES_MAX, Schedule};
use jobmesh_protocol::cbor;
use jobmesh_protocol::id::Hash;
use jobmesh_store::View;

use super::{ChoreError, check, reader};
use crate::runtime::Handle;

/// How long a blob is kept that nothing refers to: an upload comes before its job, an output before its receipt.
const KEPT: Duration = Duration::from_secs(86_400);
/// Most files on the list at a time: some MiB. With more, the hashes are gone through in parts.
const LISTED_MAX: usize = 1 << 16;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

pub(super) fn perform(handle: &Handle) -> Result<Swept, ChoreError> {
    let blobs = handle.blobs();
    let failed = || ChoreError::file(blobs.folder());
    let mut swept = Swept::default();
    let parts = blobs.each_older(KEPT, |_| ()).map_err(failed())? / LISTED_MAX + 1;
    for part in 0..parts {
        check(handle)?;
        let mut unused = BTreeSet::new();
        blobs
            .each_older(KEPT, |hash| {
                if part_of(hash, parts) == part && unused.len() < LISTED_MAX {
                    unused.insert(hash);
                }
            })
            .map_err(failed())?;
        if unused.is_empty() {
            continue;
        }
        strike_used(reader(handle)?.view(), &mut unused)?;
        for hash in unused {
            check(handle)?;
            if let Some(bytes) = blobs.remove_older(hash, KEPT).map_err(failed())? {
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

/// Takes everything off the list that is referred to.
fn strike_used(view: View<'_>, listed: &mut BTreeSet<Hash>) -> Result<(), ChoreError> {
    view.each_blob_in_use(|hash| {
        listed.remove(&hash);
    })?;
    for row in view.schedules()? {
        match cbor::decode::<Schedule>(&row.body, SCHEDULE_BYTES_MAX) {
            Ok(schedule) => {
                for blob in schedule.submission.spec.blobs() {
                    listed.remove(&blob.hash);
                }
            }
            Err(error) => {
                // Who knows what it needs.
                tracing::error!(schedule = row.name, %error, "a schedule can't be read; no blob is deleted");
                listed.clear();
            }
        }
    }
    Ok(())
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
