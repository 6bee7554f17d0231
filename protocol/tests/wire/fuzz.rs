//! Every decoder of the wire, tried with hostile bytes: see [`jobmesh_tests::fuzz`] for what is promised and how to go on
//! for longer.

use jobmesh_keys::{Domain, Identity};
use jobmesh_protocol::capability::CapabilityRecord;
use jobmesh_protocol::chain::{Auditor, Chain, EXPORT_BYTES_MAX, Export};
use jobmesh_protocol::envelope::{ENVELOPE_BYTES_MAX, Kind};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::summary::Summary;
use jobmesh_protocol::ticket::{Award, Payload};
use jobmesh_protocol::tree::Tree;
use jobmesh_protocol::{Envelope, JobSpec, cbor, join, secret};
use jobmesh_tests::fuzz::{Heap, Target};
use serde_bytes::ByteBuf;

use crate::samples;

#[global_allocator]
static HEAP: Heap = Heap;

fn bytes_of(name: &str) -> Vec<u8> {
    samples::all().into_iter().find(|sample| sample.name == name).unwrap().bytes
}

/// The body of each kind and every other type that leaves a node.
#[test]
fn fuzz_every_type_of_the_wire() {
    for sample in samples::all() {
        Target::cbor(sample.name).sample(&sample.bytes).run_stable(sample.again);
    }
}

#[test]
fn fuzz_frames() {
    let frames = ["frame-data", "frame-ack", "frame-note", "frame-meet"].map(bytes_of);
    let target = frames.iter().fold(Target::cbor("frame"), Target::sample);
    target.run_stable(|bytes| Frame::decode(bytes).map(|frame| frame.encode()));
}

#[test]
fn fuzz_questions_for_secrets_and_answers() {
    let request = |bytes: &[u8]| secret::Request::decode(bytes).map(|found| found.encode());
    Target::cbor("secrets").sample(bytes_of("secrets-request")).run_stable(request);
    let answer = |bytes: &[u8]| secret::Answer::decode(bytes).map(|found| found.encode());
    let answers = Target::cbor("secrets-answer").sample(bytes_of("secrets-given")).sample(bytes_of("secrets-withheld"));
    answers.run_stable(answer);
}

#[test]
fn fuzz_the_two_sides_of_joining() {
    let request = |bytes: &[u8]| join::Request::decode(bytes).map(|found| found.encode());
    Target::cbor("join").sample(bytes_of("join-request")).run_stable(request);
    let answer = |bytes: &[u8]| join::Answer::decode(bytes).map(|found| found.encode());
    let answers = Target::cbor("join-answer").sample(bytes_of("join-welcome")).sample(bytes_of("join-refused"));
    answers.run_stable(answer);
}

/// A list of paths to write to, which a peer may have made: whatever is taken on has one encoding only.
#[test]
fn fuzz_trees() {
    let tree = Target::cbor("tree-check").sample(bytes_of("tree")).sample(Tree::default().encode());
    tree.run_stable(|bytes| Tree::decode(bytes).map(|tree| tree.encode()));
}

/// As a stranger may send it: the signature hardly ever fits, and nothing behind it is reached.
#[test]
fn fuzz_envelopes() {
    let bodies = samples::bodies();
    let target = bodies.iter().fold(Target::cbor("envelope"), |target, body| target.sample(&body.envelope));
    target.run(|bytes| {
        let envelope = Envelope::open(bytes, &samples::mesh()).map_err(|error| chain_of(&error))?;
        let body = samples::bodies().into_iter().find(|body| body.kind == envelope.kind()).unwrap();
        (body.parse)(&envelope).map(drop).map_err(|error| error.to_string())
    });
}

/// As a member may send it, who signs whatever it likes: the first byte of the input picks the kind.
#[test]
fn fuzz_bodies_that_a_member_signed() {
    let signer = samples::signer();
    let kind_of = |kind: Kind| u8::try_from(Kind::ALL.iter().position(|it| *it == kind).unwrap()).unwrap();
    let bodies = samples::bodies();
    let target = bodies.iter().fold(Target::cbor("signed-body"), |target, body| {
        target.sample([&[kind_of(body.kind)], body.sample.bytes.as_slice()].concat())
    });
    target.run(|bytes| {
        let (first, rest) = bytes.split_first().ok_or("no kind")?;
        let kind = *Kind::ALL.get(usize::from(*first)).ok_or("no such kind")?;
        let envelope = Envelope::open(&resealed(&signer, kind, rest), &samples::mesh()).map_err(|it| chain_of(&it))?;
        assert_eq!(envelope.kind(), kind);
        let body = samples::bodies().into_iter().find(|body| body.kind == kind).unwrap();
        (body.parse)(&envelope).map(drop).map_err(|error| error.to_string())
    });
}

