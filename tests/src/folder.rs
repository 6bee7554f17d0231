//! Waiting for something to become of the files in a folder.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// How long it may take: what is waited for takes less on the slowest machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Returns when this holds, which is looked at after every change of a file in the folder.
///
/// # Panics
/// If it does not hold after four minutes.
pub fn until_folder(folder: &Path, what: &str, mut is_so: impl FnMut() -> bool) {
    let watch = init(CreateFlags::CLOEXEC).expect("a watch");
    let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
    add_watch(&watch, folder, changes).expect("a folder to watch");
    let mut watch = File::from(watch);
    let deadline = Instant::now() + LIMIT;
    // Looked at only once the folder is watched: nothing can happen in between.
    while !is_so() {
        let rest = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).expect("a short time");
        let count = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&rest)).expect("polling a watch");
        assert!(count == 1, "{what}, after {} s", LIMIT.as_secs());
        // What changed is not of interest, only that it did.
        let _ = watch.read(&mut [0; 64 * 1024]).expect("changes");
    }
}
