//! What a run on this node wrote, as it grows: for whoever asks at the control socket, and for its origin.
//!
//! Following a run means reading its file to the end again and again. The last reading must come after the end of the
//! attempt, or what was written in between is missed; so the end is noted *before* the file is read, and the file is
//! under watch by then.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jobmesh_engine::Change;
use jobmesh_executors::{Stream, log_path};
use jobmesh_protocol::{JobId, RunId};
use rustix::fs::OFlags;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::growth::Growth;
use super::handle::Handle;

/// After so long without news the attempt itself is looked at, should its end have gone unannounced.
const CHECK: Duration = Duration::from_secs(2);
/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// From where an output is read, and how far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Which output.
    pub(crate) stream: Stream,
    /// How many bytes to leave out at the start.
    pub(crate) offset: u64,
    /// Whether to go on until the attempt ends.
    pub(crate) follow: bool,
}

/// Reads the file of a run as it grows.
pub(crate) struct Tail {
    handle: Handle,
    changes: Receiver<Change>,
    closing: CancellationToken,
    run: RunId,
    path: PathBuf,
    offset: u64,
    file: Option<File>,
    /// Nothing will be written any more, or nobody wants to wait for it.
    is_last_look: bool,
    growth: Growth,
}

impl Tail {
    /// Begins to read. `closing` ends a wait.
    pub(crate) fn new(handle: Handle, run: RunId, span: Span, closing: CancellationToken) -> Self {
        let path = log_path(&handle.home().run(run), span.stream);
        let (changes, growth) = (handle.subscribe(), Growth::new(path.clone()));
        Self {
            handle,
            changes,
            closing,
            run,
            path,
            offset: span.offset,
            file: None,
            is_last_look: !span.follow,
            growth,
        }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// What the system says if the file can't be read.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.is_last_look && self.file.is_none() {
            self.is_last_look = self.is_over().await;
        }
        loop {
            // What was decided before this read, not after it: see the module's words.
            let is_last_look = self.is_last_look;
            if !is_last_look {
                self.growth.watch();
            }
            let chunk = self.read().await?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            if is_last_look || !self.wait().await {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        if self.file.is_none() {
            self.file = match open_at(&self.path, self.offset).await {
                Ok(file) => Some(file),
                // The run is about to start, or ended before it wrote anything.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        let Some(file) = &mut self.file else { return Ok(Bytes::new()) };
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        file.read_buf(&mut chunk).await?;
        Ok(chunk.freeze())
    }

    /// Waits for news of the file or of the job. `false` if the reader is to stop.
    async fn wait(&mut self) -> bool {
        let has_grown = tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            changed = changed(&mut self.changes, self.run.job) => {
                if !changed { return false }
                false
            }
            () = self.growth.news() => true,
            () = tokio::time::sleep(CHECK) => false,
        };
        if !has_grown {
            self.is_last_look = self.is_over().await;
        }
        true
    }

    /// Whether the attempt has ended, so that nothing will be written any more.
    async fn is_over(&self) -> bool {
        let run = self.run;
        match self.handle.read(move |view| view.attempt(run)).await {
            Ok(Some(attempt)) => attempt.state.is_final(),
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "could not see whether a followed attempt has ended");
                false
            }
        }
    }
}

/// Waits until something happened to a job, or may have. `false` if nothing more will be told. Cancel-safe.
pub(crate) async fn changed(changes: &mut Receiver<Change>, job: JobId) -> bool {
    loop {
        match changes.recv().await {
            Ok(change) if change.job == job => return true,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}

/// Opens a file and goes to this place in it. A job may have put a link or a pipe there, which is neither followed nor
/// waited for.
///
/// # Errors
/// What the system says, also of something that is no file.
pub(crate) async fn open_at(path: &Path, offset: u64) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "what lies there is no file"));
    }
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// Whoever followed such an output read what a job led it to, or waited until somebody wrote into the pipe.
    #[tokio::test]
    async fn a_link_is_not_followed_and_a_pipe_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "0123").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        let open = |name| {
            let path = path(name);
            async move { tokio::time::timeout(CHECK, open_at(&path, 2)).await.unwrap() }
        };
        let mut rest = String::new();
        open("file").await.unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "23");
        for name in ["link", "pipe"] {
            open(name).await.unwrap_err();
        }
    }
}
