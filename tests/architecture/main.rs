//! The rules of the house that a compiler does not know: who may depend on whom and on what, how large a file
//! may grow, and that nothing is switched off or left lying about.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod arrows;
mod lints;
mod sources;
mod trees;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Reads a TOML file by its path from the root.
fn toml_file(path: impl AsRef<Path>) -> toml::Table {
    let path = root().join(path);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display())).unwrap();
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display())).unwrap()
}

/// What a cargo command without network prints.
fn cargo(arguments: &[&str]) -> String {
    let ran = std::process::Command::new(env!("CARGO")).args(arguments).arg("--offline").current_dir(root()).output();
    let output = ran.unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
