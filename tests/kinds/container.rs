//! Containers of a real engine.

use std::sync::Arc;

use jobmesh_tests::Value;
use jobmesh_tests::podman::{IMAGE, Podman, podman};

use crate::kind::{Kind, Options, options};
use crate::process::WAIT;
use crate::site::{MARK, Site, noise};

/// Containers of a real engine.
pub(crate) struct Container(Arc<Podman>);

impl Container {
    pub(crate) fn find() -> Option<Self> {
        podman().map(Self)
    }
}

/// A script in a container, with these options before it.
fn shell(more: &[&str], script: &str) -> Options {
    options(&[more, &["--container", IMAGE, "--", "sh", "-c", script]].concat())
}

impl Kind for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    fn tables(&self) -> String {
        self.0.tables()
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let input = site.file("input", &noise());
        (shell(&["--input", &format!("{input}:given")], "cat given > out.bin; echo done"), "out.bin")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        assert!(left == noise(), "{} other bytes", left.len());
        assert_eq!(site.a.wrote(job), "done\n");
    }

    fn judge_account(&self, account: &Value) {
        assert_eq!(account["exit"]["code"], 0, "{account}");
    }

    fn waiting(&self, site: &Site<'_>) -> Options {
        let mark = site.file(MARK, b"");
        shell(&["--input", &mark], WAIT)
    }

    fn let_go(&self, site: &Site<'_>) {
        site.make_go();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        shell(&["--kill-grace", "1s"], "echo first; sleep 600")
    }

    fn is_gone(&self, site: &Site<'_>) {
        let node = site.worker().json(&["status"])["node"].as_str().unwrap().to_owned();
        assert_eq!(self.0.containers_of(&node), Vec::<String>::new());
    }

    fn greedy(&self, _site: &Site<'_>) -> (Options, &'static str) {
        (shell(&["--mem", "32M"], "tail /dev/zero"), "out of memory (limit 32 MiB)")
    }
}
