//! Requests of scripts: made here, in the daemon, since the worker that runs a script has no way to the network.
//!
//! It is the same exchange as that of an http job, under the same rules for the jobs of others, but its answer is held in
//! memory, so it is bounded more narrowly, and every status is an answer: the script says what it means. Nothing is
//! tried again. Whoever waits for the answer ends the request by going away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jobmesh_protocol::task::HttpTask;
use tokio::sync::Semaphore;

use super::Clients;
use super::egress::{Names, Rules};
use super::exchange::{Ear, Exchange, ExchangeError};
use super::settings::{Reach, Settings};
use crate::event::{chain, clip};
use crate::stage::StageError;

/// Most bytes of an answer: 4 MiB. A script has them in memory, and so has the daemon until they are told.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Most requests at once; more wait. Together their answers are then no more than 64 MiB.
const REQUESTS_MAX: usize = 16;

/// Most redirects that are followed, as in an http job.
const REDIRECTS_MAX: u8 = 20;

/// Makes the requests of scripts.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Made for the first request: most nodes run no script that makes any.
    clients: OnceLock<Result<Clients, String>>,
    room: Semaphore,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status, whatever it is.
    pub status: u16,
    /// Where the answer came from, without its query.
    pub url: String,
    /// The headers of the answer; several of one name are one, with commas.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The jobs of others may go nowhere.
    #[error("this node makes no requests for peers ([http] peers)")]
    Peers,
    /// The answer does not fit.
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes, the most for a script; submit an http job for it")]
    TooLong,
    /// It was not allowed, or did not work.
    #[error("{0}")]
    Failed(String),
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// With what the owner says of requests.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let (clients, room) = (OnceLock::new(), Semaphore::new(REQUESTS_MAX));
        Self(Arc::new(Inner { settings, clients, room }))
    }

    /// Makes a request within a runtime. With `is_guarded` it is that of somebody else. To be dropped at any time, which
    /// ends it.
    ///
    /// # Errors
    /// [`FetchError`], in words that hold no query and no header.
    pub async fn fetch(&self, task: HttpTask, is_guarded: bool) -> Result<Fetched, FetchError> {
        let inner = &*self.0;
        let task = HttpTask { redirects: task.redirects.min(REDIRECTS_MAX), ..task };
        if is_guarded && inner.settings.peers == Reach::None && inner.settings.allow.is_empty() {
            return Err(FetchError::Peers);
        }
        let _room = inner.room.acquire().await.map_err(|_| FetchError::Failed("the node is ending".to_owned()))?;
        let make = || Clients::new(&inner.settings, Names::default()).map_err(|error| chain(&error));
        let clients = inner.clients.get_or_init(make).as_ref().map_err(|error| FetchError::Failed(error.clone()))?;
        let (client, rules) = if is_guarded {
            (&clients.guarded, Some(Rules::new(inner.settings.clone())))
        } else {
            (&clients.open, None)
        };
        // A script's body is in its line, so no blob is looked for.
        let blobs = PathBuf::new();
        let limit = inner.settings.response_bytes_max.min(ANSWER_BYTES_MAX);
        let mut body = Body(Vec::new());
        let exchange = Exchange { task: &task, blobs: &blobs, client, rules, limit };
        match Box::pin(exchange.run(&mut body)).await {
            Ok(answer) => {
                let report = answer.report;
                Ok(Fetched { status: report.status, url: report.url, headers: report.headers, body: body.0 })
            }
            Err(ExchangeError::TooLong { .. }) => Err(FetchError::TooLong),
            Err(error) => Err(FetchError::Failed(clip(chain(&error)))),
        }
    }
}

/// Keeps the body.
struct Body(Vec<u8>);

impl Ear for Body {
    fn note(&mut self, _line: &str) -> Result<(), StageError> {
        Ok(())
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), StageError> {
        self.0.extend_from_slice(piece);
        Ok(())
    }

    fn progress(&mut self, _bytes: u64, _whole: Option<u64>) {}
}
