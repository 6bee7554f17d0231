//! A request from its first hop to the last byte of the answer.

use std::time::{Duration, Instant};

use jobmesh_protocol::Outcome;
use jobmesh_protocol::task::HttpTask;
use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
    TRANSFER_ENCODING, USER_AGENT,
};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};

use super::egress::{Refused, Rules};
use super::report::{self, Report, shown};
use super::upload::{self, BodyError, Pulse};
use crate::event::{Event, chain, clip};
use crate::executors::Control;
use crate::order::Order;
use crate::output::Stream;
use crate::stage::{Stage, StageError};

/// How long a server may say nothing at all: a minute, like most proxies on the way to it.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often it is told how far a long answer is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Headers of a job that may follow a redirect to another server: they say what is wanted and prove nothing.
const HARMLESS: [HeaderName; 5] = [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, RANGE, USER_AGENT];

/// One request and all that it needs.
pub(super) struct Exchange<'e> {
    pub(super) order: &'e Order,
    pub(super) task: &'e HttpTask,
    pub(super) client: &'e Client,
    /// The rules for where it may go; none is anywhere.
    pub(super) rules: Option<Rules>,
    /// Most bytes of the answer.
    pub(super) limit: u64,
    pub(super) control: &'e Control<'e>,
}

/// Why an exchange came to no answer.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("{0:?} is no address of a web server")]
    Address(String),
    #[error("the request can't be made: {0}")]
    Request(&'static str),
    #[error(transparent)]
    Refused(Refused),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("{host} redirected more than {limit} times; the last was to {to}")]
    Redirects { host: String, limit: u8, to: String },
    #[error("{from} redirected to {to}, which is not encrypted; name that address if it is meant")]
    Downgrade { from: String, to: String },
    #[error("{from} redirected to no address")]
    Nowhere { from: String },
    #[error("{from} said nothing for {} s", SILENCE_MAX.as_secs())]
    Silence { from: String },
    #[error("failed to {what} {from}: {why}")]
    Failed { what: &'static str, from: String, why: String },
    #[error("the answer has more than {limit} bytes; raise `response_bytes` in [http]")]
    TooLong { limit: u64 },
}

impl ExchangeError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Address(_)
            | Self::Request(_)
            | Self::Refused(_)
            | Self::Redirects { .. }
            | Self::Downgrade { .. }
            | Self::Nowhere { .. }
            | Self::TooLong { .. } => Outcome::Permanent { message: chain(self) },
            Self::Stage(error) => error.outcome(),
            Self::Body(_) | Self::Silence { .. } | Self::Failed { .. } => Outcome::error(chain(self)),
        }
    }

    /// What became of something that the client tried; the words for it never hold a query.
    fn of(error: reqwest::Error, what: &'static str, url: &Url) -> Self {
        if let Some(refused) = refused(&error) {
            return Self::Refused(refused.clone());
        }
        let error = error.without_url();
        let why = if error.is_timeout() { "it took too long".to_owned() } else { chain(&error) };
        Self::Failed { what, from: shown(url), why }
    }
}

/// The refusal of the resolver that an error is about, if it is.
fn refused(error: &reqwest::Error) -> Option<&Refused> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref() {
            return Some(refused);
        }
        source = inner.source();
    }
    None
}

/// Where the next request goes and what of the first one it still is.
struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
    has_body: bool,
    redirects: u8,
}

