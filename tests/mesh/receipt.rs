//! A receipt holds for exactly the bytes that were signed and the bytes that came back.

use crate::{bench, pair};

#[test]
fn a_receipt_verifies_until_any_byte_changes() {
    let bench = bench();
    let (a, _b) = pair(&bench);
    let run = a.run(&["run", "--require", "tool:gzip", "--", "echo", "result"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(a.run(&["receipt", "verify", "last"]).code, 0);

    let path = a.home().join("receipt.cbor").to_string_lossy().into_owned();
    assert_eq!(a.run(&["receipt", "show", "last", "--raw", &path]).code, 0);
    let output = a.file("output", &run.stdout);
    let good = a.run(&["receipt", "verify", &path, "--stdout", &output]);
    assert_eq!(good.code, 0, "{}{}", good.text(), good.stderr);

    let bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = a.file("changed.cbor", &changed);
        let bad = a.run(&["receipt", "verify", &changed, "--stdout", &output]);
        assert_ne!(bad.code, 0, "byte {at} of the receipt was changed and nobody noticed");
    }
    let other = a.file("other", b"resulT\n");
    let bad = a.run(&["receipt", "verify", &path, "--stdout", &other]);
    assert_ne!(bad.code, 0, "{}", bad.text());
}

#[test]
fn a_file_that_came_back_is_compared_with_what_was_signed() {
    let bench = bench();
    let (a, _b) = pair(&bench);
    let script = "echo one > one; echo two > two; echo '{\"three\": 3}' > \"$JOBMESH_RESULT\"";
    let run = a.run(&["run", "--require", "tool:gzip", "--output", "*", "--", "sh", "-c", script]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let good = a.run(&["receipt", "verify", "last"]);
    assert_eq!(good.code, 0, "{}{}", good.text(), good.stderr);
    assert!(
        good.text().contains("result is 13 bytes") && good.text().contains("2 files with 8 bytes"),
        "{}",
        good.text()
    );
    let left = a.json(&["artifacts", "last"]);
    let hash = left["artifacts"][1]["hash"].as_str().unwrap();
    let blob = a.home().join("blobs").join(hash);
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "too\n").unwrap();
    let bad = a.run(&["receipt", "verify", "last"]);
    assert_ne!(bad.code, 0, "{}", bad.text());
    assert!(bad.stderr.contains(hash), "{}", bad.stderr);
}
