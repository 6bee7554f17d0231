//! What is said of an exchange: the outcome of a status, the result, and the lines for people.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jobmesh_protocol::Outcome;
use jobmesh_protocol::task::HttpTask;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Serialize;

use super::retry_after::retry_after;

/// Most headers of an answer that are kept, and most bytes of one.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 1024;

/// The result of a run: what is known of the answer beside its body.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The status.
    pub(super) status: u16,
    /// Where the answer came from, without its query.
    pub(super) url: String,
    /// The headers of the answer; several of one name are one, with commas.
    pub(super) headers: BTreeMap<String, String>,
    /// How many redirects led there.
    pub(super) redirects: u8,
    /// The length of the body, which is on standard output.
    pub(super) bytes: u64,
    /// Its BLAKE3 hash; none if it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blake3: Option<String>,
}

/// What a status means to the queue.
pub(super) fn outcome(task: &HttpTask, status: StatusCode, headers: &HeaderMap, from: &Url) -> Outcome {
    let code = status.as_u16();
    let is_expected = if task.expect.is_empty() { status.is_success() } else { task.expect.contains(&code) };
    if is_expected {
        return Outcome::Ok;
    }
    let words = status.canonical_reason().map(|words| format!(" {words}")).unwrap_or_default();
    let message = format!("{} answered {code}{words}", shown(from));
    if is_passing(code) {
        return Outcome::Error { message, retry_after_ms: retry_after(headers, SystemTime::now()) };
    }
    Outcome::Permanent { message }
}

/// Whether the same request may get another answer later.
const fn is_passing(code: u16) -> bool {
    matches!(code, 408 | 425 | 429 | 500 | 502..=504 | 506..=599)
}

/// The headers of an answer, as they go into the result.
pub(super) fn kept(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::<String, String>::new();
    for (name, value) in headers.iter().take(HEADERS_MAX) {
        let text: String = value.to_str().unwrap_or("").chars().take(HEADER_BYTES_MAX).collect();
        kept.entry(name.as_str().to_owned())
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&text);
            })
            .or_insert(text);
    }
    kept
}

/// An address for people: without user, password, query and fragment, where secrets are.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let more = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{more}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::DurationMillis;

    use super::*;

    fn of(code: u16, expect: &[u16]) -> Outcome {
        let task = HttpTask { expect: expect.to_vec(), ..HttpTask::new("http://x/") };
        let headers = HeaderMap::from_iter([("retry-after".parse().unwrap(), "7".parse().unwrap())]);
        outcome(&task, StatusCode::from_u16(code).unwrap(), &headers, &"http://u:p@x:81/y?key=1".parse().unwrap())
    }

    #[test]
    fn a_status_is_done_or_another_time_or_never() {
        for (expect, good) in [(&[] as &[u16], [200, 204, 299]), (&[404, 301, 500], [404, 301, 500])] {
            for code in good {
                assert_eq!(of(code, expect), Outcome::Ok, "{code}");
            }
        }
        for code in [408, 425, 429, 500, 502, 503, 504, 507, 520, 529] {
            let Outcome::Error { retry_after_ms, .. } = of(code, &[]) else { panic!("{code} is not tried again") };
            assert_eq!(retry_after_ms, Some(DurationMillis(7_000)));
        }
        for code in [300, 304, 400, 401, 403, 404, 410, 418, 451, 501, 505] {
            assert_eq!(of(code, &[]).word(), "permanent", "{code}");
        }
        assert_eq!(of(200, &[201]).word(), "permanent");
        assert_eq!(of(404, &[]).message(), Some("http://x:81/y?… answered 404 Not Found"));
    }
}
