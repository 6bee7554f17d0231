//! The door for people and programs on this machine: HTTP and JSON on a Unix socket that only the owner can open.
//!
//! The routes are listed in [`crate::api`]. Questions that change something become commands of the engine and are
//! answered after its commit; all others read the last commit past it.
//!
//! One task serves the socket, with one task for each connection below it; [`Server::stop`] ends them. **The hard
//! case** is an answer without an end, such as `logs?follow=true`: it ends with the token that closes the server.

mod actions;
mod artifacts;
mod audit;
mod blobs;
mod capabilities;
mod error;
mod extract;
mod feed;
mod follow;
mod job_types;
mod jobs;
mod learn;
mod logs;
mod membership;
mod metrics;
mod peers;
mod queues;
mod receipt;
mod reports;
mod results;
mod schedules;
mod select;
mod status;
mod submit;
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
use crate::listener::OwnerListener;
use crate::runtime::Handle;

/// Largest JSON body: a job spec of 64 KiB, however it is escaped.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest body of a submit or a batch: the items of one array, or 10 000 small jobs, however they are escaped.
const SUBMIT_BYTES_MAX: usize = 160 << 20;
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
#[error("failed to open the control socket {}; let the user of the daemon write its directory", path.display())]
pub struct BindError {
    /// The socket.
    path: PathBuf,
    /// What the system said.
    pub(crate) source: io::Error,
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
        .merge(submit_routes())
        .merge(job_routes())
        .merge(queue_routes())
        .route("/v1/blobs", post(blobs::upload))
        .route("/v1/blobs/many", post(blobs::upload_many))
        .route("/v1/blobs/missing", post(blobs::missing))
        .route("/v1/blobs/{hash}", get(blobs::show))
        .route("/v1/events", get(follow::events))
        .route("/v1/feed", get(feed::show))
        .route("/v1/peers", get(peers::list))
        .route("/v1/audit/{peer}", get(audit::export))
        .route("/v1/capabilities", get(capabilities::list).post(capabilities::add).delete(capabilities::remove))
        .route("/v1/invites", post(membership::invite))
        .route("/v1/join", post(membership::join))
        .route("/v1/learn", get(learn::show))
        .route("/v1/metrics", get(metrics::show))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(control)
}

/// Where a body may be large.
fn submit_routes() -> Router<Control> {
    Router::new()
        .route("/v1/jobs", get(jobs::list).post(submit::submit))
        .route("/v1/jobs/batch", post(submit::batch))
        .route("/v1/plan", post(jobs::plan))
        .layer(DefaultBodyLimit::max(SUBMIT_BYTES_MAX))
}

fn job_routes() -> Router<Control> {
    Router::new()
        .route("/v1/select", post(select::select))
        .route("/v1/wait", post(follow::wait_for_all))
        .route("/v1/actions", post(actions::act_on_all))
        .route("/v1/prune", post(actions::prune))
        .route("/v1/jobs/{id}", get(jobs::show).delete(actions::remove))
        .route("/v1/jobs/{id}/cancel", post(actions::cancel))
        .route("/v1/jobs/{id}/retry", post(actions::retry))
        .route("/v1/jobs/{id}/hold", post(actions::hold))
        .route("/v1/jobs/{id}/release", post(actions::release))
        .route("/v1/jobs/{id}/reschedule", post(actions::reschedule))
        .route("/v1/jobs/{id}/prioritize", post(actions::prioritize))
        .route("/v1/jobs/{id}/move", post(actions::move_to))
        .route("/v1/jobs/{id}/close", post(actions::close))
        .route("/v1/jobs/{id}/explain", get(jobs::explain))
        .route("/v1/jobs/{id}/wait", get(follow::wait))
        .route("/v1/jobs/{id}/watch", get(follow::watch))
        .route("/v1/jobs/{id}/logs", get(logs::show))
        .route("/v1/jobs/{id}/receipt", get(receipt::show))
        .route("/v1/jobs/{id}/result", get(results::show))
        .route("/v1/jobs/{id}/artifacts", get(artifacts::show))
        .route("/v1/jobs/{id}/checkpoints", get(reports::checkpoints))
}

fn queue_routes() -> Router<Control> {
    Router::new()
        .route("/v1/types", get(job_types::list))
        .route("/v1/types/{name}", get(job_types::show))
        .route("/v1/types/{name}/submission", post(job_types::submission))
        .route("/v1/config/reload", post(job_types::reload))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{name}", get(queues::show).put(queues::set))
        .route("/v1/queues/{name}/pause", post(queues::pause))
        .route("/v1/queues/{name}/resume", post(queues::resume))
        .route("/v1/queues/{name}/drain", post(queues::drain))
        .route("/v1/queues/{name}/reset", post(queues::reset))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/{name}", get(schedules::show).put(schedules::set).delete(schedules::remove))
        .route("/v1/schedules/{name}/next", get(schedules::next))
        .route("/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/v1/schedules/{name}/trigger", post(schedules::trigger))
        .route("/v1/schedules/{name}/backfill", post(schedules::backfill))
}
