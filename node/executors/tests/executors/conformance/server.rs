//! A server of pages and models that answers as a test needs it: with a greeting, with a failure, without end, or never.
//! The first part of the path says which.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use jobmesh_executors::model::settings::{Provider, ProviderKind, Settings};
use serde_json::{Value, json};

/// The ways to answer that a provider of models has.
const PROVIDERS: [&str; 4] = ["greeting", "busy", "endless", "noisy"];

/// A server on the loopback, for as long as the tests last.
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    pub(super) fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Each ends when its client is gone.
                std::thread::spawn(move || answer(stream, greeting));
            }
        });
        Self { address }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Providers by how they answer.
    pub(super) fn models(&self) -> Settings {
        let provider = |name: &str| Provider {
            base_url: Some(self.url(&format!("/{name}/v1/"))),
            ..Provider::new(ProviderKind::OpenAi)
        };
        let providers = PROVIDERS.iter().map(|name| ((*name).to_owned(), provider(name))).collect();
        Settings { providers, ..Settings::default() }
    }
}

/// Answers one request by its path. Whoever goes away in the middle is not missed.
fn answer(mut stream: TcpStream, greeting: &str) {
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if head.read_line(&mut first).is_err() {
        return;
    }
    let (mut line, mut length) = (String::new(), 0_u64);
    while head.read_line(&mut line).is_ok_and(|count| count > 2) {
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = Vec::new();
    if head.take(length).read_to_end(&mut body).is_err() {
        return;
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (way, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let (kind, said, more) = match rest.rsplit('/').next() {
        Some("completions") => ("text/event-stream", spoken(greeting), piece(&"x".repeat(4096))),
        Some("embeddings") => ("application/json", vector(), String::new()),
        Some(_) | None => ("text/plain", greeting.to_owned(), "x".repeat(4096)),
    };
    let whole = |status: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    let said = match way {
        "ok" => whole("200 OK", ""),
        "greeting" => whole("200 OK", &said),
        "noisy" => format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"),
        "endless" => String::new(),
        _ => whole("503 Service Unavailable", "busy"),
    };
    let mut sent = stream.write_all(said.as_bytes());
    while way == "noisy" && sent.is_ok() {
        sent = stream.write_all(more.as_bytes());
    }
    // Until the client is gone.
    let _ = stream.read(&mut [0]);
}

/// A piece of an answer of a model.
fn piece(text: &str) -> String {
    event(&json!({ "delta": { "content": text }, "finish_reason": null, "index": 0 }))
}

fn event(choice: &Value) -> String {
    let whole = json!({ "id": "x", "object": "chat.completion.chunk", "model": "small", "choices": [choice] });
    format!("data: {whole}\n\n")
}

/// A whole answer of a model.
fn spoken(text: &str) -> String {
    let end = event(&json!({ "delta": {}, "finish_reason": "stop", "index": 0 }));
    format!("{}{end}data: [DONE]\n\n", piece(text))
}

/// The vector of one text.
fn vector() -> String {
    let data = json!([{ "object": "embedding", "index": 0, "embedding": [0.5, 0.25] }]);
    json!({ "object": "list", "data": data, "model": "small", "usage": { "prompt_tokens": 1, "total_tokens": 1 } })
        .to_string()
}
