//! How fast the disk takes what must survive a power cut.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::Flushes;
use crate::bench::error::BenchError;
use crate::bench::statistics::Samples;
use crate::bench::stop::Stop;

/// How much is appended before each flush: what a small commit writes.
const BLOCK_BYTES: usize = 4096;

/// Appends to a new file in `folder` so many times, with fdatasync after each.
pub(super) fn flushes(folder: &Path, count: usize, stop: &Stop) -> Result<Flushes, BenchError> {
    let path = folder.join("flushes");
    let failed = |source| BenchError::File { action: "write", path: path.clone(), source };
    let mut file = File::create(&path).map_err(failed)?;
    let block = [0x5a; BLOCK_BYTES];
    let mut samples = Samples::default();
    for _ in 0..count {
        stop.check()?;
        let start = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        samples.add(start.elapsed());
    }
    fs::remove_file(&path).map_err(failed)?;
    Ok(Flushes { median: samples.median(), slow: samples.percentile(99) })
}
