//! A log with a redactor before it.
//!
//! Thread `jobmesh-strainer`, one for each stream of a run that has secrets. Input: a pipe that the run's processes write
//! to. Output: the log. Ends when the last of them has closed it, or when it is told to and the pipe is empty; a process
//! that got away and holds the pipe keeps nobody waiting.
//!
//! The pipe ends with the daemon. So a run with secrets does not go on after a crash of it, unlike others.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Needles, Redactor};

/// Time between two looks whether it is told to end.
const LOOK: Duration = Duration::from_millis(50);

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What stands between a run and one of its logs.
#[derive(Debug)]
pub(crate) struct Strainer {
    is_over: Arc<AtomicBool>,
    /// Where the run's processes write; given up once they are gone.
    writer: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Strainer {
    /// Puts one before `log`.
    pub(crate) fn before(log: std::fs::File, needles: Arc<Needles>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name("jobmesh-strainer".to_owned()).spawn(move || {
            if let Err(error) = strain(&reader, log, needles, &told) {
                tracing::error!(%error, "what a run with secrets says is lost");
            }
        })?;
        Ok(Self { is_over, writer: Some(writer), thread: Some(thread) })
    }

    /// A descriptor for a process to write to.
    pub(crate) fn writer(&self) -> io::Result<PipeWriter> {
        match &self.writer {
            Some(writer) => writer.try_clone(),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until everything that was said is in the log. To be called when nothing of the run is left.
    pub(crate) fn finish(&mut self) {
        drop(self.writer.take());
        self.is_over.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a strainer ended by a panic");
        }
    }
}

impl Drop for Strainer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn strain(
    mut reader: &PipeReader,
    mut log: std::fs::File,
    needles: Arc<Needles>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut redactor = Redactor::new(needles);
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => log.write_all(&redactor.push(chunk.get(..count).unwrap_or_default()))?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && was_over => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Whatever came of it, the next reading tells.
                let _ = poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&look));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    log.write_all(&redactor.finish())
}
