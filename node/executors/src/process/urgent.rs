//! Going first where thousands of processes want to run.

/// The priority before which there is none (setpriority(2)).
const HIGHEST_PRIORITY: i32 = -20;

/// The calling thread put before all others, as far as we may, while this lasts.
///
/// A fork bomb has a thousand processes for each of ours that could end it. Without this, counting 300 of them and
/// ending them took twelve seconds on two processors, in which there came to be thousands.
pub(super) struct Urgent {
    priority_before: i32,
}

impl Urgent {
    /// None where we may not.
    pub(super) fn new() -> Option<Self> {
        let priority_before = rustix::process::getpriority_process(None).ok()?;
        rustix::process::setpriority_process(None, HIGHEST_PRIORITY).ok()?;
        Some(Self { priority_before })
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        // Going back down is always allowed.
        let _ = rustix::process::setpriority_process(None, self.priority_before);
    }
}
