//! Told when a file grows, or comes into being: by the kernel, not by looking again and again.
//!
//! **The hard case** is a file that is not there yet, nor its directory: then the nearest directory that is there is
//! watched until it is. Whoever reads must call [`Growth::watch`] *before* each reading: what is written after the
//! reading is then news. Where the kernel tells nothing, or has told this user as much as it may (128 files on many
//! systems), the file is looked at again every [`LOOK`].

use std::path::PathBuf;
use std::time::Duration;

/// Time between two looks, for want of an event.
const LOOK: Duration = Duration::from_millis(50);

/// Watches for one file to grow.
#[derive(Debug)]
pub(super) struct Growth {
    #[cfg(target_os = "linux")]
    kernel: Option<kernel::Watch>,
}

impl Growth {
    /// Watches for `file`, from the first [`Self::watch`] on.
    #[cfg(target_os = "linux")]
    pub(super) fn new(file: PathBuf) -> Self {
        Self { kernel: kernel::Watch::new(file).ok() }
    }

    /// Watches for `file`.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_file: PathBuf) -> Self {
        Self {}
    }

    /// Makes sure that what happens to the file from now on is told.
    pub(super) fn watch(&mut self) {
        #[cfg(target_os = "linux")]
        if self.kernel.as_mut().is_some_and(|kernel| kernel.watch().is_err()) {
            self.kernel = None;
        }
    }

    /// Waits for news. Cancel-safe.
    pub(super) async fn news(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(kernel) = &self.kernel {
            match kernel.news().await {
                Ok(()) => return,
                Err(_no_longer) => self.kernel = None,
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::path::{Path, PathBuf};

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use rustix::io::Errno;
    use tokio::net::unix::pipe::Receiver;

    /// Room for some dozens of events; those that do not fit are read next time.
    const EVENTS_BYTES: usize = 4096;

    /// What the kernel watches: the file, or the nearest of its directories.
    #[derive(Debug)]
    pub(super) struct Watch {
        kernel: Receiver,
        file: PathBuf,
        /// How many levels above the file is what is watched, and its number.
        nearest: Option<(usize, i32)>,
    }

    impl Watch {
        pub(super) fn new(file: PathBuf) -> io::Result<Self> {
            let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            // It is read as a pipe is, and told to be readable as one.
            Ok(Self { kernel: Receiver::from_owned_fd_unchecked(kernel)?, file, nearest: None })
        }

        /// Goes nearer as long as there is something nearer: while a directory is put under watch, what belongs into
        /// it may have come.
        pub(super) fn watch(&mut self) -> io::Result<()> {
            while self.level() > 0 && self.go_nearer()? {}
            Ok(())
        }

        fn level(&self) -> usize {
            self.nearest.map_or(usize::MAX, |(level, _)| level)
        }

        /// Watches what is nearest now. `false` if nothing is nearer than what is watched already.
        fn go_nearer(&mut self) -> io::Result<bool> {
            let level_now = self.level();
            for (level, place) in self.file.ancestors().take(3).enumerate() {
                if level == level_now {
                    return Ok(false);
                }
                match self.add(level, place) {
                    Ok(watch) => {
                        if let Some((_, before)) = self.nearest.replace((level, watch)) {
                            // It may have gone by itself, with its directory.
                            let _ = inotify::remove_watch(&self.kernel, before);
                        }
                        return Ok(true);
                    }
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::NOENT.into())
        }

        fn add(&self, level: usize, place: &Path) -> Result<i32, Errno> {
            let flags = if level == 0 { WatchFlags::MODIFY } else { WatchFlags::CREATE | WatchFlags::MOVED_TO };
            inotify::add_watch(&self.kernel, place, flags)
        }

        pub(super) async fn news(&self) -> io::Result<()> {
            let mut events = [0; EVENTS_BYTES];
            loop {
                self.kernel.readable().await?;
                match self.kernel.try_read(&mut events) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read.map(drop),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    async fn told(growth: &mut Growth) {
        tokio::time::timeout(Duration::from_secs(10), growth.news()).await.unwrap();
        growth.watch();
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_is_waited_for_and_then_followed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run");
        let path = directory.join("stdout");
        let mut growth = Growth::new(path.clone());
        growth.watch();
        std::fs::create_dir(&directory).unwrap();
        told(&mut growth).await;
        let mut file = std::fs::File::create(&path).unwrap();
        told(&mut growth).await;
        file.write_all(b"more").unwrap();
        told(&mut growth).await;
    }

    #[tokio::test]
    async fn a_directory_that_comes_by_rename_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (scratch, directory) = (folder.path().join("scratch"), folder.path().join("run"));
        std::fs::create_dir(&scratch).unwrap();
        std::fs::write(scratch.join("stdout"), "x").unwrap();
        let mut growth = Growth::new(directory.join("stdout"));
        growth.watch();
        std::fs::rename(&scratch, &directory).unwrap();
        told(&mut growth).await;
        std::fs::OpenOptions::new().append(true).open(directory.join("stdout")).unwrap().write_all(b"y").unwrap();
        told(&mut growth).await;
    }
}
