//! Sealing bytes to a one-time key, so that nobody but the holder of its secret can read them.
//!
//! This is HPKE (RFC 9180) in its base mode, with X25519, HKDF-SHA256 and ChaCha20-Poly1305: the sender is not
//! authenticated here, since what carries the sealed bytes is signed. The hard case is a key that is no key: some points
//! of the curve give the same shared secret to everybody, and what is sealed to one could be read by anyone.

use std::convert::Infallible;
use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, single_shot_open, single_shot_seal_with_rng,
};

fixed_bytes! {
    /// The public half of a one-time key: what is sealed to it, its [`SealSecret`] opens.
    SealKey, 32, "sealing key"
}

/// How many bytes sealing adds: the encapsulated key and the tag.
pub const SEAL_BYTES: usize = ENCAPSULATED_BYTES + 16;

/// Length of the encapsulated key, which comes first.
const ENCAPSULATED_BYTES: usize = 32;

/// Keeps what is sealed here apart from any other use of the construction.
const INFO: &[u8] = b"jobmesh/1 sealed\0";

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Says why nothing can be sealed to a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is no key that anything can be sealed to", .key.short())]
pub struct SealError {
    /// The key that was given.
    pub key: SealKey,
}

/// Says that sealed bytes don't open: they were sealed to another key or for another context, or were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes don't open with this key and context")]
pub struct UnsealError;

impl SealKey {
    /// Checks that what is sealed to this key is not readable for everybody.
    ///
    /// # Errors
    ///
    /// [`SealError`] if it is one of the points of small order, whose shared secrets are no secrets.
    pub fn check(&self) -> Result<(), SealError> {
        self.seal(&[0; 32], &[], &[]).map(|_| ())
    }

    /// Seals `plain` to this key, bound to `context`, which is not secret and must be the same when it is opened.
    ///
    /// `entropy` must never be used for anything else: whoever knows it can open what was sealed.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn seal(&self, entropy: &[u8; 32], context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let refuse = |_| SealError { key: *self };
        let key = PublicKey::from_bytes(&self.0).map_err(refuse)?;
        let (encapsulated, sealed) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key,
            INFO,
            plain,
            context,
            &mut Entropy::new(entropy),
        )
        .map_err(refuse)?;
        Ok([encapsulated.to_bytes().as_slice(), &sealed].concat())
    }
}

/// The secret half of a one-time key.
///
/// It is wiped from memory on drop, lives nowhere else, and there is deliberately no `Clone`.
pub struct SealSecret(PrivateKey);

impl SealSecret {
    /// Makes the secret that `entropy` stands for, which must never be used for anything else.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 32]) -> Self {
        Self(X25519HkdfSha256::derive_keypair(entropy).0)
    }

    /// Returns the key to seal to.
    #[must_use]
    pub fn key(&self) -> SealKey {
        SealKey(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into())
    }

    /// Opens what was sealed to [`Self::key`] for `context`.
    ///
    /// # Errors
    ///
    /// [`UnsealError`] if it was sealed to another key or for another context, or was changed since.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (encapsulated, sealed) = sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(UnsealError)?;
        let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| UnsealError)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            INFO,
            sealed,
            context,
        )
        .map_err(|_| UnsealError)
    }
}

impl fmt::Debug for SealSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SealSecret").field(&self.key()).finish()
    }
}

/// Entropy that was handed in, drawn out to as many bytes as the construction asks for.
struct Entropy(blake3::OutputReader);

impl Entropy {
    fn new(entropy: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(entropy).finalize_xof())
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl TryRng for Entropy {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.draw()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.draw()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Entropy {}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every encoding of a point of small order, with the highest bit off; implementations ignore that bit.
    const SMALL_ORDER: [[u8; 32]; 7] = [
        [0; 32],
        one(),
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
            0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
        near_prime(0xec),
        near_prime(0xed),
        near_prime(0xee),
    ];

    const fn one() -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    }

    const fn near_prime(first: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        bytes[0] = first;
        bytes[31] = 0x7f;
        bytes
    }

    #[test]
    fn what_is_sealed_opens_with_its_secret_and_context_only() {
        let secret = SealSecret::from_entropy(&[1; 32]);
        let sealed = secret.key().seal(&[2; 32], b"terms", b"plain").unwrap();
        assert_eq!(sealed.len(), b"plain".len() + SEAL_BYTES);
        assert_eq!(secret.open(b"terms", &sealed).unwrap(), b"plain");
        assert_eq!(secret.open(b"other", &sealed), Err(UnsealError));
        assert_eq!(SealSecret::from_entropy(&[3; 32]).open(b"terms", &sealed), Err(UnsealError));
    }

    #[test]
    fn points_of_small_order_are_no_keys() {
        for bytes in SMALL_ORDER {
            for highest in [0, 0x80] {
                let mut bytes = bytes;
                bytes[31] |= highest;
                let key = SealKey::from_bytes(bytes);
                assert_eq!(key.check(), Err(SealError { key }), "{bytes:02x?}");
                assert_eq!(key.seal(&[2; 32], b"", b"plain"), Err(SealError { key }));
                let sealed = [&bytes[..], &[0; 16]].concat();
                assert_eq!(SealSecret::from_entropy(&[1; 32]).open(b"", &sealed), Err(UnsealError));
            }
        }
        assert_eq!(SealSecret::from_entropy(&[1; 32]).key().check(), Ok(()));
    }

    #[test]
    fn the_secret_does_not_show() {
        let shown = format!("{:?}", SealSecret::from_entropy(&[1; 32]));
        assert_eq!(shown, format!("SealSecret(SealKey({}))", SealSecret::from_entropy(&[1; 32]).key().short()));
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(plain: Vec<u8>, context: Vec<u8>, at: prop::sample::Index, bit in 0_u32..8) {
            let secret = SealSecret::from_entropy(&[1; 32]);
            let mut sealed = secret.key().seal(&[2; 32], &context, &plain).unwrap();
            prop_assert_eq!(secret.open(&context, &sealed).unwrap(), plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            // X25519 ignores the highest bit of a point, but what is derived from it here does not.
            prop_assert_eq!(secret.open(&context, &sealed), Err(UnsealError));
        }

        #[test]
        fn opening_anything_never_panics(sealed: Vec<u8>, context: Vec<u8>) {
            prop_assert!(SealSecret::from_entropy(&[1; 32]).open(&context, &sealed).is_err());
        }
    }
}
