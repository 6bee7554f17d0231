//! Requests to a real server over a real socket.

use jobmesh_tests::web::Server;
use jobmesh_tests::{Signal, Value};

use crate::kind::{Kind, Options, options};
use crate::site::{Site, noise};

/// Most bytes of an answer, as the node is told.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Requests to a server that does what its path says.
pub(crate) struct Http {
    server: Server,
    go: Signal,
    gone: Signal,
}

impl Http {
    pub(crate) fn start() -> Self {
        let (go, gone) = (Signal::default(), Signal::default());
        let (server_go, server_gone) = (go.clone(), gone.clone());
        let server = Server::start(move |request, to| match request.path.as_str() {
            "/echo" => to.answer(200, &[("content-type", "application/octet-stream")], &request.body),
            "/waiting" => {
                to.stream("text/plain", &["first\n"]);
                if server_go.take() {
                    to.raw("last\n");
                }
            }
            "/endless" => {
                to.stream("text/plain", &["first\n"]);
                to.until_gone();
                server_gone.give();
            }
            "/long" => {
                to.stream("text/plain", &[]);
                to.raw(vec![b'x'; ANSWER_BYTES_MAX + 1]);
            }
            _ => to.answer(404, &[], "no such place"),
        });
        Self { server, go, gone }
    }

    fn ask(&self, path: &str, more: &[&str]) -> Options {
        options(&[&["--http", &self.server.url(path)], more].concat())
    }
}

impl Kind for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn tables(&self) -> String {
        format!("[http]\nresponse_bytes = {ANSWER_BYTES_MAX}\nallow = [\"127.0.0.0/8\"]\n")
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let body = format!("@{}", site.file("input", &noise()));
        (self.ask("/echo", &["--body", &body]), "body")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        assert!(left == noise(), "{} other bytes", left.len());
        assert!(site.a.run(&["logs", "--stdout", job]).stdout == left, "the body is also what it said");
        let result = site.a.json(&["result", job]);
        assert_eq!((&result["result"]["status"], &result["result"]["bytes"]), (&200.into(), &left.len().into()));
    }

    fn judge_account(&self, account: &Value) {
        assert!(account["outputs"]["result"]["hash"].is_string(), "{account}");
    }

    fn waiting(&self, _site: &Site<'_>) -> Options {
        self.ask("/waiting", &[])
    }

    fn let_go(&self, _site: &Site<'_>) {
        self.go.give();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        self.ask("/endless", &[])
    }

    fn is_gone(&self, _site: &Site<'_>) {
        assert!(self.gone.take(), "the server still has its connection");
    }

    fn greedy(&self, _site: &Site<'_>) -> (Options, &'static str) {
        (self.ask("/long", &[]), "the answer has more than 1048576 bytes")
    }
}
