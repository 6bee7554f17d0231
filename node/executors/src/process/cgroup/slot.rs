//! The group that a slot's thread sits in, and with it every run of that slot.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::cgroup::{self, Fence, Grounds, keyed, write};

/// A group of version 1 that counts processes and threads.
#[derive(Debug)]
pub(crate) struct SlotGroup {
    /// The group that it was made in.
    base: PathBuf,
    directory: PathBuf,
    thread: String,
    /// Counts the births that the limit forbade.
    events: File,
    /// The limit that was written last, if it still holds.
    set: Option<u32>,
    hits_before: u64,
}

impl SlotGroup {
    /// Makes a group and places the calling thread in it; none if there is no ground for one.
    pub(crate) fn enter(grounds: &Grounds) -> Option<Self> {
        let base = grounds.pids.as_deref()?;
        match Self::make(base) {
            Ok(group) => group,
            Err(error) => {
                tracing::warn!(error = %error, "failed to make a control group; processes are counted by looking");
                None
            }
        }
    }

    fn make(base: &Path) -> io::Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = base.join(cgroup::name(&format!("slot-{number}")));
        let Some(thread) = cgroup::thread_number() else { return Ok(None) };
        fs::create_dir(&directory)?;
        let entered = File::open(directory.join("pids.events"))
            .and_then(|events| write(&directory.join("tasks"), &thread).map(|()| events));
        match entered {
            Ok(events) => {
                Ok(Some(Self { base: base.to_owned(), directory, thread, events, set: None, hits_before: 0 }))
            }
            Err(error) => {
                cgroup::remove(&directory);
                Err(error)
            }
        }
    }

    /// Lets the next run have so many processes and threads at a time.
    pub(crate) fn limit(&mut self, processes_max: u32) -> io::Result<()> {
        if self.set != Some(processes_max) {
            // One for this thread, and no less than one for the run.
            let max = u64::from(processes_max.max(1)) + 1;
            write(&self.directory.join("pids.max"), &cgroup::processes(max))?;
            self.set = Some(processes_max);
        }
        Ok(())
    }

    /// Remembers what was counted until the end of a run. If it was not quiet, its fence may have been closed, and the
    /// limit is written anew.
    pub(crate) fn end_run(&mut self, is_quiet: bool) {
        if !is_quiet {
            self.set = None;
            self.hits_before = self.hits();
        }
    }

    /// How often a birth was forbidden before the present run.
    pub(crate) const fn hits_before(&self) -> u64 {
        self.hits_before
    }

    /// How often a birth was forbidden, since the group was made.
    pub(crate) fn hits(&self) -> u64 {
        let mut bytes = [0_u8; 128];
        let count = self.events.read_at(&mut bytes, 0).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
        keyed(&text, "max").unwrap_or_default()
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { directory: self.directory.clone() }
    }
}

impl Drop for SlotGroup {
    /// To be dropped on the thread that is in it.
    fn drop(&mut self) {
        if let Err(error) = write(&self.base.join("tasks"), &self.thread) {
            tracing::debug!(error = %error, "failed to leave a control group");
        }
        cgroup::remove(&self.directory);
    }
}
