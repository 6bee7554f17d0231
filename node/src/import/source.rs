//! Reading the bytes of a source: a file, standard input or a program's output, packed or not, up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ImportError;

/// Most bytes of a source, unpacked: it is read into memory whole.
pub const SOURCE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How a file packed by gzip begins (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a source can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file can't be opened or read.
    #[error("failed to read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large.
    #[error("{} has more than {SOURCE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A program that is needed can't be started.
    #[error("failed to start `{program}`; install it, or {instead}")]
    Program {
        /// The program.
        program: &'static str,
        /// What does without it.
        instead: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program said no.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        message: String,
    },
}

/// Reads a file whole, unpacked if gzip packed it.
///
/// # Errors
/// [`SourceError`] if it can't be read or unpacked, or is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let bytes = bounded(&mut file, path)?;
    if bytes.starts_with(&GZIP_MAGIC) { unpack(path) } else { Ok(bytes) }
}

/// Reads whatever `input` gives, which is called `name` in errors.
///
/// # Errors
/// [`SourceError`] if it can't be read or is too large.
pub fn read_input(input: &mut dyn Read, name: &str) -> Result<Vec<u8>, SourceError> {
    bounded(input, Path::new(name))
}

/// Reads the crontab of the user that runs this, as `crontab -l` shows it.
///
/// # Errors
/// [`SourceError`] if there is no such program or the user has no crontab.
pub fn read_own_crontab() -> Result<Vec<u8>, SourceError> {
    let mut command = Command::new("crontab");
    command.arg("-l");
    run(command, "crontab", "name the file: `jobmesh import crontab FILE`", Path::new("the crontab"))
}

/// Makes text of bytes.
///
/// # Errors
/// [`ImportError::NotUtf8`] names the line that is none.
pub fn text(bytes: Vec<u8>) -> Result<String, ImportError> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        ImportError::NotUtf8 { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })?;
    // Some editors put a byte order mark in front. It is no part of the first word.
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

fn bounded(input: &mut dyn Read, path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = input.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| SourceError::File { path: path.to_owned(), source })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SOURCE_BYTES_MAX {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn unpack(path: &Path) -> Result<Vec<u8>, SourceError> {
    let file = File::open(path).map_err(|source| SourceError::File { path: path.to_owned(), source })?;
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(file);
    run(command, "gzip", "unpack the file first", path)
}

/// What a program writes, up to the limit; one that writes more is stopped.
fn run(
    mut command: Command,
    program: &'static str,
    instead: &'static str,
    path: &Path,
) -> Result<Vec<u8>, SourceError> {
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|source| SourceError::Program { program, instead, source })?;
    let bytes = match child.stdout.take() {
        Some(mut stdout) => bounded(&mut stdout, path),
        None => Ok(Vec::new()),
    };
    if bytes.is_err() {
        // It may have ended by itself; then there is nothing to stop.
        let _ = child.kill();
    }
    let output = child.wait_with_output().map_err(|source| SourceError::Program { program, instead, source })?;
    let bytes = bytes?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.lines().next().unwrap_or("it gave no reason").trim().to_owned();
        return Err(SourceError::Failed { command: program.to_owned(), message });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_packed_file_is_read_like_a_plain_one() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("state.json");
        std::fs::write(&plain, b"{\"tasks\": {}}").unwrap();
        let packed = directory.path().join("state.json.gz");
        let output = Command::new("gzip").arg("-c").arg(&plain).output().unwrap();
        std::fs::write(&packed, &output.stdout).unwrap();
        assert_eq!(read_file(&plain).unwrap(), read_file(&packed).unwrap());
        let half = output.stdout.get(..output.stdout.len() / 2).unwrap();
        std::fs::write(&packed, half).unwrap();
        assert!(matches!(read_file(&packed), Err(SourceError::Failed { .. })));
    }

    #[test]
    fn a_directory_or_nothing_is_no_source() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read_file(directory.path()), Err(SourceError::File { .. })));
        assert!(matches!(read_file(&directory.path().join("none")), Err(SourceError::File { .. })));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_their_line() {
        assert!(matches!(text(b"a\nb\n\xff\n".to_vec()), Err(ImportError::NotUtf8 { line: 3 })));
        assert_eq!(text(b"a\n".to_vec()).unwrap(), "a\n");
    }
}
