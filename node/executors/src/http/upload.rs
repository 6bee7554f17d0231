//! The body of a request: a short text, or a blob read from its file as fast as the server takes it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::Stream;
use jobmesh_protocol::task::Content;
use reqwest::Body;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// When something of a body was last taken.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the request's body, blob {hash}; it should have been fetched")]
pub(super) struct BodyError {
    hash: String,
    source: std::io::Error,
}

/// A body that can be sent, and its length.
pub(super) async fn body(content: &Content, blobs: &Path, pulse: &Pulse) -> Result<(Body, u64), BodyError> {
    match content {
        Content::Text(text) => Ok((Body::from(text.clone()), text.len() as u64)),
        Content::Blob(blob) => {
            let hash = blob.hash.to_string();
            let file = File::open(blobs.join(&hash)).await.map_err(|source| BodyError { hash, source })?;
            Ok((Body::wrap_stream(chunks(file, pulse.clone())), blob.size))
        }
    }
}

fn chunks(file: File, pulse: Pulse) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    futures::stream::unfold(Some((file, pulse)), async |state| {
        let (mut file, pulse) = state?;
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        pulse.beat();
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(count) => {
                chunk.truncate(count);
                Some((Ok(chunk), Some((file, pulse))))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}
