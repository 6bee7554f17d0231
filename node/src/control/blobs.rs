//! Uploading the input of a job, before the job.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use jobmesh_protocol::BlobRef;

use super::Control;
use super::error::Answer;

/// Keeps a raw stream of any length and answers with its hash. Until then nothing of it is visible.
pub(super) async fn upload(State(control): State<Control>, body: Body) -> Answer<Json<BlobRef>> {
    Ok(Json(control.handle.blobs().write(body.into_data_stream()).await?))
}