/// An envelope round any bytes, signed as it must be.
fn resealed(signer: &Identity, kind: Kind, body: &[u8]) -> Vec<u8> {
    let (mesh, hash) = (samples::mesh(), blake3::hash(body));
    let signed = [&[kind.number()], mesh.as_bytes().as_slice(), hash.as_bytes()].concat();
    let signature = signer.sign(Domain::Envelope, &signed);
    // The version is that of any sample: 0x85 version …
    let version = samples::bodies()[0].envelope[1];
    cbor::encode(&(version, kind.number(), ByteBuf::from(body), signer.node(), signature))
}

fn chain_of(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|it| it.to_string()).collect::<Vec<_>>().join(": ")
}

/// What is checked after it was decoded is checked without a panic, too.
#[test]
fn fuzz_the_bounds_of_what_was_decoded() {
    let spec = |bytes: &[u8]| -> Result<(), String> {
        let spec: JobSpec = cbor::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
        spec.check().map_err(|error| error.to_string())
    };
    Target::cbor("spec-check").sample(bytes_of("job-spec")).sample(bytes_of("job-spec-defaults")).run(spec);
    let judged = |is_good: bool| if is_good { Ok(()) } else { Err("out of bounds".to_owned()) };
    let record = |bytes: &[u8]| -> Result<(), String> {
        let found: CapabilityRecord = cbor::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
        judged(found.is_bounded())
    };
    Target::cbor("capability-check").sample(bytes_of("body-capability")).run(record);
    let receipt = |bytes: &[u8]| -> Result<(), String> {
        let found: Receipt = cbor::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
        judged(found.is_bounded())
    };
    Target::cbor("receipt-check").sample(bytes_of("body-receipt")).run(receipt);
    let summary = |bytes: &[u8]| -> Result<(), String> {
        let found: Summary = cbor::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
        judged(found.is_bounded())
    };
    Target::cbor("summary-check").sample(bytes_of("body-summary")).run(summary);
}

/// The payload of an award: bytes that were sealed by a member, who may have sealed anything.
#[test]
fn fuzz_what_was_sealed() {
    let secret = samples::secret();
    let Award { terms, .. } = samples::award();
    Target::cbor("sealed").sample(bytes_of("payload")).run(|bytes| {
        let aad = cbor::encode(&terms);
        let sealed = secret.key().seal(&[7; 32], &aad, bytes).map_err(|error| error.to_string())?;
        let payload: Payload = Award { terms, sealed }.open(&secret).map_err(|error| chain_of(&error))?;
        cbor::decode::<JobSpec>(&payload.spec, ENVELOPE_BYTES_MAX).map(drop).map_err(|error| error.to_string())
    });
    Target::cbor("sealed-award").sample(bytes_of("body-award")).run(|bytes| {
        let award: Award = cbor::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
        award.open(&secret).map(drop).map_err(|error| chain_of(&error))
    });
}

/// A file of receipts: signed by anyone, so that what is in it may be anything.
#[test]
fn fuzz_what_an_auditor_reads() {
    Target::cbor("export-file")
        .sample(samples::export().seal(&samples::signer()))
        .run(|bytes| Export::open(bytes).map(drop).map_err(|error| chain_of(&error)));
    Target::cbor("audit").sample(cbor::encode(&crate::chains::export())).run(|bytes| -> Result<(), String> {
        let export: Export = cbor::decode(bytes, EXPORT_BYTES_MAX).map_err(|error| error.to_string())?;
        let audits = export.chains.iter().map(|chain: &Chain| Auditor::check(export.mesh, chain));
        let faults: Vec<_> = audits.flat_map(|audit| audit.findings).map(|finding| finding.fault.words()).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join(", ").chars().take(60).collect()) }
    });
}
