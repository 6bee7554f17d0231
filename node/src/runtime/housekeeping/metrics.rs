//! Writing down how many jobs ended how, hour by hour, before they are deleted.
//!
//! Counting goes past the engine, since it looks at every job; only what was counted is handed in, a few rows at a time.

use jobmesh_engine::Command;
use jobmesh_protocol::time::HOUR_MS;

use super::{ChoreError, check, reader};
use crate::runtime::Handle;

/// So many hours are counted again, this one included: a node that was off for the night still gets them, and a job that
/// ended in the last minute is counted an hour later.
const HOURS: u64 = 48;
/// Rows of one command.
const ROWS: usize = 200;

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    let next = handle.wall().0 / HOUR_MS + 1;
    let counted = reader(handle)?.view().counted(next.saturating_sub(HOURS), next)?;
    for rows in counted.chunks(ROWS) {
        check(handle)?;
        handle.command_blocking(Command::Count(rows.to_vec()))?;
    }
    tracing::info!(rows = counted.len(), "counted the jobs of the last hours");
    Ok(())
}
