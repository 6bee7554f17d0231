//! The files of one node, and what is about to go wrong with them.

use std::collections::BTreeMap;

use super::fault::DiskFault;
use super::file::{File, Loss};
use crate::random::Stream;

/// Which file, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// Which life of the daemon opened a file. What an earlier one still asks for fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Boot(u64);

/// Why an operation on a file fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IoError {
    /// The daemon is dead.
    Dead,
    Read,
    Write,
    Sync,
    Full,
    /// There is no such file.
    Missing,
}

/// What strikes at an operation that is counted down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The daemon is killed.
    Kill,
    /// The power is cut, with this for the writes that no sync has covered.
    Cut(Loss),
    /// So many reads and writes fail.
    Io(u32),
}

/// A change of the directory that no sync has covered.
#[derive(Clone, Debug)]
enum NameChange {
    Made(String, FileId),
    Deleted(String),
}

/// What a drive has done and suffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Operations of daemons.
    pub(crate) operations: u64,
    /// Bytes that they wrote.
    pub(crate) bytes: u64,
    /// Changes that a power cut found unsynced.
    pub(crate) unsynced: u64,
    /// Those of them that did not arrive whole.
    pub(crate) missing: u64,
}

/// The drive of one node.
#[derive(Debug)]
pub(super) struct Drive {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    /// The directory as it is on the drive.
    durable_names: BTreeMap<String, FileId>,
    name_changes: Vec<NameChange>,
    last_file: u64,
    boot: Boot,
    sector: usize,
    stream: Stream,
    /// Whether operations are counted and may fail. The oracle's are not and may not.
    pub(super) is_awake: bool,
    /// Nothing reaches the files before the next boot.
    pub(super) is_dead: bool,
    /// Since this daemon started something went wrong that it may notice.
    pub(super) is_hurt: bool,
    /// The last daemon went down with the machine.
    pub(super) had_power_cut: bool,
    pub(super) strike: Option<(u64, Strike)>,
    pub(super) fails_next_sync: bool,
    pub(super) lies: bool,
    /// How many bytes the files may take together.
    pub(super) room: Option<usize>,
    io_errors: u32,
    /// What struck and was not told yet.
    pub(super) struck: Vec<DiskFault>,
    pub(super) figures: Figures,
}

