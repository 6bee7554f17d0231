//! What an executor sees of the world while it runs one order: whether it must end, and whom to tell how it goes.
//!
//! An executor waits for many things, and each wait has to end when the run must. There are two ways to hear of that: a pipe
//! that becomes readable, for a thread that waits for descriptors, and [`Control::wait_for`], for what waits in the daemon's
//! runtime. The hard case is a byte that an earlier run of the same slot left in the pipe: it wakes for nothing, so whoever
//! is woken asks for the reason.

use std::io::{self, PipeReader, PipeWriter, Read as _};

use jobmesh_protocol::{Outcome, RunId};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use crate::event::Event;
use crate::order::StopReason;

/// Who gave the order.
pub(crate) trait Overseer {
    /// Why a run must end, once it must.
    fn stop_reason(&self, run: RunId) -> Option<StopReason>;

    /// Takes news of a run; may wait.
    fn hear(&self, event: Event);
}

/// What an executor sees of the world while it runs one order.
pub(crate) struct Control<'a> {
    overseer: &'a dyn Overseer,
    run: RunId,
    wake: &'a PipeReader,
}

impl<'a> Control<'a> {
    /// For a run whose thread is woken by what is written to the other end of `wake`, one of [`wake_pipe`].
    pub(crate) const fn new(overseer: &'a dyn Overseer, run: RunId, wake: &'a PipeReader) -> Self {
        Self { overseer, run, wake }
    }

    /// Why the run must end, once it must.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.overseer.stop_reason(self.run)
    }

    /// Whether it must end at once, whatever it was told before.
    pub(crate) fn is_urgent(&self) -> bool {
        self.stop_reason() == Some(StopReason::Kill)
    }

    /// Tells of the run's process. May be called inside of [`Self::wait_for`], where nothing else may block.
    pub(crate) fn emit(&self, event: Event) {
        tokio::task::block_in_place(|| self.overseer.hear(event));
    }

    /// Becomes readable when [`Self::stop_reason`] may have changed. An earlier run may have left a byte in it.
    pub(crate) const fn wake(&self) -> &PipeReader {
        self.wake
    }

    /// Empties [`Self::wake`]; to be called when it is readable.
    pub(crate) fn drain(&self) {
        let mut bytes = [0_u8; 64];
        if let Err(error) = (&mut { self.wake }).read(&mut bytes)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::error!(error = %error, "failed to read a slot's wake-up pipe");
        }
    }

    /// Waits for something in the daemon's runtime, unless the run must end before.
    ///
    /// # Errors
    /// Why it must end. What was waited for is dropped then.
    pub(crate) fn wait_for<T>(&self, runtime: &Handle, work: impl Future<Output = T>) -> Result<T, StopReason> {
        runtime.block_on(self.unless_stopped(work))
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, StopReason> {
        let mut work = std::pin::pin!(work);
        let heard = self.wake.try_clone().and_then(|wake| Receiver::from_owned_fd(wake.into()));
        let wake = match heard {
            Ok(wake) => wake,
            Err(error) => {
                tracing::error!(run = %self.run, %error, "a run can't hear that it must end");
                return Ok(work.await);
            }
        };
        loop {
            if let Some(reason) = self.stop_reason() {
                return Err(reason);
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = wake.readable() => {
                    let mut bytes = [0_u8; 64];
                    // Read until there is nothing more: only then is it waited for again.
                    while wake.try_read(&mut bytes).is_ok_and(|count| count > 0) {}
                }
            }
        }
    }

    /// The outcome of work that nothing can stop, unless the run must end before it.
    pub(crate) fn outcome_unless_stopped(&self, work: impl FnOnce() -> Outcome) -> Outcome {
        self.stop_reason().map_or_else(work, StopReason::outcome)
    }
}

/// A pipe that nobody waits for with a read.
pub(crate) fn wake_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}
