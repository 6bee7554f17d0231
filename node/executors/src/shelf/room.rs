//! How much may lie on the shelf, and who counts it.

use std::fs;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

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
    /// [`ShelfError::OverQuota`] if there is none, also after everything was deleted that nobody needs.
    pub fn grow(&mut self, bytes: u64) -> Result<(), ShelfError> {
        self.shelf.take(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Says that what it was taken for is there under its name.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shelf.give_back(self.bytes);
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
    /// [`ShelfError::OverQuota`] if there is none.
    pub fn room(&self, bytes: u64) -> Result<Room, ShelfError> {
        let mut room = self.no_room();
        room.grow(bytes)?;
        Ok(room)
    }

    /// Bytes of all blobs, and of those that are on their way here.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
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

    /// Counts what is there anew: others may put files here, or take them away.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn count_again(&self) -> io::Result<()> {
        let before = self.used();
        let mut found = 0_u64;
        for entry in fs::read_dir(&self.inner.folder)? {
            // One that goes meanwhile is none.
            found = found.saturating_add(entry?.metadata().map_or(0, |found| found.len()));
        }
        // What came or went while we counted has been added or taken off by those who did it.
        if found >= before {
            self.inner.used.fetch_add(found - before, Ordering::Relaxed);
        } else {
            self.give_back(before - found);
        }
        Ok(())
    }

    fn take(&self, bytes: u64) -> Result<(), ShelfError> {
        self.inner.used.fetch_add(bytes, Ordering::Relaxed);
        if self.used() > self.quota() {
            self.make_room();
        }
        let (used, quota) = (self.used(), self.quota());
        if used <= quota {
            return Ok(());
        }
        self.give_back(bytes);
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

    /// So many bytes are not there any more.
    pub(super) fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        // The closure always has an answer.
        let _ = self.inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
