//! The signed account of one awarded attempt: who ran what, how it ended, and what came out.
//!
//! The signature of the awardee over exact output hashes is what makes a result attributable (G4). It does not
//! prove that the computation was right. Receipts of one executor to one origin are a chain, see `chain.rs`.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::NodeId;
use crate::id::{AwardId, Epoch, Hash, TicketId};
use crate::isolation::Isolation;
use crate::outcome::{Exit, MESSAGE_BYTES_MAX, ModelUse, Outcome, Outputs, Usage};
use crate::session::NUMBER_MAX;
use crate::time::UnixMillis;

/// Says how an attempt ended. Its envelope's signer is the node that ran it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Receipt {
    /// The award under which it ran.
    pub award: AwardId,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The origin.
    pub to: NodeId,
    /// Counts the executor's receipts to this origin, from 1.
    pub number: u64,
    /// The hash of the envelope of the receipt before; zero for the first.
    pub previous: Hash,
    /// The hash of the spec that ran.
    pub spec: Hash,
    /// How it ended.
    pub outcome: Outcome,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// What it took, by the executor's own count.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of the machine.
    pub isolation: Isolation,
    /// When it started, on the executor's wall clock.
    pub started_at: UnixMillis,
    /// When it ended, on the executor's wall clock.
    pub finished_at: UnixMillis,
}

/// Largest output that a receipt may name: a disk's worth, and far below what a database column holds.
const OUTPUT_BYTES_MAX: u64 = 1 << 44;

impl Receipt {
    /// Whether texts, sizes and its number keep to their limits.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let message = self.outcome.message().map_or(0, str::len);
        let sizes = self.outputs.blobs().map(|blob| blob.size).max().unwrap_or(0);
        let is_numbered = (1..=NUMBER_MAX).contains(&self.number);
        let is_brief = message <= MESSAGE_BYTES_MAX && self.model.as_ref().is_none_or(ModelUse::is_bounded);
        is_numbered && is_brief && sizes <= OUTPUT_BYTES_MAX
    }
}
