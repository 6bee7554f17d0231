//! The bans that clippy enforces are there, with a reason each, and the files that tests compare with are too.

use std::collections::BTreeMap;

use crate::{root, toml_file};

/// The crates without a clock, entropy, threads or hash-map order.
const CORE: &[&str] = &["keys", "protocol", "store", "node/engine"];

/// What every one of them must ban.
const BANS: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::env::var",
    "std::process::exit",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::time::Instant",
    "std::time::Instant::now",
    "std::time::SystemTime",
    "std::time::SystemTime::now",
];

/// The banned paths of a clippy file with their reasons.
fn bans(path: &str) -> BTreeMap<String, String> {
    let table = toml_file(path);
    let lists = ["disallowed-types", "disallowed-methods"].into_iter().filter_map(|key| table.get(key)?.as_array());
    let text = |entry: &toml::Value, key: &str| entry.get(key).and_then(|it| it.as_str()).unwrap_or("").to_owned();
    lists.flatten().map(|entry| (text(entry, "path"), text(entry, "reason"))).collect()
}

#[test]
fn every_core_crate_bans_what_would_make_two_runs_differ() {
    for folder in CORE {
        let bans = bans(&format!("{folder}/clippy.toml"));
        for path in BANS {
            assert!(bans.contains_key(*path), "{folder}/clippy.toml does not ban {path}");
        }
    }
}

/// A crate's own file replaces that of the workspace, so it has to repeat what concerns it. The core has no tokio.
#[test]
fn every_core_crate_repeats_the_bans_of_the_workspace() {
    for path in bans("clippy.toml").into_keys().filter(|path| path.starts_with("std::")) {
        for folder in CORE {
            assert!(bans(&format!("{folder}/clippy.toml")).contains_key(&path), "{folder}/clippy.toml forgets {path}");
        }
    }
}

#[test]
fn every_ban_says_why_and_what_instead() {
    let workspace = bans("clippy.toml");
    for path in ["tokio::spawn", "tokio::sync::mpsc::unbounded_channel", "std::sync::mpsc::channel"] {
        assert!(workspace.contains_key(path), "clippy.toml does not ban {path}");
    }
    let of_core = CORE.iter().flat_map(|folder| bans(&format!("{folder}/clippy.toml")));
    for (path, reason) in workspace.into_iter().chain(of_core) {
        assert!(!reason.is_empty(), "the ban of {path} has no reason");
    }
}

#[test]
fn the_files_that_pin_formats_are_there() {
    for (folder, at_least) in [("keys/tests/golden", 3), ("protocol/tests/golden", 40), ("store/tests/fixtures", 1)] {
        let count = std::fs::read_dir(root().join(folder)).unwrap().count();
        assert!(count >= at_least, "{folder} holds {count} files of at least {at_least}");
    }
}
