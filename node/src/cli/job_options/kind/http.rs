//! A request to a web server.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use jobmesh_protocol::task::{HttpTask, Task};

use super::given::{Given, Part};
use super::{misplaced, type_name};
use crate::cli::failure::Failure;
use crate::cli::job_options::Draft;

#[derive(Args, Debug, Default)]
pub(super) struct HttpOptions {
    /// Send a request to a web server
    #[arg(long = "http", value_name = "URL", group = "kind")]
    url: Option<String>,
    /// The method of the request [default: GET, or POST with a body]
    #[arg(long, short = 'X', value_name = "METHOD")]
    method: Option<String>,
    /// A header of the request, such as 'Accept: text/plain' (may be repeated)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The body of the request
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = Given::parse)]
    body: Option<Given>,
    /// The statuses of the answer that are a success, such as 200,404 [default: 200 to 299]
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = parse_status)]
    expect: Vec<u16>,
}

impl HttpOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.url.is_some()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.body.as_ref().and_then(Given::file).into_iter()
    }

    pub(super) fn draft(&self) -> Option<Draft> {
        let url = self.url.as_ref()?;
        Some(Draft::of(host_name(url), Task::Http(HttpTask::new(url.clone()))))
    }

    /// The first option that says something.
    const fn said(&self) -> Option<&'static str> {
        if self.method.is_some() {
            Some("--method")
        } else if !self.headers.is_empty() {
            Some("--header")
        } else if self.body.is_some() {
            Some("--body")
        } else if !self.expect.is_empty() {
            Some("--expect")
        } else {
            None
        }
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let Some(said) = self.said() else { return Ok(()) };
        let task = &mut draft.submission.spec.task;
        let Task::Http(http) = &mut *task else { return Err(misplaced(said, "--http", task)) };
        if let Some(body) = &self.body {
            http.body = Some(body.content());
            draft.uploads.retain(|upload| upload.part != Part::Body);
            draft.uploads.extend(body.upload(Part::Body));
            if http.method == "GET" {
                "POST".clone_into(&mut http.method);
            }
        }
        if let Some(method) = self.method {
            http.method = method.to_ascii_uppercase();
        }
        http.headers.extend(self.headers.into_iter().collect::<BTreeMap<_, _>>());
        if !self.expect.is_empty() {
            http.expect = self.expect;
        }
        Ok(())
    }
}

/// The host of an address, without a port, a user or a password.
fn host_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    type_name(name.map_or(host, |(name, _)| name), "http")
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn parse_status(text: &str) -> Result<u16, String> {
    let status = text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    status
        .ok_or_else(|| "a status is one number from 100 to 599, such as 404; name each of several: 404,410".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range was refused with the words of the standard library: invalid digit found in string.
    #[test]
    fn a_status_is_one_number_and_a_range_is_told_so() {
        assert_eq!((parse_status("404"), parse_status(" 599")), (Ok(404), Ok(599)));
        for text in ["400-499", "4xx", "99", "600", "", "-1", "70000"] {
            assert!(parse_status(text).is_err_and(|said| said.contains("name each of several")), "{text}");
        }
    }

    #[test]
    fn requests_are_grouped_by_their_host() {
        for (url, name) in [
            ("https://example.org/a?b", "example.org"),
            ("http://me:secret@example.org:8080", "example.org"),
            ("http://[::1]:80/", "[::1]"),
            ("http:///", "http"),
        ] {
            assert_eq!(host_name(url), name);
        }
    }
}
