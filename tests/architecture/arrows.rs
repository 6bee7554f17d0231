//! Which crate of the workspace may depend on which, and that versions and lints come from the workspace.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::toml_file;

/// A crate's folder and the crates it depends on. A new arrow is a change of the design: it edits
/// `ARCHITECTURE.md` first. mesh and executors are blind to the engine; simulations never sees the binary.
const ARROWS: &[(&str, &[&str])] = &[
    ("keys", &[]),
    ("protocol", &["jobmesh-keys"]),
    ("store", &["jobmesh-keys", "jobmesh-protocol"]),
    ("node/engine", &["jobmesh-keys", "jobmesh-protocol", "jobmesh-store"]),
    ("node/mesh", &["jobmesh-keys", "jobmesh-protocol"]),
    ("node/executors", &["jobmesh-protocol"]),
    (
        "node",
        &["jobmesh-engine", "jobmesh-executors", "jobmesh-keys", "jobmesh-mesh", "jobmesh-protocol", "jobmesh-store"],
    ),
    ("simulations", &["jobmesh-engine", "jobmesh-keys", "jobmesh-protocol", "jobmesh-store"]),
    ("tests", &[]),
];

/// Arrows of tests alone: the binary's crate registers the black-box tests, which share a harness; and whoever has
/// decoders tries them with its generator of hostile bytes; the network and the model of it answer to one judge.
const TEST_ARROWS: &[(&str, &str)] = &[
    ("keys", "jobmesh-tests"),
    ("protocol", "jobmesh-tests"),
    ("node/mesh", "jobmesh-tests"),
    ("node/executors", "jobmesh-tests"),
    ("simulations", "jobmesh-tests"),
    ("node", "jobmesh-tests"),
];

fn manifest(folder: &str) -> Table {
    toml_file(format!("{folder}/Cargo.toml"))
}

fn own_name(manifest: &Table) -> &str {
    manifest["package"]["name"].as_str().unwrap()
}

/// The tables of dependencies of a kind, those for one platform included.
fn tables<'m>(manifest: &'m Table, kind: &str) -> Vec<&'m Table> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let of_targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    std::iter::once(manifest).chain(of_targets).filter_map(|table| table.get(kind)?.as_table()).collect()
}

fn ours(manifest: &Table, kind: &str) -> BTreeSet<String> {
    let names = tables(manifest, kind).into_iter().flat_map(Table::keys);
    names.filter(|name| name.starts_with("jobmesh")).cloned().collect()
}

#[test]
fn every_crate_points_where_the_architecture_says() {
    for (folder, arrows) in ARROWS {
        let manifest = manifest(folder);
        let expected: BTreeSet<String> = arrows.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(ours(&manifest, "dependencies"), expected, "{folder}");
        assert_eq!(ours(&manifest, "build-dependencies"), BTreeSet::new(), "{folder}");
        for name in ours(&manifest, "dev-dependencies") {
            let is_legal = name == own_name(&manifest)
                || expected.contains(&name)
                || TEST_ARROWS.contains(&(folder, name.as_str()));
            assert!(is_legal, "the tests of {folder} depend on {name}");
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_its_arrows() {
    let workspace = toml_file("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let known: BTreeSet<&str> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members.collect::<BTreeSet<_>>(), known);
}

#[test]
fn versions_and_lints_are_those_of_the_workspace() {
    for (folder, _) in ARROWS {
        let manifest = manifest(folder);
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "the lints of {folder}");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            // A crate that tests itself with a feature on names itself by path and has no version to inherit.
            let others =
                tables(&manifest, kind).into_iter().flatten().filter(|(name, _)| **name != own_name(&manifest));
            for (name, dependency) in others {
                let inherited = dependency.get("workspace").and_then(Value::as_bool);
                assert_eq!(inherited, Some(true), "{folder} has a version of {name} of its own");
            }
        }
    }
}

#[test]
fn one_crate_talks_to_the_network_of_peers() {
    for (folder, _) in ARROWS.iter().filter(|(folder, _)| *folder != "node/mesh") {
        let manifest = manifest(folder);
        for kind in ["dependencies", "dev-dependencies"] {
            let names_libp2p = tables(&manifest, kind).into_iter().any(|table| table.contains_key("libp2p"));
            assert!(!names_libp2p, "{folder} depends on libp2p; only node/mesh may");
        }
    }
}
