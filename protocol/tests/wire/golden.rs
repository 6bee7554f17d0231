//! The wire forms, byte for byte.
//!
//! A difference means that nodes of two versions no longer understand each other. If that is meant, run the
//! tests once with `JOBMESH_GOLDEN_WRITE=1`, look at the difference, commit it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jobmesh_protocol::Envelope;
use jobmesh_protocol::envelope::message_id;

use crate::samples::{self, Sample};

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares `actual` with the golden file of that name; a missing file is a failure.
fn check(name: &str, actual: &[u8]) {
    let path = golden_directory().join(format!("{name}.cbor"));
    #[expect(
        clippy::disallowed_methods,
        reason = "the variable asks this test to write the files, it does not steer the crate"
    )]
    let write = std::env::var_os("JOBMESH_GOLDEN_WRITE").is_some();
    if write {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read(&path)
        .map_err(|error| format!("golden file {name}.cbor is missing ({error}); see the head of golden.rs"))
        .unwrap();
    let (actual, expected) = (data_encoding::HEXLOWER.encode(actual), data_encoding::HEXLOWER.encode(&expected));
    assert_eq!(actual, expected, "{name} differs from its golden file");
}

fn check_sample(sample: &Sample) {
    check(sample.name, &sample.bytes);
    assert_eq!((sample.again)(&sample.bytes).as_ref(), Ok(&sample.bytes), "{} does not read back", sample.name);
}

#[test]
fn every_wire_type_keeps_its_bytes() {
    for sample in samples::all() {
        check_sample(&sample);
    }
}

#[test]
fn envelopes_keep_their_bytes_and_give_back_their_body() {
    for body in samples::bodies() {
        check(&body.sample.name.replacen("body", "envelope", 1), &body.envelope);
        let opened = Envelope::open(&body.envelope, &samples::mesh()).unwrap();
        assert_eq!(opened.kind(), body.kind);
        assert_eq!(opened.signer(), samples::signer().node());
        assert_eq!(opened.id(), message_id(body.kind, &body.sample.bytes));
        assert_eq!((body.parse)(&opened), Ok(body.sample.bytes));
    }
}

#[test]
fn every_golden_file_has_a_sample() {
    let envelopes = samples::bodies().into_iter().map(|body| body.sample.name.replacen("body", "envelope", 1));
    let names: BTreeSet<String> = samples::all().iter().map(|sample| sample.name.to_owned()).chain(envelopes).collect();
    for entry in fs::read_dir(golden_directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(names.contains(&name), "{} belongs to no sample; delete it", path.display());
    }
}
