//! Receipts, with everything it takes to check one without trusting the daemon that hands it out.

use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AwardId, Epoch, Hash, Isolation, MeshId, NodeId, Outcome, ReceiptId, TicketId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::NodeName;

/// A receipt as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHead {
    /// Its id.
    pub id: ReceiptId,
    /// The attempt it is for.
    pub epoch: Epoch,
    /// Who signed it.
    pub node: NodeName,
    /// What became of it; `null` while its outputs are on the way.
    pub verdict: Option<Verdict>,
    /// When it came.
    pub received_at: UnixMillis,
}

/// A receipt with everything it takes to check it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The mesh whose domain the signature covers.
    pub mesh: MeshId,
    /// Its id.
    pub id: ReceiptId,
    /// Who signed it.
    pub signer: NodeId,
    /// The signed bytes, as they were received, in base64.
    pub envelope: String,
    /// What they say.
    pub receipt: ReceiptBody,
    /// What they must say.
    pub expected: Expected,
    /// What became of it; `null` while its outputs are on the way.
    pub verdict: Option<Verdict>,
    /// When it came.
    pub received_at: UnixMillis,
}

/// What a receipt says, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptBody {
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
    /// What it took.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of the machine.
    pub isolation: Isolation,
    /// When it started, on the executor's clock.
    pub started_at: UnixMillis,
    /// When it ended, on the executor's clock.
    pub finished_at: UnixMillis,
}

impl From<Receipt> for ReceiptBody {
    fn from(receipt: Receipt) -> Self {
        let Receipt {
            award,
            ticket,
            epoch,
            to,
            number,
            previous,
            spec,
            outcome,
            exit,
            outputs,
            usage,
            model,
            isolation,
            started_at,
            finished_at,
        } = receipt;
        Self {
            award,
            ticket,
            epoch,
            to,
            number,
            previous,
            spec,
            outcome,
            exit,
            outputs,
            usage,
            model,
            isolation,
            started_at,
            finished_at,
        }
    }
}

/// What this node wrote down when it awarded the attempt: the receipt must agree with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The node that got the award; only it may sign.
    pub awardee: NodeId,
    /// The award.
    pub award: Option<AwardId>,
    /// The ticket.
    pub ticket: TicketId,
    /// The epoch.
    pub epoch: Epoch,
    /// The hash of the awarded spec.
    pub spec: Option<Hash>,
    /// The origin: this node.
    pub to: NodeId,
    /// What is kept as the attempt's output.
    pub outputs: Outputs,
}

/// The query of a receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptQuery {
    /// Which attempt; none is the accepted receipt, else the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Epoch>,
}
