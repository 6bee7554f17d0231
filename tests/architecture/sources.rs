//! Every source file belongs to a target, stays within its size, and switches nothing off.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{cargo, root};

/// A file of a thousand lines holds a second idea.
const LINES_MAX: usize = 999;

/// What no source may contain, and what to do instead. In two parts, so that this file does not contain it.
const BANNED: &[(&str, &str, &str)] = &[
    ("#[", "ignore", "a test that does not run proves nothing; mend or delete it"),
    ("#[", "allow(", "use expect with a reason, which says so when it is no longer needed"),
    ("#![", "allow(", "use expect with a reason, which says so when it is no longer needed"),
    ("should_", "panic", "compare the error that is returned"),
    ("todo", "!(", "finish it or leave it out"),
    ("unimplemented", "!(", "finish it or leave it out"),
    ("dbg", "!(", "it was left behind"),
];

/// Names under which everything and nothing can be put.
const VAGUE: &[&str] = &["common.rs", "helpers.rs", "misc.rs", "mod.rs", "types.rs", "util.rs", "utils.rs"];

/// Every Rust file of the workspace. Follows no links, looks into no hidden folder and no build output.
fn sources() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(".rs") {
                found.insert(entry.path());
            }
        }
    }
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The files at which the compiler starts: libraries, binaries, tests, examples, build scripts.
fn target_roots() -> Vec<PathBuf> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    targets.map(|target| Path::new(target["src_path"].as_str().unwrap()).canonicalize().unwrap()).collect()
}

/// The modules that a file declares to be in files of their own: the name of each, and its file if the attribute
/// before it says which.
fn declared_modules(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    let mut file = None;
    for line in text.lines().map(str::trim) {
        let private =
            ["pub ", "pub(crate) ", "pub(super) "].iter().find_map(|it| line.strip_prefix(it)).unwrap_or(line);
        if let Some(name) = private.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.push((name, file));
        }
        file = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"));
    }
    found
}

/// Every file that some target compiles.
fn compiled() -> BTreeSet<PathBuf> {
    let roots = target_roots();
    // A root's modules are beside it, another file's in the folder of its name.
    let mut waiting: Vec<(PathBuf, PathBuf)> =
        roots.into_iter().map(|file| (file.parent().unwrap().to_owned(), file)).collect();
    let mut found = BTreeSet::new();
    while let Some((folder, file)) = waiting.pop() {
        // A module whose file is missing is the compiler's to report.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (name, path) in declared_modules(&text) {
            let beside = |path| file.parent().unwrap().join(path);
            let module = path.map_or_else(|| folder.join(format!("{name}.rs")), beside);
            let inside = path.map_or_else(|| folder.join(name), |_| module.parent().unwrap().to_owned());
            waiting.push((inside, module));
        }
        found.insert(file);
    }
    found
}

#[test]
fn every_file_belongs_to_a_target() {
    let compiled = compiled();
    let orphans: Vec<String> = sources().difference(&compiled).map(|file| shown(file)).collect();
    assert!(orphans.is_empty(), "nothing compiles {orphans:?}: list each as a module or a test target");
}

#[test]
fn no_file_grows_without_bound() {
    for file in sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; look for its second idea", shown(&file));
    }
}

#[test]
fn nothing_is_switched_off_or_left_undone() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            for (front, back, instead) in BANNED {
                let is_banned = line.contains(&[*front, *back].concat());
                assert!(!is_banned, "{}:{number} contains {front}{back}: {instead}", shown(&file));
            }
        }
    }
}

#[test]
fn every_file_is_named_after_what_it_holds() {
    for file in sources() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!VAGUE.contains(&name.as_str()), "{} says nothing about what is in it", shown(&file));
    }
}
