//! The chains of receipts that this node keeps with each peer: those it gave and those it took.
//!
//! A receipt that does not follow the one before it still counts: what was done is done, and a database may have been
//! lost. But it is counted and kept, and `jobmesh audit` names it.

use jobmesh_protocol::chain::BEGINNING;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::ticket::{LeaseKey, Settle, Verdict};
use jobmesh_protocol::{DurationMillis, NodeId, ReceiptId};
use jobmesh_store::{LinkRow, Side, StoreError};

use crate::engine::Engine;
use crate::message::Incoming;
use crate::mutant::Mutant;
use crate::step::Step;

/// How long links are kept: long enough to be checked once a month.
pub(crate) const CHAIN_KEPT: DurationMillis = DurationMillis::from_secs(35 * 86_400);
/// Most links kept from one peer that are for no job of this node: a peer can sign any number of them.
const UNKNOWN_MAX: u64 = 256;

/// A receipt that is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) id: ReceiptId,
    pub(crate) number: u64,
    /// Who signed it.
    pub(crate) by: NodeId,
}

impl Engine {
    /// The number of the next receipt to an origin, and the hash of the one before.
    pub(crate) fn next_link(step: &Step<'_>, origin: NodeId) -> Result<(u64, Hash), StoreError> {
        let last = step.view().last_link(origin, Side::Given)?;
        Ok(last.map_or((1, BEGINNING), |last| (last.number.saturating_add(1), Hash::of(&last.receipt))))
    }

    /// Keeps a receipt that this node gives.
    pub(crate) fn give_link(
        step: &Step<'_>,
        origin: NodeId,
        (number, id): (u64, ReceiptId),
        receipt: &[u8],
    ) -> Result<(), StoreError> {
        let (peer, side, at) = (origin, Side::Given, step.wall());
        let receipt = receipt.to_vec();
        step.txn.insert_link(&LinkRow { peer, side, number, id, is_known: true, receipt, settle: None, at })
    }

    /// Keeps a receipt that this node took, whatever is to become of it.
    pub(crate) fn take_link(
        &mut self,
        step: &Step<'_>,
        message: &Incoming<'_>,
        receipt: &Receipt,
        is_known: bool,
    ) -> Result<(), StoreError> {
        let (peer, id, number) = (message.envelope.signer(), message.envelope.id(), receipt.number);
        let same = step.view().links_numbered(peer, Side::Taken, number)?;
        if receipt.to != self.me || same.iter().any(|link| link.id == id) {
            return Ok(());
        }
        let is_full = !is_known && step.view().unknown_links(peer)? >= UNKNOWN_MAX;
        if is_full && !self.config.plays(Mutant::Unbounded) {
            self.count("dropped_receipt");
            return Ok(());
        }
        if !same.is_empty() {
            self.count("forked_receipt");
        } else if number > 1 {
            let before = step.view().links_numbered(peer, Side::Taken, number - 1)?;
            if !before.iter().any(|link| Hash::of(&link.receipt) == receipt.previous) {
                self.count("torn_receipt");
            }
        }
        let (side, at, receipt) = (Side::Taken, step.wall(), message.bytes.to_vec());
        step.txn.insert_link(&LinkRow { peer, side, number, id, is_known, receipt, settle: None, at })
    }

    /// Countersigns a receipt: what became of it, in words that can be shown to anyone.
    pub(crate) fn countersign(
        &mut self,
        step: &Step<'_>,
        (answered, key): (Answered, LeaseKey),
        verdict: Verdict,
    ) -> Result<Vec<u8>, StoreError> {
        let settle = Settle {
            receipt: answered.id,
            number: answered.number,
            ticket: key.ticket,
            epoch: key.epoch,
            to: answered.by,
            verdict,
            at: step.wall(),
        };
        let envelope = self.seal(Kind::Settle, &settle);
        step.txn.settle_link((answered.by, Side::Taken), (answered.number, answered.id), &envelope)?;
        Ok(envelope)
    }

    /// What this node countersigned before, if it is still kept.
    pub(crate) fn countersigned(step: &Step<'_>, answered: Answered) -> Result<Option<Vec<u8>>, StoreError> {
        let links = step.view().links_numbered(answered.by, Side::Taken, answered.number)?;
        Ok(links.into_iter().find(|link| link.id == answered.id).and_then(|link| link.settle))
    }

    /// Keeps the countersignature of a receipt that this node gave. Returns whether it is one.
    pub(crate) fn keep_countersignature(
        &mut self,
        step: &Step<'_>,
        message: &Incoming<'_>,
        settle: &Settle,
    ) -> Result<bool, StoreError> {
        let origin = message.envelope.signer();
        let links = step.view().links_numbered(origin, Side::Given, settle.number)?;
        let Some(link) = links.into_iter().find(|link| link.id == settle.receipt) else { return Ok(false) };
        let key = (link.number, link.id);
        let is_first = step.txn.settle_link((origin, Side::Given), key, message.bytes)?;
        if !is_first && link.settle.as_deref() != Some(message.bytes) {
            self.count("second_settlement");
        }
        Ok(true)
    }
}
