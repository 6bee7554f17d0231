//! Every counter of the engine is reached by the seeds of CI, or excused with a reason.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jobmesh_simulations::{COUNTERS, EXCUSED};

/// What begins the name of a counter where it is not given to `count` itself.
const BEGINNINGS: [&str; 2] = ["\"refused_", "\"dropped_"];

/// The counters that a source file names.
fn counters(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
    let given = text.split(".count(\"").skip(1).map(name);
    let named =
        BEGINNINGS.iter().flat_map(|begin| text.split(begin).skip(1).map(|rest| begin[1..].to_owned() + &name(rest)));
    given.chain(named).collect()
}

/// Every counter that the engine's sources name.
fn all(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(counters(&fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn every_counter_of_the_engine_is_reached_or_excused() {
    let all = all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/engine/src"));
    let wanted: BTreeSet<String> = COUNTERS.iter().map(|name| (*name).to_owned()).collect();
    let excused: BTreeSet<String> = EXCUSED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(wanted.intersection(&excused).count(), 0, "a counter is reached or excused, not both");
    let listed: BTreeSet<String> = wanted.union(&excused).cloned().collect();
    assert_eq!(listed, all, "the lists of simulations/src/marks.rs against the counters of the engine");
    assert!(EXCUSED.iter().all(|(_, reason)| !reason.is_empty()));
}
