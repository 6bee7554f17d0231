//! Whether a server of models is running on this machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long all of it may take. A server on this machine answers in a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// Most bytes of an answer: a hundred times what Ollama says.
const ANSWER_BYTES_MAX: usize = 8192;

/// Whether an Ollama answers at an address: it tells its version, and no other server does so there.
pub(super) fn is_ollama(address: SocketAddr) -> bool {
    let Some(answer) = ask(address, Instant::now() + PATIENCE) else { return false };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let told: Option<serde_json::Value> = serde_json::from_str(body.trim()).ok();
    let is_good = head.split_whitespace().nth(1) == Some("200");
    is_good && told.is_some_and(|told| told.get("version").is_some_and(serde_json::Value::is_string))
}

/// Asks for the version; none without an answer in time. By hand, since a client that knows encryption takes longer to
/// make than there is patience, and nobody is to find a proxy in between.
fn ask(address: SocketAddr, until: Instant) -> Option<String> {
    let left = || until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    let mut stream = TcpStream::connect_timeout(&address, left()?).ok()?;
    stream.set_write_timeout(left()).ok()?;
    // Of the older version of the protocol, in which an answer ends with its connection.
    let request = format!("GET /api/version HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0_u8; 1024];
    while answer.len() < ANSWER_BYTES_MAX {
        stream.set_read_timeout(Some(left()?)).ok()?;
        match stream.read(&mut piece).ok()? {
            0 => return String::from_utf8(answer).ok(),
            count => answer.extend_from_slice(piece.get(..count)?),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_tests::web::Server;

    use super::*;
    use crate::model::settings::{Provider, ProviderKind, Search, Settings};

    fn at(server: &Server) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], server.port()))
    }

    #[test]
    fn an_ollama_that_runs_is_found_if_nothing_else_is_known_and_it_is_looked_for() {
        let server =
            Server::start(|_, to| to.answer(200, &[("content-type", "application/json")], r#"{"version":"0.5.1"}"#));
        let found = Settings::default().or_found(at(&server)).providers;
        assert_eq!(server.asked()[0].path, "/api/version");
        let provider = &found["ollama"];
        assert_eq!((provider.url(), provider.peers), (server.url("/"), false));
        let off = Settings { search: Search::Off, ..Settings::default() };
        assert!(off.or_found(at(&server)).providers.is_empty());
        let known = [("own".to_owned(), Provider::new(ProviderKind::OpenAi))].into();
        let known = Settings { providers: known, ..Settings::default() }.or_found(at(&server)).providers;
        assert_eq!((known.len(), server.asked().len()), (1, 1));
    }

    #[test]
    fn what_is_no_ollama_or_says_nothing_in_time_is_none() {
        let other = Server::start(|_, to| to.answer(200, &[], "<html>"));
        let broken = Server::start(|_, to| to.answer(500, &[], r#"{"version":"1"}"#));
        let silent = Server::start(|_, to| to.until_gone());
        let endless = Server::start(|_, to| (0..1024).for_each(|_| to.raw([b'x'; 1024])));
        for server in [other, broken, silent, endless] {
            let began = Instant::now();
            assert!(!is_ollama(at(&server)), "{server:?}");
            assert!(began.elapsed() < Duration::from_secs(5));
        }
        let nobody: SocketAddr = jobmesh_tests::web::nobody()["http://".len()..].trim_end_matches('/').parse().unwrap();
        assert!(!is_ollama(nobody));
    }
}
