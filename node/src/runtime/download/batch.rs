//! Many small blobs by one transfer: on one stream, and with one sync of the disk for all of them.
//!
//! A tree of thousands of files would else wait for a round trip and a disk with each. What comes of a batch is kept even
//! if the rest does not, so the next attempt asks for the rest only.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::future::{Either, select};
use jobmesh_engine::BlobKind;
use jobmesh_mesh::{Mesh, SMALL_BYTES_MAX};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use tokio::sync::mpsc;

use super::{Bring, Failure, Load};

/// Most blobs of a batch: with each sync so many come that it hardly counts.
const BATCH_BLOBS_MAX: usize = 512;
/// Most bytes of a batch: what a daemon that is killed in the middle has asked for in vain.
const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Blobs that wait for the disk, of 256 KiB each at most. With more the stream waits.
const WAITING_MAX: usize = 4;

/// Files of a tree as what is brought at a time.
pub(super) fn loads(blobs: BTreeSet<BlobRef>) -> Vec<Load> {
    let (mut loads, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    for blob in blobs {
        if blob.size > SMALL_BYTES_MAX {
            loads.push(Load::File(blob));
            continue;
        }
        if batch.len() >= BATCH_BLOBS_MAX || bytes.saturating_add(blob.size) > BATCH_BYTES_MAX {
            loads.push(Load::Batch(std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes = bytes.saturating_add(blob.size);
        batch.push(blob);
    }
    if !batch.is_empty() {
        loads.push(Load::Batch(batch));
    }
    loads
}

/// What is still to be done for a batch.
struct Lacking {
    /// Not here.
    missing: Vec<BlobRef>,
    /// Here, but whether the peer has it, too, is not known.
    unshown: Vec<BlobRef>,
}

impl<S: Fn() + Send + Sync> Bring<'_, S> {
    /// Brings small blobs.
    pub(super) async fn batch(&self, blobs: Vec<BlobRef>, within: Option<Hash>) -> Result<(), Failure> {
        let Lacking { missing, unshown } = self.lacking(blobs).await;
        let blobs: BTreeSet<BlobRef> = missing.into_iter().chain(unshown).collect();
        if blobs.is_empty() {
            return Ok(());
        }
        let blobs: Vec<BlobRef> = blobs.into_iter().collect();
        let _turn = self.turn(&blobs).await;
        let mesh = self.mesh()?;
        // Whoever was before us may have brought them.
        let Lacking { mut missing, unshown } = self.lacking(blobs).await;
        missing.extend(self.show_small(&mesh, unshown, within).await);
        if missing.is_empty() {
            return Ok(());
        }
        self.make_room(&missing).await?;
        // Taken only to hear whether there is any: each blob takes its own when it is written.
        drop(self.handle.blobs().room(missing.iter().map(|blob| blob.size).sum()).await?);
        self.fetch_small(&mesh, &missing, within).await?;
        for blob in missing {
            self.downloads().show(self.wanted(blob, BlobKind::File));
        }
        Ok(())
    }

    async fn lacking(&self, blobs: Vec<BlobRef>) -> Lacking {
        let missing = self.handle.blobs().missing(blobs.clone()).await;
        let is_missing: BTreeSet<BlobRef> = missing.iter().copied().collect();
        let is_lacking = |blob: &BlobRef| {
            !is_missing.contains(blob) && !self.downloads().is_shown(self.wanted(*blob, BlobKind::File))
        };
        let unshown = blobs.into_iter().filter(is_lacking).collect();
        Lacking { missing, unshown }
    }

    /// Has the peer show that it has blobs that are here. Returns those that it has not shown.
    async fn show_small(&self, mesh: &Mesh, blobs: Vec<BlobRef>, within: Option<Hash>) -> Vec<BlobRef> {
        if blobs.is_empty() {
            return blobs;
        }
        let all = self.handle.blobs();
        let asked = blobs.iter().map(|blob| (jobmesh_mesh::Requested { blob: *blob, within }, all.path_of(blob.hash)));
        let asked: Vec<_> = asked.collect();
        let shown = mesh.verify_possession_small(self.from, &asked, || (self.step)()).await;
        let shown: BTreeSet<BlobRef> = shown.into_iter().map(|wanted| wanted.blob).collect();
        for blob in &shown {
            self.downloads().show(self.wanted(*blob, BlobKind::File));
        }
        let unshown: Vec<BlobRef> = blobs.into_iter().filter(|blob| !shown.contains(blob)).collect();
        if !unshown.is_empty() {
            let (peer, count) = (self.from.short(), unshown.len());
            tracing::warn!(%peer, count, "a peer named a blob of this node and has not shown that it has it");
        }
        unshown
    }

    /// Fetches what is missing, and keeps what has come of it, whether or not all has.
    async fn fetch_small(&self, mesh: &Mesh, missing: &[BlobRef], within: Option<Hash>) -> Result<(), Failure> {
        let wanted: Vec<_> = missing.iter().map(|blob| jobmesh_mesh::Requested { blob: *blob, within }).collect();
        let (into, came) = mpsc::channel(WAITING_MAX);
        let fetching = async {
            let fetched = mesh.fetch_small(self.from, &wanted, &into, |_| (self.step)()).await;
            drop(into);
            fetched
        };
        // Dropped, it still keeps what has come: the thread that writes goes on by itself.
        let keeping = self.handle.blobs().write_each(came);
        let (fetched, kept) = match select(pin!(fetching), pin!(keeping)).await {
            // Only now is it the disk alone that is waited for: a peer that lets us wait is no step forward.
            Either::Left((fetched, keeping)) => (fetched, self.in_line(keeping).await),
            Either::Right((kept, fetching)) => (fetching.await, kept),
        };
        kept?;
        Ok(fetched?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u64, size: u64) -> BlobRef {
        BlobRef { hash: Hash::of(&number.to_le_bytes()), size }
    }

    #[test]
    fn small_files_go_together_up_to_a_bound_and_large_ones_alone() {
        let small = BATCH_BLOBS_MAX as u64 + 1;
        let blobs: BTreeSet<BlobRef> = (0..small).map(|number| blob(number, 1000)).collect();
        let large = blob(small, SMALL_BYTES_MAX + 1);
        let all: BTreeSet<BlobRef> = blobs.iter().copied().chain([large]).collect();
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for load in loads(all) {
            match load {
                Load::File(blob) => alone.push(blob),
                Load::Batch(batch) => together.push(batch),
            }
        }
        assert_eq!((alone, together.len(), together.first().map(Vec::len)), (vec![large], 2, Some(BATCH_BLOBS_MAX)));
        assert_eq!(together.concat(), blobs.into_iter().collect::<Vec<_>>(), "none is left out");
    }

    #[test]
    fn no_batch_is_larger_than_what_may_come_in_vain() {
        let blobs: BTreeSet<BlobRef> = (0..100).map(|number| blob(number, SMALL_BYTES_MAX)).collect();
        let loads = loads(blobs);
        let most = usize::try_from(BATCH_BYTES_MAX / SMALL_BYTES_MAX).unwrap_or(0);
        assert!(loads.iter().all(|load| matches!(load, Load::Batch(batch) if batch.len() <= most)));
        assert_eq!(loads.len(), 100_usize.div_ceil(most));
    }
}
