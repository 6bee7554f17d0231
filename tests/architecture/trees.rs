//! What the core is built from, transitively: nothing that waits, spawns, or asks the system for time or entropy.

use std::collections::{BTreeMap, BTreeSet};

use crate::cargo;

/// A core crate and what it may add to the tree of the one before it.
const ADDS: &[(&str, &[&str])] = &[
    ("jobmesh-keys", KEYS),
    // chrono formats dates: built without its `clock`. uuid lays out bits: built without its generators.
    ("jobmesh-protocol", &["chrono", "num-traits", "uuid"]),
    // SQLite and what rusqlite's statement cache is made of. Its hash map is never iterated.
    (
        "jobmesh-store",
        &[
            "fallible-iterator",
            "fallible-streaming-iterator",
            "foldhash",
            "hashbrown",
            "hashlink",
            "libsqlite3-sys",
            "rusqlite",
            "smallvec",
        ],
    ),
    ("jobmesh-engine", ENGINE),
];

/// tracing tells what was decided. croner reads cron
/// expressions and chrono-tz is the zone database, compiled in; the rest is what their macros and its perfect hash
/// are made of.
const ENGINE: &[&str] = &[
    "chrono-tz",
    "croner",
    "darling",
    "darling_core",
    "darling_macro",
    "derive_builder",
    "derive_builder_core",
    "derive_builder_macro",
    "fnv",
    "heck",
    "ident_case",
    "once_cell",
    "phf",
    "phf_shared",
    "pin-project-lite",
    "siphasher",
    "strsim",
    "strum",
    "strum_macros",
    "tracing",
    "tracing-attributes",
    "tracing-core",
];

/// Signatures, hashes, formats, errors, and the system calls of files and locks. linux-raw-sys, errno and libc are
/// rustix's, by platform. hpke seals payloads to the winner of a ticket; aead to x25519-dalek below are what it is made
/// of beside the curve and the hash that signatures have too, and rand_core is the trait by which it is handed entropy.
const KEYS: &[&str] = &[
    "aead",
    "arrayvec",
    "bitflags",
    "blake3",
    "block-buffer",
    "cfg-if",
    "chacha20",
    "chacha20poly1305",
    "ciborium",
    "ciborium-io",
    "ciborium-ll",
    "cipher",
    "cmov",
    "constant_time_eq",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "data-encoding",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "errno",
    "half",
    "hkdf",
    "hmac",
    "hpke",
    "hybrid-array",
    "inout",
    "libc",
    "linux-raw-sys",
    "poly1305",
    "proc-macro2",
    "quote",
    "rand_core",
    "rustix",
    "serde",
    "serde_bytes",
    "serde_core",
    "serde_derive",
    "serde_tuple",
    "serde_tuple_macros",
    "sha2",
    "signature",
    "subtle",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
    "universal-hash",
    "x25519-dalek",
    "zerocopy",
    "zerocopy-derive",
    "zeroize",
    "zeroize_derive",
];

/// Never in the core, whoever edits the lists above: runtimes, entropy of the system, clocks, network.
const BANNED: &[&str] = &[
    "async-std",
    "crossbeam-channel",
    "futures",
    "getrandom",
    "hyper",
    "iana-time-zone",
    "libp2p",
    "mio",
    "parking_lot",
    "rand",
    "rayon",
    "reqwest",
    "smol",
    "socket2",
    "time",
    "tokio",
    "web-time",
];

/// Features that would put a clock or entropy behind an innocent name.
const BANNED_FEATURES: &[(&str, &[&str])] = &[
    ("chrono", &["clock", "now"]),
    ("uuid", &["rng", "rng-getrandom", "rng-rand", "fast-rng", "v1", "v4", "v6", "v7"]),
    ("rustix", &["rand", "time", "thread", "net"]),
    ("rand_core", &["os_rng", "getrandom"]),
    ("ed25519-dalek", &["rand_core"]),
];

/// Every package that a crate is built from on this platform, with its features; the crate itself included.
fn tree(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = cargo(&["tree", "-p", name, "-e", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"]);
    let mut tree: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (package, features) = line.split_once('|').unwrap();
        let name = package.split(' ').next().unwrap();
        tree.entry(name.to_owned()).or_default().extend(features.split(',').map(str::to_owned));
    }
    tree
}

#[test]
fn the_core_is_built_from_what_is_listed() {
    let mut allowed: BTreeSet<&str> = BTreeSet::new();
    for (name, adds) in ADDS {
        allowed.insert(name);
        allowed.extend(*adds);
        let tree = tree(name);
        assert!(tree.contains_key(*name) && tree.len() > 10, "cargo's tree of {name} was not understood: {tree:?}");
        for package in tree.keys() {
            assert!(allowed.contains(package.as_str()), "{name} is now built from {package}, which is not on its list");
        }
    }
}

#[test]
fn the_lists_name_nothing_that_is_banned() {
    for package in ADDS.iter().flat_map(|(_, adds)| *adds) {
        assert!(!BANNED.contains(package), "{package} brings a clock, entropy, threads or sockets into the core");
    }
}

#[test]
fn no_dependency_of_the_core_has_a_clock_or_entropy_switched_on() {
    let tree = tree("jobmesh-engine");
    for (package, banned) in BANNED_FEATURES {
        let features = tree.get(*package).unwrap();
        for feature in *banned {
            assert!(!features.contains(*feature), "the core builds {package} with its feature {feature}");
        }
    }
}
