//! A small pool of read-only connections: lists and pages never wait for the engine, nor the engine for them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jobmesh_store::{Reader, StoreError, View};
use tokio::sync::Semaphore;

/// Most connections at once. A query takes well under a millisecond; more would only compete for the disk.
const READERS_MAX: usize = 4;

/// The pool. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    directory: PathBuf,
    idle: Arc<Mutex<Vec<Reader>>>,
    permits: Arc<Semaphore>,
}

/// Why the database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reading thread ended by a panic.
    #[error("reading the job database was interrupted")]
    Interrupted,
}

impl Readers {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Closes every connection once its query is through, so that the last connection is the writer's: it brings the log
    /// into the database, and whoever copies the one file of a stopped node has everything.
    pub(super) async fn close(&self) {
        // Already closed, if this fails.
        if let Ok(_all) = self.permits.acquire_many(u32::try_from(READERS_MAX).unwrap_or(u32::MAX)).await {
            self.permits.close();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Runs queries on a thread that may block. Waits for a connection when all are in use. Cancel-safe.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| ReadError::Interrupted)?;
        let (directory, idle) = (self.directory.clone(), Arc::clone(&self.idle));
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = taken.map_or_else(|| Reader::open(&directory), Ok)?;
            // A connection that failed is not put back.
            let answer = query(reader.view())?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(answer)
        });
        work.await.map_err(|_| ReadError::Interrupted)?
    }
}
