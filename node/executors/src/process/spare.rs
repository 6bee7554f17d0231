//! Run directories that are used again.
//!
//! Most of the price of a run's directory is its removal: 65 µs for each of the two, against 5 µs for a rename (ext4,
//! kernel 6.18). So when a run left nothing at all, its directory is put aside and becomes that of the slot's next run.
//! The logs are made anew each time: somebody may still have the old ones open, and must not see what comes next.
//!
//! The hard case is a run that left something that isn't a file: another mode, a link in place of the working
//! directory, a process that still stands in it. Each of these keeps the directory out of use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};

use crate::directory::{MODE, make_directory, outcome_path, result_path, work_path};
use crate::files::{remove_if_there, remove_tree};
use crate::output::{Log, Stream};

/// Empties the place where spare directories are kept; they are worth nothing to another life of the daemon.
pub(crate) fn clear(place: &Path) {
    if let Err(error) = remove_tree(place).and_then(|()| make_directory(place)) {
        tracing::warn!(place = %place.display(), error = %error, "failed to clear the place of spare directories");
    }
}

/// What is in a run's directory beside its logs and its working directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// There may be a word about the outcome.
    pub(super) outcome: bool,
    /// There may be a result.
    pub(super) result: bool,
    /// There may be something else.
    others: bool,
}

impl Contents {
    /// For a directory that nobody looked into.
    pub(crate) const UNKNOWN: Self = Self { outcome: true, result: true, others: true };

    const NOTHING: Self = Self { outcome: false, result: false, others: false };

    /// For a run in the daemon, which has at most a result.
    pub(crate) const fn of_result(result: bool) -> Self {
        Self { result, ..Self::NOTHING }
    }
}

/// The directory of a slot's present run, and between two runs the one that waits to be used again.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// Where it is kept between runs; none if nothing is used again.
    path: Option<PathBuf>,
    is_there: bool,
    /// The present one, held open so that what is done in it needn't walk down the whole path.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    entries: Dir,
    identity: (i128, i128),
    /// The working directory as it was when it was found empty, if any change since then would show.
    work: Option<Stamp>,
}

/// What tells one state of a directory from every later one: each change of it or of its list sets its change time,
/// which nobody can set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: (i128, i128),
    changed: (i128, i128),
}

impl Spare {
    pub(crate) fn new(place: Option<&Path>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = place.map(|place| place.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string()));
        Self { path, is_there: false, open: None }
    }

    /// Makes the directory of a run, its working directory included: the spare one, or a new one.
    pub(crate) fn provide(&mut self, directory: &Path) -> io::Result<()> {
        if let Some(path) = self.path.as_deref()
            && std::mem::take(&mut self.is_there)
        {
            // Fails if the run has a directory with something in it, or its parent isn't there yet.
            if self.open.is_some() && fs::rename(path, directory).is_ok() {
                return Ok(());
            }
            let _ = fs::remove_dir(work_path(path)).and_then(|()| fs::remove_dir(path));
        }
        make_directory(directory)?;
        // A start that a crash cut short may have left a word, which is not the one of this run.
        for path in [outcome_path(directory), result_path(directory)] {
            remove_if_there(&path)?;
        }
        make_directory(&work_path(directory))?;
        self.open = Some(Open::of(directory)?);
        Ok(())
    }

    /// Makes a log in the directory of the present run.
    pub(crate) fn make_log(&self, stream: Stream) -> io::Result<Log> {
        let open = self.open.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Log::create(open.entries.fd()?, stream)
    }

    /// Looks what the present run has put into its directory.
    pub(crate) fn contents(&mut self) -> Contents {
        self.open.as_mut().and_then(Open::contents).unwrap_or(Contents::UNKNOWN)
    }

    /// Puts aside the directory of a run that wrote nothing, if it is as good as new, or else removes it. Whatever is in
    /// it stays there. If not `is_alone`, somebody may still stand in it, and it is not used again.
    pub(crate) fn take_back(&mut self, directory: &Path, contents: Contents, is_alone: bool) {
        let Some(open) = &mut self.open else { return };
        if contents != Contents::NOTHING || !open.is_untouched(directory) {
            return;
        }
        for stream in Stream::ALL {
            if let Ok(entries) = open.entries.fd() {
                // Fails where the run removed it, which is as good.
                let _ = unlinkat(entries, stream.file_name(), AtFlags::empty());
            }
        }
        if let Some(path) = self.path.as_deref().filter(|_| is_alone)
            && fs::rename(directory, path).is_ok()
        {
            self.is_there = true;
            return;
        }
        // Failing leaves an empty directory behind, which the run's own removal takes.
        let _ = fs::remove_dir(work_path(directory)).and_then(|()| fs::remove_dir(directory));
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_deref().filter(|_| self.is_there) {
            let _ = fs::remove_dir(work_path(path)).and_then(|()| fs::remove_dir(path));
        }
    }
}

impl Open {
    fn of(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(CWD, directory, flags, Mode::empty())?;
        let identity = identity(&fstat(&descriptor)?);
        Ok(Self { entries: Dir::new(descriptor)?, identity, work: None })
    }

    fn contents(&mut self) -> Option<Contents> {
        let mut contents = Contents::NOTHING;
        self.entries.rewind();
        while let Some(entry) = self.entries.read() {
            match entry.ok()?.file_name().to_bytes() {
                b"." | b".." | b"work" | b"stdout" | b"stderr" => {}
                b"outcome" => contents.outcome = true,
                b"result" => contents.result = true,
                _ => contents.others = true,
            }
        }
        Some(contents)
    }

