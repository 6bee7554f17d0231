//! Writing what the node has learnt to a file: what it saw itself, and what other members told.
//!
//! A file appears under its name only when it is whole and durable. One a day, the last [`FILES_KEPT`] are kept.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use chrono::DateTime;
use jobmesh_keys::MeshId;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::summary::{Cell, Histogram, Summary};
use jobmesh_protocol::{Envelope, NodeId, UnixMillis};
use jobmesh_store::{SummaryRow, View};
use serde::Serialize;

use super::{ChoreError, check, reader};
use crate::runtime::Handle;

/// How many files are kept.
const FILES_KEPT: usize = 14;
/// How many days a file tells of, today included: as long as summaries are kept.
const DAYS: u32 = 14;
/// What the name of every file begins with.
const PREFIX: &str = "learning-";
/// What the name of every file ends with.
const SUFFIX: &str = ".json";

/// What a file holds.
#[derive(Serialize)]
struct Export {
    /// Of this form of file.
    version: u32,
    node: NodeId,
    name: String,
    exported_at: UnixMillis,
    /// By day, then by what was seen.
    own: Vec<Seen>,
    /// By author and day.
    heard: Vec<Heard>,
}

#[derive(Serialize)]
struct Heard {
    author: NodeId,
    version: u64,
    cells: Vec<Seen>,
}

/// What was seen of one kind of work on one node in one day (since 1970-01-01 UTC).
#[derive(Serialize)]
struct Seen {
    day: u32,
    job_type: String,
    executor: String,
    node: NodeId,
    succeeded: u32,
    failed: u32,
    timed_out: u32,
    lost: u32,
    /// Pairs of a bin and its count, as summaries have them.
    durations: Histogram,
}

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    let folder = handle.home().exports();
    let failed = || ChoreError::file(&folder);
    let now = handle.wall();
    let export = gather(handle, now)?;
    check(handle)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed())?;
    let name = format!("{PREFIX}{}{SUFFIX}", date(now));
    write(&folder, &name, &export).map_err(failed())?;
    let deleted = delete_old(&folder).map_err(failed())?;
    tracing::info!(file = name, deleted, "wrote down what was learnt");
    Ok(())
}

fn gather(handle: &Handle, now: UnixMillis) -> Result<Export, ChoreError> {
    let since = now.day().saturating_sub(DAYS - 1);
    let reader = reader(handle)?;
    let mut own = Vec::new();
    for day in since..=now.day() {
        own.extend(reader.view().cells(day)?.into_iter().map(|cell| seen(day, cell)));
    }
    let heard = heard(reader.view(), handle.node(), &handle.roster().standing().mesh, since)?;
    Ok(Export { version: 1, node: handle.node(), name: handle.name().to_owned(), exported_at: now, own, heard })
}

/// What others told, in their own words; none of those whose words are not their own.
fn heard(view: View<'_>, me: NodeId, mesh: &MeshId, since: u32) -> Result<Vec<Heard>, ChoreError> {
    let told = |row: &SummaryRow| {
        let envelope = Envelope::open(&row.envelope, mesh).ok()?;
        let is_own_word = envelope.signer() == row.head.author && envelope.kind() == Kind::Summary;
        let summary: Summary = envelope.parse().ok().filter(|_| is_own_word)?;
        let cells = summary.cells.into_iter().map(|cell| seen(summary.day, cell)).collect();
        Some(Heard { author: row.head.author, version: summary.version, cells })
    };
    let rows = view.summaries(since)?;
    Ok(rows.iter().filter(|row| row.head.author != me).filter_map(told).collect())
}

fn seen(day: u32, cell: Cell) -> Seen {
    let Cell { job_type, executor, node, succeeded, failed, timed_out, lost, durations } = cell;
    Seen { day, job_type, executor, node, succeeded, failed, timed_out, lost, durations }
}

fn date(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    at.format("%Y-%m-%d").to_string()
}

fn write(folder: &Path, name: &str, export: &Export) -> io::Result<()> {
    let (path, unfinished) = (folder.join(name), folder.join(format!("{name}.tmp")));
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let mut buffer = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut buffer, export)?;
    buffer.write_all(b"\n")?;
    buffer.into_inner()?.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}

/// Deletes all but the newest files, whose names sort by their dates. Others' files are left alone.
fn delete_old(folder: &Path) -> io::Result<usize> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let old = names.len().saturating_sub(FILES_KEPT);
    for name in names.iter().take(old) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_date_is_the_one_of_utc() {
        assert_eq!(date(UnixMillis(0)), "1970-01-01");
        assert_eq!(date(UnixMillis(1_709_251_199_999)), "2024-02-29");
    }

    #[test]
    fn only_the_newest_files_stay_and_those_of_others() {
        let folder = tempfile::tempdir().unwrap();
        for day in 1..=20 {
            fs::write(folder.path().join(format!("learning-2024-01-{day:02}.json")), "{}").unwrap();
        }
        fs::write(folder.path().join("mine.json"), "{}").unwrap();
        assert_eq!(delete_old(folder.path()).unwrap(), 6);
        assert_eq!(delete_old(folder.path()).unwrap(), 0);
        assert!(folder.path().join("learning-2024-01-07.json").exists());
        assert!(!folder.path().join("learning-2024-01-06.json").exists());
        assert!(folder.path().join("mine.json").exists());
    }
}
