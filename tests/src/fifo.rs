//! A named pipe by which a job tells the test how far it is, and waits for the test's word to go on.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// How long a line may take: what is waited for takes less on the slowest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A named pipe. The test keeps both of its ends open, so that whoever opens it does not wait for the other side.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    file: File,
    /// What was read and not handed out.
    read: Vec<u8>,
}

impl Fifo {
    /// Makes the pipe.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a named pipe");
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("an open pipe");
        Self { path, file, read: Vec::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next line.
    ///
    /// # Panics
    /// If none comes within a minute.
    pub fn line(&mut self) -> String {
        self.line_within(LIMIT).expect("a line from a job")
    }

    /// Waits for the next line, at most so long.
    ///
    /// # Panics
    /// If the pipe can't be read.
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let rest = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).expect("a short time");
            let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut watched, Some(&rest)) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => panic!("polling {}: {error}", self.path.display()),
            }
            let mut chunk = [0; 4096];
            let count = self.file.read(&mut chunk).expect("bytes of the pipe");
            self.read.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    /// Writes a line for a job that reads one.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn tell(&mut self, line: &str) {
        self.file.write_all(format!("{line}\n").as_bytes()).expect("a written line");
    }
}