    /// Whether `directory` is still this one, with an empty working directory, both for us only.
    fn is_untouched(&mut self, directory: &Path) -> bool {
        let found = statat(CWD, directory, AtFlags::SYMLINK_NOFOLLOW);
        let is_same = found.is_ok_and(|found| is_private(&found) && identity(&found) == self.identity);
        is_same && self.has_empty_work().unwrap_or_default()
    }

    fn has_empty_work(&mut self) -> io::Result<bool> {
        let entries = self.entries.fd()?;
        let found = statat(entries, "work", AtFlags::SYMLINK_NOFOLLOW)?;
        let stamp = Stamp::of(&found);
        if self.work == Some(stamp) {
            return Ok(true);
        }
        if !is_private(&found) {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut list = Dir::new(openat(entries, "work", flags, Mode::empty())?)?;
        while let Some(entry) = list.read() {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        self.work = stamp.is_settled().then_some(stamp);
        Ok(true)
    }
}

impl Stamp {
    fn of(found: &Stat) -> Self {
        let changed = (i128::from(found.st_ctime), i128::from(found.st_ctime_nsec));
        Self { identity: identity(found), changed }
    }

    /// Whether the next change will have another time: file systems stamp in steps of up to two seconds.
    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.changed.0.saturating_add(2) < i128::from(now.as_secs())
    }
}

/// What names one file for as long as it is there. The width is one that every system's numbers fit.
fn identity(found: &Stat) -> (i128, i128) {
    (i128::from(found.st_dev), i128::from(found.st_ino))
}

/// Whether this is a directory, not a link to one, for its owner only, and that is us.
fn is_private(found: &Stat) -> bool {
    let us = rustix::process::geteuid().as_raw();
    let mode = Mode::from_raw_mode(found.st_mode).as_raw_mode();
    FileType::from_raw_mode(found.st_mode) == FileType::Directory && mode == MODE && found.st_uid == us
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Gives out a directory, lets `touch` do to it what a run may do, takes it back and says whether it is used again.
    fn is_reused_after(touch: impl FnOnce(&Path)) -> bool {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("spares");
        clear(&place);
        let mut spare = Spare::new(Some(&place));
        let run = home.path().join("runs/1");
        spare.provide(&run).unwrap();
        let _logs = Stream::ALL.map(|stream| spare.make_log(stream).unwrap());
        touch(&run);
        let contents = spare.contents();
        spare.take_back(&run, contents, true);
        assert_eq!(run.exists(), !spare.is_there, "either it stays or it is put aside");
        let was_there = spare.is_there;
        let next = home.path().join("runs/2");
        spare.provide(&next).unwrap();
        assert_eq!(spare.contents(), Contents::NOTHING);
        assert!(spare.open.as_mut().unwrap().is_untouched(&next) && !next.join("stdout").exists());
        was_there
    }

    #[test]
    fn only_a_directory_as_good_as_new_is_used_again() {
        assert!(is_reused_after(|_| {}));
        assert!(is_reused_after(|run| fs::remove_file(run.join("stdout")).unwrap()));
        assert!(!is_reused_after(|run| fs::write(run.join("work/file"), "").unwrap()));
        assert!(!is_reused_after(|run| fs::write(run.join("outcome"), "").unwrap()));
        assert!(!is_reused_after(|run| fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap()));
        assert!(!is_reused_after(|run| {
            fs::set_permissions(run.join("work"), fs::Permissions::from_mode(0o777)).unwrap();
        }));
        assert!(!is_reused_after(|run| {
            fs::remove_dir(run.join("work")).unwrap();
            symlink("/", run.join("work")).unwrap();
        }));
    }

    #[test]
    fn a_file_in_a_working_directory_that_was_empty_for_long_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let mut spare = Spare::new(None);
        let run = home.path().join("run");
        spare.provide(&run).unwrap();
        let open = spare.open.as_mut().unwrap();
        assert!(open.is_untouched(&run));
        // As if it had been made long ago.
        let now = Stamp::of(&statat(CWD, run.join("work"), AtFlags::empty()).unwrap());
        assert!(!now.is_settled());
        open.work = Some(Stamp { changed: (now.changed.0 - 60, 0), ..now });
        fs::write(run.join("work/file"), "").unwrap();
        assert!(!open.is_untouched(&run));
        fs::remove_file(run.join("work/file")).unwrap();
        assert!(open.is_untouched(&run));
    }

    #[test]
    fn a_run_that_has_a_directory_keeps_it() {
        let home = tempfile::tempdir().unwrap();
        let mut spare = Spare::new(Some(home.path()));
        let [first, second] = ["a", "b"].map(|name| home.path().join(name));
        spare.provide(&first).unwrap();
        spare.take_back(&first, Contents::NOTHING, true);
        make_directory(&second).unwrap();
        fs::write(second.join("socket"), "").unwrap();
        spare.provide(&second).unwrap();
        assert!(second.join("socket").exists() && second.join("work").exists());
        let contents = spare.contents();
        assert!(contents.others);
        spare.take_back(&second, contents, true);
        assert!(second.join("socket").exists() && !spare.is_there);
    }

    #[test]
    fn without_a_place_an_empty_directory_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let mut spare = Spare::new(None);
        spare.provide(&run).unwrap();
        spare.take_back(&run, Contents::NOTHING, true);
        assert!(!run.exists());
    }

    #[test]
    fn a_directory_that_somebody_may_stand_in_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let mut spare = Spare::new(Some(home.path()));
        spare.provide(&run).unwrap();
        spare.take_back(&run, Contents::NOTHING, false);
        assert!(!run.exists() && !spare.is_there);
    }
}
