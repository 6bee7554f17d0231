//! The signed account of an attempt on a peer, with all that it takes to check it without trusting this daemon.

use axum::Json;
use axum::extract::{Path, State};
use data_encoding::BASE64;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{Envelope, Epoch, TicketId};
use jobmesh_store::{Attempt, ReceiptRow};

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Params;
use super::jobs::JobKey;
use super::view::{self, DetailRow};
use crate::api::{ErrorCode, Expected, ReceiptQuery, ReceiptView};

pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    Params(query): Params<ReceiptQuery>,
) -> Answer<Json<ReceiptView>> {
    let detail = control.detail(&JobKey::parse(&id)?).await?;
    let Some(row) = choose(&detail.receipts, query.attempt) else { return Err(missing(&control, &detail)) };
    let attempt = detail.attempts.iter().find(|attempt| attempt.epoch == row.epoch);
    let attempt = attempt.ok_or_else(|| Failure::new(ErrorCode::NotFound, "the receipt is for an unknown attempt"))?;
    let mesh = control.handle.roster().standing().mesh;
    let envelope = Envelope::open(&row.envelope, &mesh).map_err(|error| Failure::internal(&error))?;
    let receipt: Receipt = envelope.parse().map_err(|error| Failure::internal(&error))?;
    Ok(Json(ReceiptView {
        mesh,
        id: row.id,
        signer: envelope.signer(),
        envelope: BASE64.encode(&row.envelope),
        receipt: receipt.into(),
        expected: expected(&control, attempt),
        verdict: row.verdict,
        received_at: row.received_at,
    }))
}

/// The accepted receipt, else the newest.
fn choose(receipts: &[ReceiptRow], attempt: Option<Epoch>) -> Option<&ReceiptRow> {
    let of_attempt = |row: &&ReceiptRow| attempt.is_none_or(|epoch| row.epoch == epoch);
    let accepted = |row: &&ReceiptRow| row.verdict == Some(Verdict::Accepted);
    let newest_accepted = receipts.iter().rev().filter(of_attempt).find(accepted);
    newest_accepted.or_else(|| receipts.iter().rev().find(of_attempt))
}

fn expected(control: &Control, attempt: &Attempt) -> Expected {
    Expected {
        awardee: attempt.node,
        award: attempt.award,
        ticket: TicketId::from(attempt.job),
        epoch: attempt.epoch,
        spec: attempt.spec_hash,
        to: control.handle.node(),
        outputs: attempt.outputs,
    }
}

fn missing(control: &Control, detail: &DetailRow) -> Failure {
    let number = detail.row.job.number;
    let last = detail.attempts.last();
    let message = match last {
        None => format!("job {number} has not run yet, so there is no receipt"),
        Some(attempt) if attempt.node == control.handle.node() => {
            format!("job {number} ran on this node; only what a peer did has a receipt")
        }
        Some(attempt) => {
            let node = view::name(&control.handle, attempt.node).name;
            format!("no receipt for job {number} has come from {node} yet")
        }
    };
    Failure::new(ErrorCode::NotFound, message).hint(format!("`jobmesh show {number}` lists its attempts"))
}
