//! Modules that a real compiler has made of C.

use jobmesh_tests::{Value, wasi};

use crate::kind::{Kind, Options, options};
use crate::site::{GO, MARK, Place, Site, noise};

/// Modules that a real compiler has made of C.
pub(crate) struct Module(&'static [u8]);

impl Module {
    pub(crate) fn find() -> Option<Self> {
        wasi::module().map(Self)
    }

    /// The program with these options and arguments.
    fn run(&self, site: &Site<'_>, more: &[&str], arguments: &[&str]) -> Options {
        let module = site.file("program.wasm", self.0);
        options(&[more, &["--wasm", &module, "--"], arguments].concat())
    }
}

impl Kind for Module {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn level(&self, _place: Place) -> &'static str {
        // Wherever it runs: no less can be had.
        "untrusted"
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let input = site.file("input", &noise());
        (self.run(site, &["--input", &format!("{input}:given")], &["copy", "given", "out.bin"]), "out.bin")
    }

    fn judge(&self, _site: &Site<'_>, _job: &str, left: &[u8]) {
        assert!(left == noise(), "{} other bytes", left.len());
    }

    fn judge_account(&self, account: &Value) {
        assert!(account["usage"]["fuel"].as_u64() > Some(0), "{account}");
    }

    fn waiting(&self, site: &Site<'_>) -> Options {
        let mark = site.file(MARK, b"");
        self.run(site, &["--input", &mark], &["await", GO])
    }

    fn let_go(&self, site: &Site<'_>) {
        site.make_go();
    }

    fn endless(&self, site: &Site<'_>) -> Options {
        self.run(site, &[], &["hang"])
    }

    fn greedy(&self, site: &Site<'_>) -> (Options, &'static str) {
        (self.run(site, &["--fuel", "5000000"], &["hang"]), "used more than 5000000 fuel")
    }
}
