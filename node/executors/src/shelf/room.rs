//! How much may lie on the shelf, and who counts it.

use std::fs;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use jobmesh_protocol::id::Hash;

use super::{Shelf, ShelfError};

/// Room on the shelf for something that is on its way there. What was not kept is given back when this is dropped.
#[derive(Debug)]
pub struct Room {
    shelf: Shelf,
    bytes: u64,
}

impl Room {
    /// Takes more room.
    ///
    /// # Errors
    /// [`ShelfError::AboveQuota`] if there could never be so much, and nothing is deleted for it then;
    /// [`ShelfError::OverQuota`] if there is none, also after everything was deleted that nobody needs.
    pub fn grow(&mut self, bytes: u64) -> Result<(), ShelfError> {
        let (all, quota) = (self.bytes.saturating_add(bytes), self.shelf.quota());
        if all > quota {
            return Err(ShelfError::AboveQuota { quota });
        }
        self.shelf.take(bytes)?;
        self.bytes = all;
        Ok(())
    }

    /// Says that what it was taken for is there under its name.
    pub fn keep(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.shelf.inner.stored.fetch_add(bytes, Ordering::Relaxed);
        less(&self.shelf.inner.expected, bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        less(&self.shelf.inner.expected, self.bytes);
    }
}

impl Shelf {
    /// Room for nothing yet.
    pub(super) fn no_room(&self) -> Room {
        Room { shelf: self.clone(), bytes: 0 }
    }

    /// Room for so many bytes, which somebody else is about to put here. May delete what is not needed, so it may wait for
    /// the disk.
    ///
    /// # Errors
    /// [`ShelfError::AboveQuota`] or [`ShelfError::OverQuota`] if there is none.
    pub fn room(&self, bytes: u64) -> Result<Room, ShelfError> {
        let mut room = self.no_room();
        room.grow(bytes)?;
        Ok(room)
    }

    /// Bytes of all blobs, and of those that are on their way here.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.stored.load(Ordering::Relaxed).saturating_add(self.inner.expected.load(Ordering::Relaxed))
    }

    /// Most bytes of these.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.inner.quota.load(Ordering::Relaxed)
    }

    /// Says how many bytes the blobs may take together. What is there already stays.
    pub fn set_quota(&self, bytes: u64) {
        self.inner.quota.store(bytes, Ordering::Relaxed);
    }

    /// Says who deletes what is not needed when there is no room. It is told how many bytes are too many, and may take its
    /// time. The first one that is named counts.
    pub fn on_full(&self, make_room: impl Fn(&Self, u64) + Send + Sync + 'static) {
        // A second one would be the same.
        let _ = self.inner.make_room.set(Box::new(make_room));
    }

    /// Counts the blobs that are there anew: others may put files here, or take them away.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn count_again(&self) -> io::Result<()> {
        let mut found = 0_u64;
        for entry in fs::read_dir(&self.inner.folder)? {
            let entry = entry?;
            // What is on its way has room of its own.
            let is_blob = entry.file_name().to_str().is_some_and(|name| name.parse::<Hash>().is_ok());
            if is_blob {
                // One that goes meanwhile is none.
                found = found.saturating_add(entry.metadata().map_or(0, |found| found.len()));
            }
        }
        self.inner.stored.store(found, Ordering::Relaxed);
        Ok(())
    }

    fn take(&self, bytes: u64) -> Result<(), ShelfError> {
        self.inner.expected.fetch_add(bytes, Ordering::Relaxed);
        if self.used() > self.quota() {
            self.make_room();
        }
        let (used, quota) = (self.used(), self.quota());
        if used <= quota {
            return Ok(());
        }
        less(&self.inner.expected, bytes);
        Err(ShelfError::OverQuota { used: used.saturating_sub(bytes), quota })
    }

    fn make_room(&self) {
        let Some(make_room) = self.inner.make_room.get() else { return };
        let _one = self.inner.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was here before us may have made enough.
        let over = self.used().saturating_sub(self.quota());
        if over > 0 {
            make_room(self, over);
        }
    }

    /// So many bytes of blobs are not there any more.
    pub(super) fn forget(&self, bytes: u64) {
        less(&self.inner.stored, bytes);
    }
}

/// Takes so many off a count, which never gets below nothing.
fn less(count: &AtomicU64, bytes: u64) {
    // The closure always has an answer.
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(before.saturating_sub(bytes)));
}
