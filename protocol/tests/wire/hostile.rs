//! Bytes from a peer that wishes us ill: refused, and never a panic.

use jobmesh_keys::{Identity, SealSecret, UnsealError};
use jobmesh_protocol::cbor::{self, DecodeError};
use jobmesh_protocol::envelope::{ENVELOPE_BYTES_MAX, EnvelopeError, Kind};
use jobmesh_protocol::job::{JobSpec, SECRETS_MAX, SPEC_BYTES_MAX};
use jobmesh_protocol::session::{
    ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, FRAME_BYTES_MAX, Frame, MESSAGES_MAX, Message, NUMBER_MAX,
};
use jobmesh_protocol::summary::Histogram;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::{Award, PAYLOAD_BYTES_MAX, Payload, PayloadError, SlotTerms, Terms};
use jobmesh_protocol::{
    DurationMillis, Envelope, Epoch, Hash, Incarnation, JobId, MeshId, MessageId, Requirement, Tag, TicketId, join,
    requirement, secret,
};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use crate::samples;

/// Gives `bytes` to every decoder. Returns which of them took the bytes.
fn takers(bytes: &[u8]) -> Vec<&'static str> {
    let mut takers: Vec<_> =
        samples::all().iter().filter(|sample| (sample.again)(bytes).is_ok()).map(|sample| sample.name).collect();
    let gates = [
        ("Frame", Frame::decode(bytes).is_ok()),
        ("Envelope", Envelope::open(bytes, &samples::mesh()).is_ok()),
        ("Request", join::Request::decode(bytes).is_ok()),
        ("Answer", join::Answer::decode(bytes).is_ok()),
        ("SecretsRequest", secret::Request::decode(bytes).is_ok()),
        ("SecretsAnswer", secret::Answer::decode(bytes).is_ok()),
    ];
    takers.extend(gates.iter().filter(|(_, took)| *took).map(|(name, _)| *name));
    takers
}

fn envelope() -> Vec<u8> {
    samples::bodies().remove(0).envelope
}

#[test]
fn every_truncation_is_refused() {
    for sample in samples::all() {
        for length in 0..sample.bytes.len() {
            assert!((sample.again)(&sample.bytes[..length]).is_err(), "{} cut to {length} bytes", sample.name);
        }
    }
    for body in samples::bodies() {
        for length in 0..body.envelope.len() {
            let opened = Envelope::open(&body.envelope[..length], &samples::mesh());
            assert!(matches!(opened, Err(EnvelopeError::Decode(_))), "{:?} cut to {length} bytes", body.kind);
        }
    }
}

/// The first build took an array that claims more items than it holds: the decoder stopped at the last field that
/// it knew. Nothing was lost by it, as ids and signatures cover the body only, but two nodes could disagree on
/// whether bytes are a message.
#[test]
fn an_array_that_claims_more_or_less_than_it_holds_is_refused() {
    for body in samples::bodies().iter().filter(|body| body.sample.bytes[0] >> 5 == 4) {
        for claim in (0x80..=0x97).filter(|claim| *claim != body.sample.bytes[0]) {
            let mut bytes = body.sample.bytes.clone();
            bytes[0] = claim;
            assert!((body.sample.again)(&bytes).is_err(), "a {:?} of head {claim:#x}", body.kind);
        }
        let mut longer = [body.sample.bytes.as_slice(), &[0]].concat();
        longer[0] += 1;
        assert!((body.sample.again)(&longer).is_err(), "a {:?} with one more field", body.kind);
    }
}

