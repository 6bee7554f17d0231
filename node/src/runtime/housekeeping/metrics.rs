//! Forgetting the hours of which it has been known for long enough how many jobs ended how.

use jobmesh_engine::Command;

use super::{ChoreError, check};
use crate::runtime::Handle;

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    check(handle)?;
    handle.command_blocking(Command::ForgetHours)?;
    Ok(())
}
