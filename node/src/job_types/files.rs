//! The files that job types name, modules and scripts: read when the configuration is, so that what is wrong with one is
//! told then, and known by their hash from there on.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;

use crate::config::table::Fault;
use crate::job_types::{JobType, JobTypes};

/// Largest file of a type: many times the largest module that somebody would interpret.
const FILE_BYTES_MAX: u64 = 256 << 20;

impl JobTypes {
    /// Reads every file that a type names.
    pub(crate) fn read_files(&mut self) -> Result<(), Fault> {
        for it in self.0.values_mut() {
            let Some(file) = it.declaration.work.file().cloned() else { continue };
            let blob = read(&file.value).map_err(|error| {
                let problem = format!("job_types.{} names the file {}: {error}", it.name, file.value.display());
                Fault::new(file.place, problem)
            })?;
            it.files.insert(file.value, blob);
        }
        Ok(())
    }
}

impl JobType {
    /// The files that its jobs are given, with the content that they had when the configuration was read.
    pub fn files(&self) -> impl Iterator<Item = (&Path, BlobRef)> {
        self.files.iter().map(|(path, blob): (&PathBuf, &BlobRef)| (path.as_path(), *blob))
    }
}

/// Hashes a plain file.
fn read(path: &Path) -> io::Result<BlobRef> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0_u64);
    let mut input = file.take(FILE_BYTES_MAX + 1);
    let mut piece = vec![0_u8; 64 << 10];
    loop {
        let count = input.read(&mut piece)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        hasher.update(piece.get(..count).unwrap_or_default());
    }
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size })
}
