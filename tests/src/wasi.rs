//! A program in C for WASI that does what its first argument says, compiled while the tests run.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use crate::tools::Tools;

/// What the program does, see there.
const PROGRAM: &str = include_str!("wasi/program.c");

/// The compiled program; none, after saying so, where there is no compiler for it.
///
/// # Panics
/// If the compiler is required, or there is no room for what it makes.
#[must_use]
pub fn module() -> Option<&'static [u8]> {
    static MODULE: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    match MODULE.get_or_init(compile) {
        Ok(module) => Some(module),
        Err(why) => {
            Tools::missing("C for WASI", &format!("no compiler; run tests/setup/wasi.sh: {why}"));
            None
        }
    }
}

fn compile() -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, module) = (folder.path().join("program.c"), folder.path().join("program.wasm"));
    fs::write(&source, PROGRAM).expect("a written file");
    let made = Command::new("clang-14").args(["--target=wasm32-wasi", "-O1", "-o"]).args([&module, &source]).output();
    let made = made.map_err(|error| error.to_string())?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    fs::read(module).map_err(|error| error.to_string())
}
