//! Scripts in Luau.

use jobmesh_tests::Value;

use crate::kind::{Kind, Options, options};
use crate::site::{MARK, Place, Site, noise};

/// Scripts in Luau.
pub(crate) struct Script;

impl Kind for Script {
    fn name(&self) -> &'static str {
        "lua"
    }

    fn level(&self, _place: Place) -> &'static str {
        // Wherever it runs: no less can be had.
        "sandboxed"
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let input = site.file("input", &noise());
        let script =
            site.file("copy.luau", b"job.write('out.bin', job.read('given')) print('done') return {bytes = 7}");
        (options(&["--input", &format!("{input}:given"), "--lua", &script]), "out.bin")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        assert!(left == noise(), "{} other bytes", left.len());
        assert_eq!(site.a.wrote(job), "done\n");
        assert_eq!(site.a.json(&["result", job])["result"]["bytes"], 7);
    }

    fn judge_account(&self, account: &Value) {
        // Which of them is known of something so short is up to the kernel's counts.
        let usage = &account["usage"];
        assert!(usage["cpu_ms"].is_u64() || usage["memory_peak_bytes"].is_u64(), "{account}");
    }

    fn waiting(&self, site: &Site<'_>) -> Options {
        let mark = site.file(MARK, b"");
        let script = "print('first') repeat until pcall(job.read, 'go') print('last')";
        options(&["--input", &mark, "--lua-script", script])
    }

    fn let_go(&self, site: &Site<'_>) {
        site.make_go();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        options(&["--lua-script", "print('first') while true do pcall(error) end"])
    }

    fn greedy(&self, _site: &Site<'_>) -> (Options, &'static str) {
        let script = "local all = {} while true do all[#all + 1] = string.rep('x', 100000) .. #all end";
        (options(&["--mem", "32M", "--lua-script", script]), "(memory limit)")
    }
}