impl Drive {
    pub(super) fn new(mut stream: Stream) -> Self {
        let sector = if stream.chance(500) { 512 } else { 4096 };
        Self {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            last_file: 0,
            boot: Boot::default(),
            sector,
            stream,
            is_awake: false,
            is_dead: true,
            is_hurt: false,
            had_power_cut: false,
            strike: None,
            fails_next_sync: false,
            lies: false,
            room: None,
            io_errors: 0,
            struck: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// A new daemon finds the files as the last one, or the power cut, left them.
    pub(super) fn start(&mut self) {
        self.boot.0 += 1;
        self.is_dead = false;
        self.is_hurt = false;
        self.io_errors = 0;
    }

    pub(super) const fn boot(&self) -> Boot {
        self.boot
    }

    /// Nothing goes wrong from now on.
    pub(super) fn heal(&mut self) {
        self.strike = None;
        self.fails_next_sync = false;
        self.room = None;
        self.io_errors = 0;
    }

    /// Forgets every file. Whatever is to happen to the disk happens to nobody.
    pub(super) fn wipe(&mut self) {
        self.heal();
        self.lies = false;
        self.files.clear();
        self.names.clear();
        self.durable_names.clear();
        self.name_changes.clear();
        self.had_power_cut = true;
    }

    pub(super) fn size(&self) -> usize {
        self.names.values().filter_map(|id| self.files.get(id)).map(File::len).sum()
    }

    /// The machine loses power.
    pub(super) fn cut(&mut self, loss: Loss) {
        let changes = std::mem::take(&mut self.name_changes);
        // A file system writes its directories in order.
        let kept = if loss == Loss::Kept { changes.len() } else { self.stream.index(changes.len() + 1) };
        for change in changes.into_iter().take(kept) {
            self.arrive(change);
        }
        self.names.clone_from(&self.durable_names);
        let names = &self.names;
        self.files.retain(|id, _| names.values().any(|named| named == id));
        let mut missing = 0;
        for file in self.files.values_mut() {
            self.figures.unsynced += file.unsynced() as u64;
            missing += file.cut(loss, self.sector, &mut self.stream);
        }
        self.figures.missing += missing;
        self.struck.push(DiskFault::PowerCut);
        let kind = DiskFault::HONEST.into_iter().find(|fault| fault.loss() == Some(loss));
        self.struck.extend(kind.filter(|_| missing > 0));
        self.is_dead = true;
        self.had_power_cut = true;
    }

    fn arrive(&mut self, change: NameChange) {
        match change {
            NameChange::Made(name, id) => {
                self.durable_names.insert(name, id);
            }
            NameChange::Deleted(name) => {
                self.durable_names.remove(&name);
            }
        }
    }

    fn sync_names(&mut self) {
        for change in std::mem::take(&mut self.name_changes) {
            self.arrive(change);
        }
    }

    /// Counts an operation, and has it fail if something is to strike at it.
    fn operate(&mut self, boot: Boot) -> Result<(), IoError> {
        if self.is_dead || boot != self.boot {
            return Err(IoError::Dead);
        }
        if !self.is_awake {
            return Ok(());
        }
        self.figures.operations += 1;
        let Some((operations, strike)) = &mut self.strike else { return Ok(()) };
        if *operations > 0 {
            *operations -= 1;
            return Ok(());
        }
        let strike = *strike;
        self.strike = None;
        match strike {
            Strike::Kill => {
                self.is_dead = true;
                self.had_power_cut = false;
                self.struck.push(DiskFault::Kill);
                Err(IoError::Dead)
            }
            Strike::Cut(loss) => {
                self.cut(loss);
                Err(IoError::Dead)
            }
            Strike::Io(times) => {
                self.io_errors = times;
                Ok(())
            }
        }
    }

    fn fail_io(&mut self, error: IoError) -> Result<(), IoError> {
        if !self.is_awake || self.io_errors == 0 {
            return Ok(());
        }
        self.io_errors -= 1;
        self.hurt(DiskFault::Io);
        Err(error)
    }

    fn hurt(&mut self, fault: DiskFault) {
        self.is_hurt = true;
        self.struck.push(fault);
    }

    fn file(&mut self, id: FileId) -> Result<&mut File, IoError> {
        self.files.get_mut(&id).ok_or(IoError::Missing)
    }

    /// Finds a file or makes it.
    pub(super) fn open(&mut self, name: Option<&str>, may_make: bool) -> Result<FileId, IoError> {
        self.operate(self.boot)?;
        if let Some(id) = name.and_then(|name| self.names.get(name)) {
            return Ok(*id);
        }
        if !may_make {
            return Err(IoError::Missing);
        }
        self.last_file += 1;
        let id = FileId(self.last_file);
        self.files.insert(id, File::default());
        // A file without a name is one that nobody wants after a crash.
        if let Some(name) = name {
            self.names.insert(name.to_owned(), id);
            self.name_changes.push(NameChange::Made(name.to_owned(), id));
        }
        Ok(id)
    }

    pub(super) fn delete(&mut self, name: &str, is_synced: bool) -> Result<(), IoError> {
        self.operate(self.boot)?;
        self.names.remove(name).ok_or(IoError::Missing)?;
        self.name_changes.push(NameChange::Deleted(name.to_owned()));
        if is_synced {
            self.sync_names();
        }
        Ok(())
    }

    /// The length of a file by its name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).and_then(|id| self.files.get(id)).map(File::len)
    }

    /// Reads what is there and returns how much that was.
    pub(super) fn read(&mut self, boot: Boot, id: FileId, at: usize, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.operate(boot)?;
        self.fail_io(IoError::Read)?;
        Ok(self.file(id)?.read(at, buffer))
    }

    /// Writes. A power cut that strikes at it finds it among the unsynced writes, so that it may be torn.
    pub(super) fn write(&mut self, boot: Boot, id: FileId, at: usize, bytes: &[u8]) -> Result<(), IoError> {
        if self.is_dead || boot != self.boot {
            return Err(IoError::Dead);
        }
        self.fail_io(IoError::Write)?;
        let growth = (at + bytes.len()).saturating_sub(self.file(id)?.len());
        if growth > 0 && self.room.is_some_and(|room| self.size() + growth > room) {
            self.hurt(DiskFault::Full);
            return Err(IoError::Full);
        }
        self.file(id)?.write(at, bytes);
        if self.is_awake {
            self.figures.bytes += bytes.len() as u64;
        }
        self.operate(boot)
    }

    pub(super) fn truncate(&mut self, boot: Boot, id: FileId, length: usize) -> Result<(), IoError> {
        self.operate(boot)?;
        self.file(id)?.resize(length);
        Ok(())
    }

    /// Makes a file durable; with it, as SQLite asks for new logs and journals, the directory.
    pub(super) fn sync(&mut self, boot: Boot, id: FileId) -> Result<(), IoError> {
        self.operate(boot)?;
        if self.is_awake && self.fails_next_sync {
            self.fails_next_sync = false;
            self.hurt(DiskFault::Sync);
            if let Some(file) = self.files.get_mut(&id) {
                file.fail_sync(&mut self.stream);
            }
            return Err(IoError::Sync);
        }
        if self.lies {
            self.struck.push(DiskFault::LyingSync);
            return Ok(());
        }
        self.file(id)?.sync();
        self.sync_names();
        Ok(())
    }

    pub(super) fn length(&mut self, boot: Boot, id: FileId) -> Result<usize, IoError> {
        self.operate(boot)?;
        Ok(self.file(id)?.len())
    }

    /// Writes what programs see of a file once more and syncs it, as the daemon does with a log that it finds.
    pub(super) fn renew(&mut self, name: &str) -> Result<(), IoError> {
        self.operate(self.boot)?;
        let Some(id) = self.names.get(name).copied() else { return Ok(()) };
        let bytes = self.file(id)?.bytes().to_vec();
        if bytes.is_empty() {
            return Ok(());
        }
        self.write(self.boot, id, 0, &bytes)?;
        self.sync(self.boot, id)
    }

    /// Flips a bit somewhere in a file.
    pub(super) fn rot(&mut self, name: &str) {
        let Some(file) = self.names.get(name).and_then(|id| self.files.get_mut(id)) else { return };
        let place = self.stream.index(file.len());
        file.rot(place, self.stream.below(8));
        self.hurt(DiskFault::BitRot);
    }

    /// All files as they are, to be put back later.
    pub(super) fn backup(&self) -> Backup {
        Backup { files: self.files.clone(), names: self.names.clone() }
    }

    /// Puts the files of an earlier time back, durably.
    pub(super) fn restore(&mut self, backup: Backup) {
        self.install(backup);
        self.hurt(DiskFault::OldBackup);
    }

    /// Takes over files, durably.
    pub(super) fn install(&mut self, backup: Backup) {
        self.files = backup.files;
        self.files.values_mut().for_each(File::sync);
        self.durable_names.clone_from(&backup.names);
        self.names = backup.names;
        self.name_changes.clear();
        self.last_file = self.files.keys().map(|id| id.0).max().unwrap_or(0).max(self.last_file);
    }

    /// Feeds everything that programs see to a hash.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        for (name, id) in &self.names {
            let bytes = self.files.get(id).map(File::bytes).unwrap_or_default();
            hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
    }
}

/// The files of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
}
