//! Bytes by their hash: uploading the inputs of a job before the job, and reading what it left.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use crate::api::{BLOBS_ASKED_MAX, ErrorCode, Missing, MissingRequest, Uploaded};

/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Keeps a raw stream of any length and answers with its hash. Until then nothing of it is visible.
pub(super) async fn upload(State(control): State<Control>, body: Body) -> Answer<Json<BlobRef>> {
    Ok(Json(control.handle.blobs().write(body.into_data_stream()).await?))
}

/// Keeps many small blobs at once, and answers with their hashes.
pub(super) async fn upload_many(State(control): State<Control>, body: Body) -> Answer<Json<Uploaded>> {
    Ok(Json(Uploaded { blobs: control.handle.blobs().write_many(body.into_data_stream()).await? }))
}

/// Says what of a list is still to be uploaded.
pub(super) async fn missing(
    State(control): State<Control>,
    Ask(MissingRequest { blobs }): Ask<MissingRequest>,
) -> Answer<Json<Missing>> {
    if blobs.len() > BLOBS_ASKED_MAX {
        let message = format!("{} blobs are asked for; the limit is {BLOBS_ASKED_MAX}", blobs.len());
        return Err(Failure::new(ErrorCode::TooLarge, message).hint("ask in parts"));
    }
    Ok(Json(Missing { missing: control.handle.blobs().missing(blobs).await }))
}

/// The bytes of a blob. A file that is damaged is sent as it is: whoever asks by hash can tell.
pub(super) async fn show(State(control): State<Control>, Path(hash): Path<String>) -> Answer<Response> {
    let hash: Hash = hash.parse().map_err(|_| {
        let message = format!("{hash:?} is no hash");
        Failure::new(ErrorCode::BadRequest, message).hint("a hash has 64 hexadecimal digits")
    })?;
    let shelf = control.handle.blobs().shelf().clone();
    let opening = tokio::task::spawn_blocking(move || {
        // Looked for first, so that it counts as new.
        let _ = shelf.find(hash);
        shelf.open_blob(hash)
    });
    let file = tokio::fs::File::from_std(opening.await.map_err(|_| Failure::unexpected())??);
    let length = file.metadata().await.map_err(|error| Failure::internal(&error))?.len();
    let body = Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, CHUNK_BYTES));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}
