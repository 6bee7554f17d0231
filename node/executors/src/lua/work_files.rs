//! The files of a script: those below its working directory, however it names them.

use std::io::{self, Read as _};
use std::path::Path;

use wasmi_wasi::{Dir, ambient_authority};

/// Most names of one list.
const NAMES_MAX: usize = 100_000;

/// What a script can do with them.
pub(super) struct WorkFiles {
    work: Dir,
    bytes_max: u64,
}

/// Why a file can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path}: {source}")]
    System { path: String, source: io::Error },
    #[error("{path} is not a plain file")]
    NotPlain { path: String },
    #[error("{path} is longer than the script may have memory")]
    TooLong { path: String },
    #[error("{path} has more than {NAMES_MAX} names")]
    TooMany { path: String },
}

impl WorkFiles {
    /// Opens the directory. Nothing that is read may be longer than `bytes_max`.
    pub(super) fn open(work: &Path, bytes_max: u64) -> io::Result<Self> {
        Ok(Self { work: Dir::open_ambient_dir(work, ambient_authority())?, bytes_max })
    }

    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let failed = failed(path);
        let metadata = self.work.metadata(path).map_err(&failed)?;
        // A pipe would be waited for.
        if !metadata.is_file() {
            return Err(FileError::NotPlain { path: path.to_owned() });
        }
        if metadata.len() > self.bytes_max {
            return Err(FileError::TooLong { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        self.work.open(path).map_err(&failed)?.take(self.bytes_max).read_to_end(&mut bytes).map_err(&failed)?;
        Ok(bytes)
    }

    /// Writes a file, and makes the directories above it.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        let failed = failed(path);
        if let Some(parent) = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.work.create_dir_all(parent).map_err(&failed)?;
        }
        match self.work.metadata(path) {
            Ok(metadata) if !metadata.is_file() => return Err(FileError::NotPlain { path: path.to_owned() }),
            Ok(_) | Err(_) => {}
        }
        self.work.write(path, bytes).map_err(&failed)
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let failed = failed(path);
        let mut names = Vec::new();
        for entry in self.work.read_dir(path).map_err(&failed)? {
            if names.len() == NAMES_MAX {
                return Err(FileError::TooMany { path: path.to_owned() });
            }
            names.push(entry.map_err(&failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a file. One that isn't there is as good as removed.
    pub(super) fn remove(&self, path: &str) -> Result<(), FileError> {
        match self.work.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn failed(path: &str) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::System { path: path.to_owned(), source }
}
