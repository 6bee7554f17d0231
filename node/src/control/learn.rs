//! What was learned: this node's own observations, and those that other members told.

use axum::Json;
use axum::extract::State;
use jobmesh_keys::MeshId;
use jobmesh_protocol::Envelope;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::summary::{Cell, Summary};
use jobmesh_store::{SummaryRow, View};

use super::Control;
use super::error::Answer;
use super::view;
use crate::api::{CellView, HeardView, Learned};
use crate::runtime::Handle;

/// How many days are shown, today included.
const DAYS: u32 = 7;

pub(super) async fn show(State(control): State<Control>) -> Answer<Json<Learned>> {
    let handle = &control.handle;
    let today = handle.wall().day();
    let since = today.saturating_sub(DAYS - 1);
    let read = move |view: View<'_>| {
        let mut own = Vec::new();
        for day in since..=today {
            own.extend(view.cells(day)?.into_iter().map(|cell| (day, cell)));
        }
        Ok((own, view.summaries(since)?))
    };
    let (own, summaries) = handle.read(read).await?;
    let mesh = handle.roster().standing().mesh;
    let heard = summaries.into_iter().filter(|row| row.head.author != handle.node());
    Ok(Json(Learned {
        own: own.into_iter().map(|(day, cell)| cell_view(handle, day, cell)).collect(),
        heard: heard.filter_map(|row| heard_view(handle, &mesh, &row)).collect(),
    }))
}

fn cell_view(handle: &Handle, day: u32, cell: Cell) -> CellView {
    CellView {
        day,
        p50_ms: cell.durations.quantile(50),
        p90_ms: cell.durations.quantile(90),
        job_type: cell.job_type,
        executor: cell.executor,
        node: view::name(handle, cell.node),
        succeeded: cell.succeeded,
        failed: cell.failed,
        timed_out: cell.timed_out,
        lost: cell.lost,
    }
}

/// A summary in its author's own words; none if the words are not the author's.
fn heard_view(handle: &Handle, mesh: &MeshId, row: &SummaryRow) -> Option<HeardView> {
    let envelope = Envelope::open(&row.envelope, mesh).ok()?;
    if envelope.signer() != row.head.author || envelope.kind() != Kind::Summary {
        return None;
    }
    let summary: Summary = envelope.parse().ok()?;
    Some(HeardView {
        author: view::name(handle, row.head.author),
        day: summary.day,
        version: summary.version,
        cells: summary.cells.into_iter().map(|cell| cell_view(handle, summary.day, cell)).collect(),
    })
}
