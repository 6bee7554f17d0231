//! From a path to text: what can be wrong with a configuration file before a single key is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::config::ConfigError;
use crate::config::table::{Fault, Origin, Place};

/// Largest file read: a thousand job types fit, somebody's video does not.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file as text; `None` if there is none.
///
/// # Errors
/// [`ConfigError`] if there is something of that name that can't be read as text.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let not_a_file = |what| ConfigError::NotAFile { path: path.to_owned(), what };
    let kind = match path.metadata() {
        Ok(found) => found.file_type(),
        // A link to nowhere is a mistake, not the absence of a wish.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if kind.is_dir() {
        return Err(not_a_file("directory"));
    }
    // Opening a pipe would wait for somebody to write.
    if kind.is_fifo() || kind.is_socket() {
        return Err(not_a_file("pipe or socket"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let refused = |fault: Fault| ConfigError::at(path, fault);
    decode(bytes).map(Some).map_err(refused)
}

fn decode(bytes: Vec<u8>) -> Result<String, Fault> {
    let fault = |line, problem: &str| Err(Fault::new(Place { line, origin: Origin::File }, problem));
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return fault(1, "the file is larger than 1 MiB; is it really a configuration?");
    }
    let wide = match bytes.as_slice() {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..] => Some("UTF-16"),
        _ => None,
    };
    if let Some(wide) = wide {
        return fault(1, &format!("the file is written in {wide}; save it as UTF-8"));
    }
    match String::from_utf8(bytes) {
        // Some editors put a mark in front that says nothing in UTF-8.
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let (good, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = bytes.iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
            let bad = bytes.get(good).copied().unwrap_or_default();
            fault(line, &format!("byte {bad:#04x} is not UTF-8; save the file as UTF-8"))
        }
    }
}
