//! A web server that answers as a test needs it: with a greeting, with a failure, without end, or never.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A server on the loopback, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_over) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                // Each ends when its client is gone.
                std::thread::spawn(move || answer(stream, greeting));
            }
        });
        Self { address, is_over, thread: Some(thread) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It waits for a connection to look.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Answers one request by its path. Whoever goes away in the middle is not missed.
fn answer(mut stream: TcpStream, greeting: &str) {
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if head.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while head.read_line(&mut line).is_ok_and(|count| count > 2) {
        line.clear();
    }
    let whole = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let path = first.split(' ').nth(1).unwrap_or_default();
    let said = match path {
        "/ok" => whole("200 OK", ""),
        "/greeting" => whole("200 OK", greeting),
        "/noisy" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(),
        "/endless" => String::new(),
        _ => whole("503 Service Unavailable", "busy"),
    };
    let mut sent = stream.write_all(said.as_bytes());
    while path == "/noisy" && sent.is_ok() {
        sent = stream.write_all(&[b'x'; 4096]);
    }
    // Until the client is gone.
    let _ = stream.read(&mut [0]);
}
