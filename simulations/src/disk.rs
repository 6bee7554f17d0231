//! Disks that fail as real ones do, under the real SQLite.
//!
//! A [`Disk`] holds the files of one node in memory. The module `vfs` shows them to SQLite as a file system (a "VFS"),
//! so that the store runs as it ships: same pragmas, same log, same recovery. What a sync has covered is on the drive;
//! what was written since can be lost, torn or reordered when the power is cut, and a cut can strike at any operation.
//!
//! **The hard case** is that the daemon notices nothing while it lives: it reads what it wrote from the system's cache,
//! durable or not. So each file is kept twice, as programs see it and as the drive has it, and only a power cut shows
//! the difference. After a sync that failed the two stay apart for ever, as on Linux.
//!
//! SQLite draws the salts of its log from a generator of the whole process that it seeds once from the default VFS.
//! [`seed`] makes this one the default and seeds it anew, so that equal seeds give equal files, in processes that run
//! one world at a time.

mod drive;
mod fault;
mod file;
mod vfs;

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

pub(crate) use drive::{Backup, Figures, Strike};
pub use fault::DiskFault;
pub use file::Loss;
pub(crate) use vfs::{NAME as VFS, seed};

use drive::Drive;

use crate::random::Stream;

/// The database's file.
const DATABASE: &str = "jobs.db";
/// Its log.
const LOG: &str = "jobs.db-wal";

/// The disk of one node. Dropped, it is gone.
pub(crate) struct Disk {
    number: u64,
    drive: Rc<RefCell<Drive>>,
}

impl Disk {
    /// An empty disk that draws its accidents from `stream`.
    pub(crate) fn new(stream: Stream) -> Self {
        let drive = Rc::new(RefCell::new(Drive::new(stream)));
        Self { number: vfs::mount(&drive), drive }
    }

    fn drive(&self) -> Ref<'_, Drive> {
        self.drive.borrow()
    }

    fn drive_mut(&self) -> RefMut<'_, Drive> {
        self.drive.borrow_mut()
    }

    /// Where the database is, by the VFS [`VFS`].
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/{}/{DATABASE}", self.number))
    }

    /// A daemon starts. Whatever an earlier one still has open is dead.
    pub(crate) fn start(&self) {
        self.drive_mut().start();
    }

    /// The daemon is killed: nothing more arrives from it, and what it wrote stays.
    pub(crate) fn kill(&self) {
        let mut drive = self.drive_mut();
        if !drive.is_dead {
            drive.is_dead = true;
            drive.had_power_cut = false;
        }
    }

    /// The machine loses power.
    pub(crate) fn cut(&self, loss: Loss) {
        self.drive_mut().cut(loss);
    }

    /// Whether the daemon was killed or lost its power, perhaps in the middle of an operation.
    pub(crate) fn is_dead(&self) -> bool {
        self.drive().is_dead
    }

    /// Whether something went wrong since the daemon started, so that its database may report errors.
    pub(crate) fn is_hurt(&self) -> bool {
        self.drive().is_hurt
    }

    /// Whether the last daemon went down with the machine.
    pub(crate) fn had_power_cut(&self) -> bool {
        self.drive().had_power_cut
    }

    /// From now on operations are the daemon's: they count and may fail. Otherwise they are the oracle's.
    pub(crate) fn wake(&self, is_awake: bool) {
        self.drive_mut().is_awake = is_awake;
    }

    /// Has something strike after so many more operations.
    pub(crate) fn arm(&self, operations: u64, strike: Strike) {
        self.drive_mut().strike = Some((operations, strike));
    }

    /// Has the next sync fail.
    pub(crate) fn fail_next_sync(&self) {
        self.drive_mut().fails_next_sync = true;
    }

    /// Has every sync from now on succeed and do nothing.
    pub(crate) fn lie(&self) {
        self.drive_mut().lies = true;
    }

    /// Whether syncs do nothing.
    pub(crate) fn lies(&self) -> bool {
        self.drive().lies
    }

    /// Has syncs tell the truth again.
    pub(crate) fn lie_no_more(&self) {
        self.drive_mut().lies = false;
    }

    /// Empties the disk: it is another one.
    pub(crate) fn wipe(&self) {
        self.drive_mut().wipe();
    }

    /// Leaves so many bytes free; with `None`, as many as anyone wants.
    pub(crate) fn limit(&self, free: Option<usize>) {
        let mut drive = self.drive_mut();
        drive.room = free.map(|free| drive.size() + free);
    }

    /// Makes the log durable as programs see it, which `Store::open` does for files of the real file system. Returns
    /// whether it succeeded.
    pub(crate) fn renew_log(&self) -> bool {
        self.drive_mut().renew(LOG).is_ok()
    }

    /// Disarms everything.
    pub(crate) fn heal(&self) {
        self.drive_mut().heal();
    }

    /// What struck since the last call.
    pub(crate) fn take_struck(&self) -> Vec<DiskFault> {
        std::mem::take(&mut self.drive_mut().struck)
    }

    pub(crate) fn figures(&self) -> Figures {
        self.drive().figures
    }

    /// Flips a bit of the database.
    pub(crate) fn rot_database(&self) {
        self.drive_mut().rot(DATABASE);
    }

    /// Flips a bit of its log.
    pub(crate) fn rot_log(&self) {
        self.drive_mut().rot(LOG);
    }

    /// The files as they are, to be put back later.
    pub(crate) fn backup(&self) -> Backup {
        self.drive().backup()
    }

    /// Puts the files of an earlier time back.
    pub(crate) fn restore(&self, backup: Backup) {
        self.drive_mut().restore(backup);
    }

    /// Fills an empty disk.
    pub(crate) fn install(&self, files: Backup) {
        self.drive_mut().install(files);
    }

    /// Feeds the files to a hash.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        self.drive().hash(hasher);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.drive_mut().is_dead = true;
        vfs::unmount(self.number);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("number", &self.number).finish_non_exhaustive()
    }
}