impl Exchange<'_> {
    /// Asks, and writes down what is answered. To be dropped at any time.
    pub(super) async fn run(self, stage: &mut Stage<'_>) -> Outcome {
        match self.ask(stage).await {
            Ok(outcome) => outcome,
            Err(error) => error.outcome(),
        }
    }

    async fn ask(&self, stage: &mut Stage<'_>) -> Result<Outcome, ExchangeError> {
        let mut hop = self.first()?;
        loop {
            let response = self.send(&hop, stage).await?;
            let line = format!("< {} {}\n", response.status().as_u16(), about(response.headers()));
            stage.say(Stream::Stderr, line.as_bytes())?;
            match self.next(&hop, &response)? {
                Some(next) => hop = next,
                None => return self.receive(&hop, response, stage).await,
            }
        }
    }

    fn first(&self) -> Result<Hop, ExchangeError> {
        let task = self.task;
        let wrong = || ExchangeError::Address(clip(task.url.split(['?', '#']).next().unwrap_or_default().to_owned()));
        let url: Url = task.url.parse().map_err(|_| wrong())?;
        if !is_web(&url) {
            return Err(wrong());
        }
        let method =
            Method::from_bytes(task.method.as_bytes()).map_err(|_| ExchangeError::Request("its method is no word"))?;
        if method == Method::CONNECT {
            return Err(ExchangeError::Request("CONNECT asks for a tunnel, not for an answer"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &task.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ExchangeError::Request("a header's name is no word"))?;
            let mut value =
                HeaderValue::from_str(value).map_err(|_| ExchangeError::Request("the value of a header is no text"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // What frames the body is known here better.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        Ok(Hop { url, method, headers, has_body: task.body.is_some(), redirects: 0 })
    }

    async fn send(&self, hop: &Hop, stage: &mut Stage<'_>) -> Result<Response, ExchangeError> {
        if let Some(rules) = &self.rules {
            rules.check_host(hop.url.host_str().unwrap_or_default()).map_err(ExchangeError::Refused)?;
        }
        stage.say(Stream::Stderr, format!("> {} {}\n", hop.method, shown(&hop.url)).as_bytes())?;
        let pulse = Pulse::new();
        let mut request = Request::new(hop.method.clone(), hop.url.clone());
        request.headers_mut().extend(hop.headers.clone());
        if let Some(content) = self.task.body.as_ref().filter(|_| hop.has_body) {
            let (body, length) = upload::body(content, &self.order.blobs, &pulse).await?;
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            *request.body_mut() = Some(body);
        }
        let mut sent = Box::pin(self.client.execute(request));
        loop {
            // The server is silent from when it last took something of the body.
            let until = tokio::time::Instant::from_std(pulse.last() + SILENCE_MAX);
            match tokio::time::timeout_at(until, &mut sent).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(ExchangeError::of(error, "reach", &hop.url)),
                Err(_) if pulse.last() + SILENCE_MAX > Instant::now() => {}
                Err(_) => return Err(ExchangeError::Silence { from: shown(&hop.url) }),
            }
        }
    }

    /// The request that an answer leads to, if it leads on.
    fn next(&self, hop: &Hop, response: &Response) -> Result<Option<Hop>, ExchangeError> {
        let status = response.status();
        let leads_on = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        if !leads_on || self.task.redirects == 0 || self.task.expect.contains(&status.as_u16()) {
            return Ok(None);
        }
        let from = || shown(&hop.url);
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = location.and_then(|location| hop.url.join(location).ok()).filter(is_web);
        let url = url.ok_or_else(|| ExchangeError::Nowhere { from: from() })?;
        if hop.redirects >= self.task.redirects {
            let host = hop.url.host_str().unwrap_or_default().to_owned();
            return Err(ExchangeError::Redirects { host, limit: self.task.redirects, to: shown(&url) });
        }
        if hop.url.scheme() == "https" && url.scheme() != "https" {
            return Err(ExchangeError::Downgrade { from: from(), to: shown(&url) });
        }
        let mut headers = hop.headers.clone();
        if hop.url.origin() != url.origin() {
            headers = HARMLESS.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
        }
        let becomes_get = match status {
            StatusCode::SEE_OTHER => hop.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => hop.method == Method::POST,
            _ => false,
        };
        let (method, has_body) = if becomes_get { (Method::GET, false) } else { (hop.method.clone(), hop.has_body) };
        if !has_body {
            headers.remove(CONTENT_TYPE);
        }
        Ok(Some(Hop { url, method, headers, has_body, redirects: hop.redirects + 1 }))
    }

    /// Writes the body down, piece by piece, and then the result.
    async fn receive(
        &self,
        hop: &Hop,
        mut response: Response,
        stage: &mut Stage<'_>,
    ) -> Result<Outcome, ExchangeError> {
        let limit = self.limit;
        let whole = response.content_length().filter(|_| hop.method != Method::HEAD);
        if whole.is_some_and(|whole| whole > limit) {
            return Err(ExchangeError::TooLong { limit });
        }
        let (mut bytes, mut hasher, mut told) = (0_u64, blake3::Hasher::new(), Instant::now());
        loop {
            let chunk = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(ExchangeError::of(error, "receive all of the answer of", &hop.url)),
                Err(_) => return Err(ExchangeError::Silence { from: shown(&hop.url) }),
            };
            // A server that is faster than the disk must not keep a stop from being heard.
            tokio::task::coop::consume_budget().await;
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(ExchangeError::TooLong { limit });
            }
            hasher.update(&chunk);
            stage.say(Stream::Stdout, &chunk)?;
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                self.tell(bytes, whole);
            }
        }
        let status = response.status();
        let report = Report {
            status: status.as_u16(),
            url: shown(&hop.url),
            headers: report::kept(response.headers()),
            redirects: hop.redirects,
            bytes,
            blake3: (bytes > 0).then(|| hasher.finalize().to_hex().to_string()),
        };
        let report = serde_json::to_vec(&report).map_err(|_| ExchangeError::Request("its result is no JSON"))?;
        stage.give_result(&report)?;
        Ok(report::outcome(self.task, status, response.headers(), &hop.url))
    }

    fn tell(&self, bytes: u64, whole: Option<u64>) {
        let done = whole.filter(|whole| *whole > 0).and_then(|whole| {
            u16::try_from(u128::from(bytes) * 10_000 / u128::from(whole)).ok().map(|done| done.min(10_000))
        });
        let of = whole.map(|whole| format!(" of {whole}")).unwrap_or_default();
        self.control.emit(Event::Progress { run: self.order.run, done, what: format!("received {bytes}{of} bytes") });
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
}

/// What is said of an answer to people: what it is and how long.
fn about(headers: &HeaderMap) -> String {
    let value =
        |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(|text| text.escape_debug());
    let parts = [&CONTENT_TYPE, &CONTENT_LENGTH].map(|name| value(name).map(|text| format!("{name}: {text}")));
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