#[test]
fn every_changed_byte_of_an_envelope_is_noticed() {
    let sealed = envelope();
    for at in 0..sealed.len() {
        for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut changed = sealed.clone();
            changed[at] ^= mask;
            assert!(Envelope::open(&changed, &samples::mesh()).is_err(), "byte {at} xor {mask:#x} went unnoticed");
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    for sample in samples::all() {
        let longer = [sample.bytes.as_slice(), &[0]].concat();
        assert_eq!((sample.again)(&longer), Err(DecodeError::Trailing { count: 1 }), "{}", sample.name);
    }
    let longer = [envelope(), vec![0]].concat();
    let trailing = EnvelopeError::Decode(DecodeError::Trailing { count: 1 });
    assert_eq!(Envelope::open(&longer, &samples::mesh()), Err(trailing));
}

#[test]
fn deep_nesting_is_refused_without_recursing() {
    // Arrays, maps, arrays and maps of unknown length, tags, byte and text strings of unknown length.
    for head in [0x81, 0xA1, 0x9F, 0xBF, 0xC1, 0x5F, 0x7F] {
        let bomb = vec![head; 10_000];
        assert_eq!(takers(&bomb), Vec::<&str>::new(), "head {head:#x}");
        let inside = [&[0xA1, 0x64][..], b"data", &bomb].concat();
        assert_eq!(takers(&inside), Vec::<&str>::new(), "head {head:#x} in a frame");
        let inside = [&[0x85, 0x02, 0x01][..], &bomb].concat();
        assert_eq!(takers(&inside), Vec::<&str>::new(), "head {head:#x} in an envelope");
    }
}

#[test]
fn huge_length_prefixes_are_refused_without_reserving_room() {
    for head in [0x5B_u8, 0x7B, 0x9B, 0xBB] {
        let claims = [u64::MAX, i64::MAX as u64, 1 << 40];
        for claim in claims {
            let prefix = [&[head][..], &claim.to_be_bytes(), &[1]].concat();
            assert_eq!(takers(&prefix), Vec::<&str>::new(), "head {head:#x} of {claim}");
            let inside = [&[0x85, 0x02, 0x01][..], &prefix].concat();
            assert_eq!(takers(&inside), Vec::<&str>::new(), "head {head:#x} of {claim} in an envelope");
            let inside = [&[0xA1, 0x64][..], b"note", &[0xA1, 0x68], b"envelope", &prefix].concat();
            assert_eq!(takers(&inside), Vec::<&str>::new(), "head {head:#x} of {claim} in a frame");
        }
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let too_long = |limit| DecodeError::TooLong { length: limit + 1, limit };
    assert_eq!(Frame::decode(&vec![0; FRAME_BYTES_MAX + 1]), Err(too_long(FRAME_BYTES_MAX)));
    let opened = Envelope::open(&vec![0; ENVELOPE_BYTES_MAX + 1], &samples::mesh());
    assert_eq!(opened, Err(EnvelopeError::Decode(too_long(ENVELOPE_BYTES_MAX))));
    let request = join::Request::decode(&vec![0; join::REQUEST_BYTES_MAX + 1]);
    assert_eq!(request, Err(too_long(join::REQUEST_BYTES_MAX)));
    let answer = join::Answer::decode(&vec![0; join::ANSWER_BYTES_MAX + 1]);
    assert_eq!(answer, Err(too_long(join::ANSWER_BYTES_MAX)));
    let request = secret::Request::decode(&[0; secret::REQUEST_BYTES_MAX + 1]);
    assert_eq!(request, Err(too_long(secret::REQUEST_BYTES_MAX)));
    let answer = secret::Answer::decode(&vec![0; secret::ANSWER_BYTES_MAX + 1]);
    assert_eq!(answer, Err(too_long(secret::ANSWER_BYTES_MAX)));
    let many = (0..=SECRETS_MAX).map(|index| (format!("V{index}"), "x".to_owned())).collect();
    assert!(secret::Answer::decode(&secret::Answer::Given(many).encode()).is_err(), "more than a job has");
}

/// A frame that carries `lengths.len()` attachments of these lengths.
fn frame_with(envelope: Vec<u8>, lengths: &[usize]) -> Vec<u8> {
    let attachments = lengths.iter().map(|length| ByteBuf::from(vec![0xFF; *length])).collect();
    let incarnation = Incarnation::from_bytes([0xFF; 16]);
    Frame::data((incarnation, NUMBER_MAX, NUMBER_MAX), envelope, attachments).encode()
}

/// A frame with so many messages, the first of which has this number.
fn frame_of(count: usize, number: u64) -> Vec<u8> {
    let message = Message { envelope: ByteBuf::from(envelope()), attachments: Vec::new() };
    let incarnation = Incarnation::from_bytes([0xFF; 16]);
    Frame::Data { incarnation, number, first: 1, messages: vec![message; count] }.encode()
}

#[test]
fn a_frame_with_too_many_messages_or_numbers_beyond_the_last_is_refused() {
    let count = MESSAGES_MAX as u64;
    assert!(Frame::decode(&frame_of(MESSAGES_MAX, 1)).is_ok());
    assert!(Frame::decode(&frame_of(MESSAGES_MAX, NUMBER_MAX + 1 - count)).is_ok());
    assert!(Frame::decode(&frame_of(MESSAGES_MAX, NUMBER_MAX + 2 - count)).is_err());
    assert!(Frame::decode(&frame_of(MESSAGES_MAX + 1, 1)).is_err());
    assert!(Frame::decode(&frame_of(0, 1)).is_err());
}

#[test]
fn a_frame_of_no_known_kind_or_of_another_length_is_refused() {
    let incarnation = Incarnation::from_bytes([0x1C; 16]);
    assert!(Frame::decode(&cbor::encode(&(1, incarnation, 300))).is_ok());
    assert!(Frame::decode(&cbor::encode(&(1, incarnation))).is_err());
    assert!(Frame::decode(&cbor::encode(&(1, incarnation, 300, 1))).is_err());
    assert!(Frame::decode(&cbor::encode(&(4, incarnation, 300))).is_err());
}

#[test]
fn a_frame_with_too_much_attached_is_refused() {
    assert!(Frame::decode(&frame_with(envelope(), &[ATTACHMENT_BYTES_MAX; ATTACHMENTS_MAX])).is_ok());
    assert!(Frame::decode(&frame_with(envelope(), &[ATTACHMENT_BYTES_MAX + 1])).is_err());
    assert!(Frame::decode(&frame_with(envelope(), &[0; ATTACHMENTS_MAX + 1])).is_err());
}

/// The limits fit into each other: a spec that passes its check can be awarded, with the largest attachments.
#[test]
fn the_largest_spec_fits_into_an_envelope_and_that_into_a_frame() {
    let spec_of = |length| JobSpec::new("x", Task::Process(ProcessTask::new(vec!["a".repeat(length)])));
    let overhead = cbor::encode(&spec_of(SPEC_BYTES_MAX)).len() - SPEC_BYTES_MAX;
    let spec = spec_of(SPEC_BYTES_MAX - overhead);
    assert_eq!(spec.check(), Ok(()));
    let terms = Terms {
        bid: MessageId::from_bytes([0xFF; 16]),
        ticket: TicketId::from_bytes([0xFF; 16]),
        epoch: Epoch(u32::MAX),
        to: samples::signer().node(),
        lease_ms: DurationMillis(u64::MAX),
        beat: u64::MAX,
        slots: SlotTerms::Under,
    };
    let payload = Payload { salt: Some(Hash::from_bytes([0xFF; 32])), spec: cbor::encode(&spec) };
    let award = Award::seal(terms, &payload, &samples::secret().key(), &[0xFF; 32]).unwrap();
    assert_eq!(award.open(&samples::secret()), Ok(payload));
    let sealed = Envelope::seal(&samples::signer(), &samples::mesh(), Kind::Award, &award);
    assert_eq!(Envelope::open(&sealed, &samples::mesh()).unwrap().parse::<Award>(), Ok(award));
    assert!(Frame::decode(&frame_with(sealed, &[ATTACHMENT_BYTES_MAX; ATTACHMENTS_MAX])).is_ok());
}

/// Whoever overhears, forwards or outbids has the terms, but neither the secret nor another use for the payload.
#[test]
fn a_payload_opens_for_the_winner_and_for_its_own_terms_only() {
    let award = samples::award();
    assert_eq!(award.open(&samples::secret()), Ok(samples::payload()));
    let closed = Err(PayloadError::Sealed(UnsealError));
    assert_eq!(award.open(&SealSecret::from_entropy(&[0x5B; 32])), closed);
    let bent: [fn(&mut Terms); 5] = [
        |terms| terms.bid = MessageId::from_bytes([0xB1; 16]),
        |terms| terms.ticket = TicketId::from_bytes([0xC2; 16]),
        |terms| terms.epoch = terms.epoch.next(),
        |terms| terms.to = samples::signer().node(),
        |terms| terms.lease_ms = DurationMillis(30_001),
    ];
    for bend in bent {
        let mut other = award.clone();
        bend(&mut other.terms);
        assert_eq!(other.open(&samples::secret()), closed, "{:?}", other.terms);
    }
    let spec = &samples::payload().spec;
    let is_in_the_clear = cbor::encode(&award).windows(8).any(|window| spec.windows(8).any(|part| part == window));
    assert!(!is_in_the_clear, "a part of the spec can be read");
}

#[test]
fn a_payload_that_is_none_or_too_long_is_refused_after_it_was_opened() {
    let (terms, secret) = (samples::award().terms, samples::secret());
    let open = |plain: &[u8]| {
        let sealed = secret.key().seal(&[1; 32], &cbor::encode(&terms), plain).unwrap();
        Award { terms, sealed }.open(&secret)
    };
    let long = Payload { salt: Some(Hash::from_bytes([0; 32])), spec: vec![0; PAYLOAD_BYTES_MAX] };
    let too_long = DecodeError::TooLong { length: cbor::encode(&long).len(), limit: PAYLOAD_BYTES_MAX };
    assert_eq!(open(&cbor::encode(&long)), Err(PayloadError::Decode(too_long)));
    assert!(matches!(open(&[0xFF]), Err(PayloadError::Decode(DecodeError::Malformed { .. }))));
}

#[test]
fn an_envelope_is_good_in_its_own_mesh_under_its_own_kind_and_signer_only() {
    let sealed = envelope();
    let (kind, signer) = (Kind::Offer, samples::signer().node());
    let elsewhere = MeshId::from_bytes([0x3F; 32]);
    assert_eq!(Envelope::open(&sealed, &elsewhere), Err(EnvelopeError::Signature { kind, signer }));

    // 0x85 version kind …
    let other_kind = [&sealed[..2], &[Kind::Bid.number()], &sealed[3..]].concat();
    let refused = EnvelopeError::Signature { kind: Kind::Bid, signer };
    assert_eq!(Envelope::open(&other_kind, &samples::mesh()), Err(refused));
    let unknown_kind = [&sealed[..2], &[19], &sealed[3..]].concat();
    assert_eq!(Envelope::open(&unknown_kind, &samples::mesh()), Err(EnvelopeError::Kind { found: 19 }));
    for found in [1, 2, 4] {
        let other = [&sealed[..1], &[found], &sealed[2..]].concat();
        assert_eq!(Envelope::open(&other, &samples::mesh()), Err(EnvelopeError::Version { found }));
    }

    let stranger = Identity::from_seed([9; 32]).node();
    let at = sealed.windows(32).position(|window| window == signer.as_bytes()).unwrap();
    let mut stolen = sealed;
    stolen[at..at + 32].copy_from_slice(stranger.as_bytes());
    let refused = EnvelopeError::Signature { kind, signer: stranger };
    assert_eq!(Envelope::open(&stolen, &samples::mesh()), Err(refused));
}

#[test]
fn an_envelope_of_one_kind_does_not_parse_as_a_body_of_another_length() {
    let bodies = samples::bodies();
    let offer = Envelope::open(&envelope(), &samples::mesh()).unwrap();
    for body in bodies.iter().filter(|body| body.kind != Kind::Offer) {
        assert!((body.parse)(&offer).is_err(), "an offer parses as a {:?}", body.kind);
    }
}

/// Reading the percentile of a histogram with a bin far above the last one once shifted past 64 bits: any peer
/// could stop a debug build, and make a release build learn nonsense. Such a histogram no longer decodes.
#[test]
fn a_histogram_with_bins_out_of_order_or_range_is_refused() {
    let legal: [&[(u8, u32)]; 3] = [&[], &[(0, 1)], &[(0, 1), (95, u32::MAX)]];
    for bins in legal {
        let histogram: Histogram = cbor::decode(&cbor::encode(&bins), 1024).unwrap();
        assert!(histogram.is_bounded());
    }
    let illegal: [&[(u8, u32)]; 5] = [&[(96, 1)], &[(255, 1)], &[(3, 0)], &[(4, 1), (3, 1)], &[(4, 1), (4, 1)]];
    for bins in illegal {
        assert!(cbor::decode::<Histogram>(&cbor::encode(&bins), 1024).is_err(), "{bins:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        takers(&bytes);
    }

    #[test]
    fn bent_samples_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let samples = samples::all();
        let sample = which.get(&samples);
        let mut bytes = sample.bytes.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        takers(&bytes);
        if let Ok(histogram) = cbor::decode::<Histogram>(&bytes, usize::MAX) {
            prop_assert_eq!(histogram.quantile(99).is_some(), histogram.count() > 0);
        }
    }

    #[test]
    fn any_text_parses_or_is_refused(text in any::<String>()) {
        let parsed = text.parse::<Requirement>();
        if let Ok(requirement) = parsed {
            prop_assert!(requirement.check().is_ok());
        }
        if let Ok(tag) = text.parse::<Tag>() {
            prop_assert_eq!(tag.as_str(), text.as_str());
        }
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        prop_assert!(digit(&text) || requirement::parse_size(&text).is_none());
        prop_assert!(text.parse::<Hash>().is_err());
        prop_assert!(text.parse::<JobId>().is_err());
    }
}
