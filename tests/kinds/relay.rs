//! What stands between a node and a real server of models, so that a test says when an answer goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use jobmesh_tests::web::{Connection, Request, Server};
use jobmesh_tests::{Signal, Tools, Value};

/// Most texts that are embedded in one request.
const BATCH_MAX: usize = 100;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It is passed on.
    Open,
    /// After its first words it waits to be let go.
    Waiting,
    /// After its first words nothing more comes.
    Endless,
}

/// The manners by the first part of a path.
const MANNERS: [(&str, Manner); 3] =
    [("/open", Manner::Open), ("/waiting", Manner::Waiting), ("/endless", Manner::Endless)];

/// A relay before the real server.
pub(crate) struct Relay {
    server: Server,
    /// Given when an answer that waits is to go on.
    pub(crate) go: Signal,
    /// Given by the relay when it holds an answer back.
    pub(crate) held: Signal,
    /// Given by the relay when whoever asked for an answer without end has gone.
    pub(crate) gone: Signal,
}

impl Relay {
    /// One before the server that `JOBMESH_LLM_URL` names; none, after saying so, where there is none.
    pub(crate) fn find() -> Option<Self> {
        let Ok(url) = std::env::var("JOBMESH_LLM_URL") else {
            Tools::missing("real models", "JOBMESH_LLM_URL is not set; see tests/setup/llm.sh");
            return None;
        };
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let (go, held, gone) = (Signal::default(), Signal::default(), Signal::default());
        let signals = (go.clone(), held.clone(), gone.clone());
        let server = Server::start(move |request, to| pass(&host, request, to, &signals));
        Some(Self { server, go, held, gone })
    }

    /// The providers of a node, each with the model of this name.
    pub(crate) fn tables(&self, model: &str, kind: &str) -> String {
        let table = |(path, _): &(&str, Manner)| {
            let name = path.trim_start_matches('/');
            let url = self.server.url(&format!("{path}/v1"));
            format!(
                "[providers.{name}]\nkind = \"openai\"\nbase_url = \"{url}\"\n\
                 [models.{name}]\nprovider = \"{name}\"\nmodel = \"{model}\"\nkind = \"{kind}\"\n"
            )
        };
        MANNERS.iter().map(table).collect()
    }
}

fn pass(host: &str, request: &Request, to: &mut Connection, (go, held, gone): &(Signal, Signal, Signal)) {
    let (prefix, manner) = MANNERS.iter().find(|(prefix, _)| request.path.starts_with(prefix)).unwrap();
    let mut from = ask(host, &request.path[prefix.len()..], &request.body);
    let is_last = texts(&request.body) < BATCH_MAX;
    if *manner != Manner::Open && is_last {
        if request.path.ends_with("/chat/completions") {
            first_words(&mut from, to);
        }
        held.give();
        if *manner == Manner::Endless {
            drop(from);
            to.until_gone();
            gone.give();
            return;
        }
        if !go.take() {
            return;
        }
    }
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).unwrap();
    to.raw(rest);
}

/// How many texts a request wants embedded.
fn texts(body: &[u8]) -> usize {
    serde_json_of(body)["input"].as_array().map_or(0, Vec::len)
}

fn serde_json_of(body: &[u8]) -> Value {
    std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Asks the real server.
fn ask(host: &str, path: &str, body: &[u8]) -> TcpStream {
    let mut server = TcpStream::connect(host).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    server.write_all(head.as_bytes()).unwrap();
    server.write_all(body).unwrap();
    server
}

/// Passes on what comes until some of it is a word of the answer.
fn first_words(from: &mut TcpStream, to: &mut Connection) {
    let mut seen = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing is read that is not passed on.
    while from.read(&mut byte).unwrap() == 1 {
        seen.push(byte[0]);
        if seen.ends_with(b"\n\n") && seen.windows(10).any(|window| window == b"\"content\":") {
            break;
        }
    }
    to.raw(seen);
}
