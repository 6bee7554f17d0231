//! The door for people and programs on this machine: HTTP and JSON on a Unix socket that only the owner can open.
//!
//! The routes are listed in [`crate::api`]. Questions that change something become commands of the engine and are
//! answered after its commit; all others read the last commit past it.
//!
//! One task serves the socket, with one task for each connection below it; [`Server::stop`] ends them. **The hard
//! case** is an answer without an end, such as `logs?follow=true`: it ends with the token that closes the server.

mod blobs;
mod capabilities;
mod error;
mod extract;
mod follow;
mod jobs;
mod learn;
mod listener;
mod logs;
mod membership;
mod peers;
mod receipt;
mod status;
mod view;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::ShutdownMode;
use crate::home::Home;
use crate::runtime::Handle;
use listener::OwnerListener;

/// Largest JSON body: a job spec of 64 KiB, however it is escaped.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long open answers get to end.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What every handler works with.
#[derive(Clone, Debug)]
struct Control {
    handle: Handle,
    shutdown: mpsc::Sender<ShutdownMode>,
    closing: CancellationToken,
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    tasks: JoinSet<()>,
    closing: CancellationToken,
    socket: PathBuf,
}

/// Why the socket can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the control socket {}", path.display())]
pub struct BindError {
    /// The socket.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

impl Server {
    /// Opens the socket; from then on the node answers. Wishes to stop go to `shutdown`.
    ///
    /// The caller holds the lock of the data directory, so a socket that is there already is a dead daemon's.
    ///
    /// # Errors
    /// [`BindError`] if the system refuses.
    pub fn start(home: &Home, handle: Handle, shutdown: mpsc::Sender<ShutdownMode>) -> Result<Self, BindError> {
        let socket = home.socket();
        let listener = OwnerListener::bind(&socket).map_err(|source| BindError { path: socket.clone(), source })?;
        let closing = CancellationToken::new();
        let router = router(Control { handle, shutdown, closing: closing.clone() });
        let mut tasks = JoinSet::new();
        let until = closing.clone().cancelled_owned();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
                tracing::error!(%error, "the control socket failed");
            }
        });
        Ok(Self { tasks, closing, socket })
    }

    /// Ends every open answer and removes the socket.
    pub async fn stop(mut self) {
        // First the name: whoever comes now is told that nobody is here, and not left without an answer.
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::warn!(%error, "failed to remove the control socket");
        }
        self.closing.cancel();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.join_next()).await.is_err() {
            tracing::warn!("a client keeps its connection open; it is cut");
        }
        self.tasks.shutdown().await;
    }
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/status", get(status::show))
        .route("/v1/shutdown", post(status::shutdown))
        .route("/v1/blobs", post(blobs::upload))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/jobs/{id}/explain", get(jobs::explain))
        .route("/v1/jobs/{id}/wait", get(follow::wait))
        .route("/v1/jobs/{id}/watch", get(follow::watch))
        .route("/v1/jobs/{id}/logs", get(logs::show))
        .route("/v1/jobs/{id}/receipt", get(receipt::show))
        .route("/v1/events", get(follow::events))
        .route("/v1/peers", get(peers::list))
        .route("/v1/capabilities", get(capabilities::list).post(capabilities::add).delete(capabilities::remove))
        .route("/v1/invites", post(membership::invite))
        .route("/v1/join", post(membership::join))
        .route("/v1/learn", get(learn::show))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(control)
}
