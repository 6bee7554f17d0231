//! Commands of the machine itself.

use jobmesh_tests::Value;

use crate::kind::{Kind, Options, options};
use crate::site::{MARK, Site, noise};

/// Commands of the machine itself.
pub(crate) struct Process;

/// What waits to be let go, as a shell says it.
pub(crate) const WAIT: &str = "mkfifo go && echo first && cat go && echo last";

impl Kind for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let input = site.file("input", &noise());
        // What is over at once is not worth an account of its processor time.
        let script = "cp given out.bin; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo done";
        (options(&["--input", &format!("{input}:given"), "--", "sh", "-c", script]), "out.bin")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        assert!(left == noise(), "{} other bytes", left.len());
        assert_eq!(site.a.wrote(job), "done\n");
    }

    fn judge_account(&self, account: &Value) {
        assert!(account["usage"]["cpu_ms"].is_u64(), "{account}");
    }

    fn waiting(&self, site: &Site<'_>) -> Options {
        let mark = site.file(MARK, b"");
        options(&["--input", &mark, "--", "sh", "-c", WAIT])
    }

    fn let_go(&self, site: &Site<'_>) {
        site.make_go();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        // With one that hides from the group of the others.
        options(&["--", "sh", "-c", "setsid sleep 600 & echo first; wait"])
    }

    fn greedy(&self, _site: &Site<'_>) -> (Options, &'static str) {
        (options(&["--mem", "64M", "--", "tail", "/dev/zero"]), "out of memory (limit 64 MiB")
    }
}
