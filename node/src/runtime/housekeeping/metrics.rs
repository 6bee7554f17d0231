//! Forgetting the hours of which it has been known for long enough how many jobs ended how.

use jobmesh_engine::Command;

use super::ChoreError;
use crate::runtime::Handle;

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    handle.command_blocking(Command::ForgetHours)?;
    Ok(())
}
