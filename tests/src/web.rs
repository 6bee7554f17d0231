//! A web server on loopback that does for each request what a test says, byte by byte.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A connection on which a request has come.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Says exactly this.
    pub fn raw(&mut self, text: impl AsRef<[u8]>) {
        // Whoever asked may be gone already.
        let _ = self.0.write_all(text.as_ref());
    }

    /// Says exactly this; whether the other side still listens.
    pub fn is_heard(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.0.write_all(text.as_ref()).is_ok()
    }

    /// Answers with a status, headers and a body of known length.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        self.raw(format!("HTTP/1.1 {status} X\r\n{lines}content-length: {length}\r\nconnection: close\r\n\r\n"));
        self.raw(body);
    }

    /// Answers with a stream of these pieces, and closes.
    pub fn stream(&mut self, kind: &str, pieces: &[&str]) {
        self.raw(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"));
        for piece in pieces {
            self.raw(piece);
        }
    }

    /// Waits until the other side has gone.
    pub fn until_gone(&mut self) {
        let mut rest = [0_u8; 64];
        while self.0.read(&mut rest).is_ok_and(|count| count > 0) {}
    }
}

/// The server. Its threads end with the connections; nobody waits for them.
#[derive(Clone, Debug)]
pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts one that treats every request by `say`.
    ///
    /// # Panics
    /// If there is no port for it.
    #[must_use]
    pub fn start(say: impl Fn(&Request, &mut Connection) + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), say)
    }

    /// Starts one at this address of the machine.
    ///
    /// # Panics
    /// If there is no port for it.
    #[must_use]
    pub fn start_at(address: IpAddr, say: impl Fn(&Request, &mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (say, record) = (Arc::new(say), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (say, record, stream) = (Arc::clone(&say), Arc::clone(&record), stream.expect("a connection"));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    record.lock().expect("no panic").push(request.clone());
                    say(&request, &mut Connection(stream));
                });
            }
        });
        Self { address, asked }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was asked up to now.
    ///
    /// # Panics
    /// If one of its threads did.
    #[must_use]
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut request =
        Request { method: words.next()?.to_owned(), path: words.next()?.to_owned(), ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// An address at which nobody listens.
///
/// # Panics
/// If there is no port to try.
#[must_use]
pub fn nobody() -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    format!("http://127.0.0.1:{port}/")
}
