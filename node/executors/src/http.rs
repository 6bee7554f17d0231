//! The http executor: one request to a web server, its redirects, and the answer.
//!
//! The body of the answer is the standard output of the run, so it is a blob like any other and `jobmesh run` prints it; the
//! result says what is to be said of it: status, headers, address, length, hash. If files of the job are to be kept, the body
//! is one, too, called `body`, whatever the status. What happened on the way is on standard
//! error, without what may be a secret: the headers and the query that were sent.
//!
//! | what comes | what it means |
//! |---|---|
//! | a status that was expected, 200 to 299 if nothing was said | done |
//! | 408, 425, 429 and 500 to 599 but 501 and 505 | another try, not before `retry-after` |
//! | any other status | no other try: it would be the same |
//! | no connection, a name that is not found, silence, an answer that is cut | another try |
//! | an address that may not be reached, too many redirects, an answer that is too long | no other try |
//!
//! Nothing is tried again here: that is the queue's business. **The hard case** is the job of somebody else, which would
//! make this node ask what only this node can reach; `egress.rs` tells what is refused, and each redirect is a new request
//! that is judged anew.

pub(crate) mod client;
pub(crate) mod egress;
mod exchange;
mod fetch;
mod report;
pub(crate) mod retry_after;
pub mod settings;
mod upload;

pub use egress::Names;
pub use fetch::{FetchError, Fetched, Fetcher};

use std::sync::Arc;

use jobmesh_protocol::task::{HttpTask, Task};
use jobmesh_protocol::{Isolation, Outcome, RunId};
use reqwest::Client;
use tokio::runtime::Handle;

use crate::control::Control;
use crate::event::{Ended, Event, chain};
use crate::executor::{Executor, Probe, wrong_task};
use crate::http::client::ClientError;
use crate::http::egress::{Guard, Rules};
use crate::http::exchange::{Answer, Ear, Exchange};
use crate::http::settings::{Reach, Settings};
use crate::order::Order;
use crate::output::Stream;
use crate::process::Seat;
use crate::stage::{Leaves, Stage, StageError};
use crate::surroundings::Surroundings;

/// Runs http tasks. It waits in the daemon's runtime, on the thread of a slot; stopped, it drops what it waits for.
#[derive(Debug)]
pub(crate) struct Http {
    runtime: Handle,
    settings: Settings,
    clients: Result<Clients, ClientError>,
}

/// The two ways to the network.
#[derive(Debug)]
struct Clients {
    open: Client,
    guarded: Client,
}

impl Clients {
    fn new(settings: &Settings, names: Names) -> Result<Self, ClientError> {
        let guard = Guard::new(Rules::new(settings.clone()), names);
        Ok(Self { open: client::open()?, guarded: client::guarded(Arc::new(guard))? })
    }
}

impl Http {
    pub(crate) fn new(surroundings: &Surroundings) -> Self {
        // A client needs the runtime's clock from the start.
        let _inside = surroundings.runtime.enter();
        let settings = surroundings.http.clone();
        let clients = Clients::new(&settings, surroundings.names.clone());
        Self { runtime: surroundings.runtime.clone(), settings, clients }
    }

    /// Why this node does not do what an order asks for, if it doesn't.
    fn refusal(&self, order: &Order) -> Option<Outcome> {
        if order.isolation > Isolation::Sandboxed {
            let message = "a request can't be kept apart from the network; it runs at most sandboxed".to_owned();
            return Some(Outcome::Permanent { message });
        }
        if order.is_foreign && self.settings.peers == Reach::None && self.settings.allow.is_empty() {
            return Some(Outcome::Released {
                reason: "this node makes no requests for peers ([http] peers)".to_owned(),
            });
        }
        None
    }

    fn exchange(&self, order: &Order, task: &HttpTask, clients: &Clients, control: &Control<'_>) -> Ended {
        // Nothing of the job runs here; what it could do is reach what it shouldn't.
        let is_guarded = order.is_foreign || order.isolation > Isolation::Contained;
        let (client, rules, isolation) = if is_guarded {
            (&clients.guarded, Some(Rules::new(self.settings.clone())), Isolation::Sandboxed)
        } else {
            (&clients.open, None, Isolation::Contained)
        };
        let mut stage = match Stage::set(order) {
            Ok(stage) => stage,
            Err(error) => return Ended::without_process(error.outcome()),
        };
        let limit = self.settings.response_bytes_max;
        let exchange = Exchange { task, blobs: &order.blobs, client, rules, limit };
        let mut ear = StageEar { stage: &mut stage, control, run: order.run };
        let told = control.wait_for(&self.runtime, Box::pin(exchange.run(&mut ear)));
        let outcome = match told {
            Err(reason) => reason.outcome(),
            Ok(Err(error)) => error.outcome(),
            Ok(Ok(answer)) => conclude(task, &answer, &mut stage),
        };
        stage.clear_answer(outcome, Leaves::Said("body"), None, isolation)
    }
}

/// Writes the result down, and says what the answer means.
fn conclude(task: &HttpTask, answer: &Answer, stage: &mut Stage<'_>) -> Outcome {
    let Ok(report) = serde_json::to_vec(&answer.report) else { return Outcome::error("the result is no JSON") };
    match stage.give_result(&report) {
        Ok(()) => report::outcome(task, answer.status, &answer.headers, &answer.url),
        Err(error) => error.outcome(),
    }
}

/// Writes down what is heard: the body on standard output, the rest on standard error.
struct StageEar<'e, 'o> {
    stage: &'e mut Stage<'o>,
    control: &'e Control<'e>,
    run: RunId,
}

impl Ear for StageEar<'_, '_> {
    fn note(&mut self, line: &str) -> Result<(), StageError> {
        self.stage.say(Stream::Stderr, line.as_bytes())
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), StageError> {
        self.stage.say(Stream::Stdout, piece)
    }

    fn progress(&mut self, bytes: u64, whole: Option<u64>) {
        let done = whole.filter(|whole| *whole > 0).and_then(|whole| {
            u16::try_from(u128::from(bytes) * 10_000 / u128::from(whole)).ok().map(|done| done.min(10_000))
        });
        let of = whole.map(|whole| format!(" of {whole}")).unwrap_or_default();
        self.control.emit(Event::Progress { run: self.run, done, what: format!("received {bytes}{of} bytes") });
    }
}

impl Executor for Http {
    fn probe(&self) -> Probe {
        match &self.clients {
            Err(error) => Probe::missing("http", chain(error)),
            Ok(_) => {
                let mut probe = Probe::ready("http", Isolation::Sandboxed);
                probe.facts.insert("client".to_owned(), "reqwest, rustls with ring, http/2".to_owned());
                let reach = match self.settings.peers {
                    Reach::Public => "public addresses",
                    Reach::None => "what [http] allow names",
                };
                probe.facts.insert("peers".to_owned(), reach.to_owned());
                probe
            }
        }
    }

    fn perform(&self, order: &Order, _seat: &mut Seat, control: &Control<'_>) -> Ended {
        let Task::Http(task) = &order.task else { return Ended::without_process(wrong_task(&order.task)) };
        if let Some(reason) = control.stop_reason() {
            return Ended::without_process(reason.outcome());
        }
        if let Some(outcome) = self.refusal(order) {
            return Ended::without_process(outcome);
        }
        match &self.clients {
            Ok(clients) => self.exchange(order, task, clients, control),
            Err(error) => Ended::without_process(Outcome::error(chain(error))),
        }
    }
}
