//! A request to a web server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Content, TaskError, content_text};

/// Longest address in bytes.
const URL_BYTES_MAX: usize = 8192;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Most redirects that are followed.
const REDIRECTS_MAX: u8 = 20;

/// How a place begins where the value of a secret goes: `{{secret:VARIABLE}}`.
pub const SECRET_HOLE: &str = "{{secret:";

/// A request to a web server. A failure is tried again by the queue, never by the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTask {
    /// The method, in capitals.
    #[serde(default = "get")]
    pub method: String,
    /// The address, with `http` or `https`.
    pub url: String,
    /// Headers by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
    /// The statuses that are a success; empty is all of 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<u16>,
    /// How many redirects are followed.
    #[serde(default = "five")]
    pub redirects: u8,
}

fn get() -> String {
    "GET".to_owned()
}

const fn five() -> u8 {
    5
}

impl HttpTask {
    /// Gets what is at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            method: get(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: None,
            expect: Vec::new(),
            redirects: five(),
        }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let body = self.body.as_mut().and_then(content_text);
        std::iter::once(&mut self.url).chain(self.headers.values_mut()).chain(body)
    }

    /// The variables of the secrets whose values it asks for. Of a hole that nothing closes, all the rest.
    pub(crate) fn secret_holes(&self) -> impl Iterator<Item = &str> {
        let body = self.body.as_ref().and_then(|body| match body {
            Content::Text(text) => Some(text),
            Content::Blob(_) => None,
        });
        let texts = std::iter::once(&self.url).chain(self.headers.values()).chain(body);
        let holes = texts.flat_map(|text| text.split(SECRET_HOLE).skip(1));
        holes.map(|after| after.split_once("}}").map_or(after, |(variable, _)| variable))
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        let is_token = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let has_scheme =
            ["http://", "https://"].iter().any(|scheme| self.url.len() > scheme.len() && self.url.starts_with(scheme));
        if !has_scheme || self.url.len() > URL_BYTES_MAX || self.url.chars().any(char::is_control) {
            return Err(TaskError::Part { what: "address", problem: "must begin with http:// or https:// and a host" });
        }
        if !is_token(&self.method) {
            return Err(TaskError::Part { what: "method", problem: "must be one word, such as GET or POST" });
        }
        if self.headers.len() > HEADERS_MAX {
            return Err(TaskError::TooMany { what: "headers", found: self.headers.len(), limit: HEADERS_MAX });
        }
        let is_value = |text: &String| !text.contains(['\r', '\n', '\0']);
        if !self.headers.iter().all(|(name, value)| is_token(name) && is_value(value)) {
            return Err(TaskError::Part { what: "headers", problem: "must be names and values on one line each" });
        }
        if self.expect.iter().any(|status| !(100..=599).contains(status)) {
            return Err(TaskError::Part { what: "expected statuses", problem: "must be from 100 to 599" });
        }
        if self.redirects > REDIRECTS_MAX {
            return Err(TaskError::Part { what: "redirects", problem: "must be at most 20" });
        }
        Ok(())
    }
}
