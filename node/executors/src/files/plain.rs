//! Opening a file in a place where a run can put what it likes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a plain file. A link is not followed and a pipe not waited for.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is no plain file; else what the system says.
pub(crate) fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let not_plain = || io::Error::from(io::ErrorKind::InvalidInput);
    let file = options.custom_flags(flags).open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => not_plain(),
        Some(_) | None => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_plain()) }
}
