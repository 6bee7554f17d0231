//! What a provider's refusal means: try again, try then, ask somebody else, or never.
//!
//! Providers agree on HTTP and on little else. Money that is out is 429 for one, 400 for the next and 402 for a third; what
//! is overloaded says 503 or 529. So the body is read first, then the status. Source: the providers' own documents of
//! their errors.

use std::time::{Duration, SystemTime};

use jobmesh_protocol::DurationMillis;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::key::Key;
use crate::http::retry_after::{millis, retry_after};

/// Most of a provider's own words that are passed on.
const WORDS_MAX: usize = 500;

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same again, a little later.
    Retry,
    /// The same again, not before so long.
    Later(DurationMillis),
    /// Somebody else: this provider won't do it, for us or for today.
    OtherProvider,
    /// Nothing: the question itself is refused.
    Fatal,
}

/// Why a provider did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) remedy: Remedy,
    /// For people; free of the key.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self { remedy, message: message.into() }
    }
}

/// An answer that is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// None if the refusal came in the middle of an answer that had begun well.
    pub(crate) status: Option<u16>,
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) body: &'a str,
    pub(crate) key: Option<&'a Key>,
}

/// What the body of a refusal says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// Every word that stands for a reason: types, codes, ids of quotas, in lower case.
    reasons: String,
    retry_after: Option<Duration>,
}

impl Answer<'_> {
    /// Says what it means.
    pub(crate) fn judge(&self) -> Failure {
        let said = Said::read(self.body);
        let now = SystemTime::now();
        let wait = self.headers.and_then(|headers| retry_after(headers, now)).or_else(|| said.retry_after.map(millis));
        let later = wait.map_or(Remedy::Retry, Remedy::Later);
        let (remedy, why) = self.sort(&said, later);
        let status = self.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let words = self.key.map_or_else(|| said.message.clone(), |key| key.scrub(&said.message));
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        Failure { remedy, message: format!("{why}{status}{words}") }
    }

    fn sort(&self, said: &Said, later: Remedy) -> (Remedy, &'static str) {
        if said.is_of_money() || self.status == Some(402) {
            return (Remedy::OtherProvider, "the provider's account has no money or quota left");
        }
        if said.is_of_length() {
            return (Remedy::Fatal, "the question is longer than the model's context");
        }
        match self.status {
            Some(401 | 403) => (Remedy::OtherProvider, "the provider does not accept the key"),
            // Gemini calls a wrong key a wrong argument.
            Some(400) if said.has(&["api_key_invalid"]) => {
                (Remedy::OtherProvider, "the provider does not accept the key")
            }
            Some(404) => (Remedy::Fatal, "the provider has no such model or address"),
            Some(429) => (later, "the provider takes no more requests for now"),
            Some(408 | 409 | 425) => (later, "the provider was too slow"),
            Some(501 | 505) => (Remedy::Fatal, "the provider can't do that"),
            Some(500..=599) => (later, "the provider is overloaded or broken"),
            Some(_) => (Remedy::Fatal, "the provider refuses the question"),
            None if said.has(&["invalid_request", "not_found", "invalid_argument"]) => {
                (Remedy::Fatal, "the provider refuses the question")
            }
            None if said.has(&["authentication", "permission", "unauthenticated"]) => {
                (Remedy::OtherProvider, "the provider does not accept the key")
            }
            None => (later, "the provider broke its answer off"),
        }
    }
}

impl Said {
    fn read(body: &str) -> Self {
        let parsed: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        // Gemini wraps it in a list when it streams.
        let outer = parsed.get(0).unwrap_or(&parsed);
        let error = outer.get("error").unwrap_or(outer);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let message = text(Some(error))
            .or_else(|| text(error.get("message")))
            .or_else(|| text(outer.get("message")))
            .or_else(|| text(outer.get("detail")))
            .unwrap_or_else(|| if parsed.is_null() { plain(body) } else { String::new() });
        let mut said = Self { message: message.chars().take(WORDS_MAX).collect(), ..Self::default() };
        for key in ["type", "code", "status"] {
            said.add(error.get(key));
        }
        for detail in error.get("details").and_then(Value::as_array).into_iter().flatten().take(16) {
            said.add_detail(detail);
        }
        // Anthropic has one object instead.
        said.add(error.pointer("/details/error_code"));
        said
    }

    fn add(&mut self, reason: Option<&Value>) {
        if let Some(word) = reason.and_then(Value::as_str) {
            self.reasons.push_str(&word.chars().take(128).collect::<String>().to_ascii_lowercase());
            self.reasons.push(' ');
        }
    }

    /// One of Gemini's details: which quota, how long to wait, what is wrong with the key.
    fn add_detail(&mut self, detail: &Value) {
        self.add(detail.get("reason"));
        for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten().take(16) {
            self.add(violation.get("quotaId"));
        }
        let delay = detail.get("retryDelay").and_then(Value::as_str).and_then(|text| text.strip_suffix('s'));
        let seconds = delay.and_then(|text| text.parse::<f64>().ok());
        if let Some(delay) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            self.retry_after = Some(delay);
        }
    }

    fn has(&self, reasons: &[&str]) -> bool {
        reasons.iter().any(|reason| self.reasons.contains(reason))
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    fn is_of_money(&self) -> bool {
        const REASONS: [&str; 6] =
            ["insufficient_quota", "billing", "enforced_spend_limit", "credit", "payment_required", "perday"];
        self.has(&REASONS)
            || self.says(&["credit balance", "exceeded your current quota", "insufficient balance"])
                && !self.has(&["perminute"])
    }

    fn is_of_length(&self) -> bool {
        const WORDS: [&str; 5] =
            ["context length", "context window", "prompt is too long", "maximum number of tokens", "exceed context"];
        self.has(&["context_length_exceeded", "exceed_context_size"]) || self.says(&WORDS)
    }
}

/// A body that is no JSON, on one line; pages for browsers say nothing.
fn plain(body: &str) -> String {
    if body.trim_start().starts_with('<') {
        return "(a page for browsers)".to_owned();
    }
    let line: Vec<&str> = body.split_whitespace().take(80).collect();
    line.join(" ")
}

#[cfg(test)]
mod tests;
