//! Checking the database for damage, and keeping its files small.

use super::{ChoreError, check, reader};
use crate::runtime::Handle;

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    let tables = check_tables(handle)?;
    let kept = handle.upkeep_blocking()?;
    tracing::info!(tables, is_log_empty = kept.is_log_empty, pages_free = kept.pages_free, "the job database is sound");
    Ok(())
}

/// Looks at every table. Returns how many there are.
fn check_tables(handle: &Handle) -> Result<usize, ChoreError> {
    let reader = reader(handle)?;
    let tables = reader.view().tables()?;
    for table in &tables {
        check(handle)?;
        if let Some(fault) = reader.view().faults(table)?.into_iter().next() {
            tracing::error!(table, fault, "the job database is damaged");
            return Err(ChoreError::Damaged { table: table.clone(), fault });
        }
    }
    Ok(tables.len())
}
