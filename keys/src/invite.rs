//! Invites: the one string that lets a node into a mesh.
//!
//! An invite is typed, pasted and scanned by people, so it carries a checksum: a typo is called a
//! typo, not a refusal by the other end. It is not signed, because its secret is what proves it:
//! the inviter keeps only [`Invite::secret_hash`] and compares it when the secret comes back.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::canonical::{self, CborError};
use crate::{MeshId, NodeId, Role, base32};

/// What every invite starts with; the digit is the version.
const PREFIX: &str = "jm1";

/// Most addresses in one invite: more make the string too long for a QR code.
const ADDRESSES_MAX: usize = 8;

/// Longest address: a relayed multiaddress with two peer ids has about 120 characters.
const ADDRESS_BYTES_MAX: usize = 128;

/// Longest encoded terms: the addresses with their headers, and 128 bytes for all the rest.
const BODY_BYTES_MAX: usize = ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 2) + 128;

/// Bytes of the checksum: a wrong string passes once in four billion times, and then fails at the
/// other end.
const CHECKSUM_BYTES: usize = 4;

/// Longest invite, in characters.
const CHARS_MAX: usize = PREFIX.len() + base32::encoded_length(BODY_BYTES_MAX + CHECKSUM_BYTES);

const CHECKSUM_CONTEXT: &str = "jobmesh invite checksum v1";
const SECRET_CONTEXT: &str = "jobmesh invite secret v1";

/// The one-time secret of an invite. Whoever knows it may join until the invite is used up.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteSecret(#[serde(with = "serde_bytes")] [u8; 16]);

impl InviteSecret {
    /// Wraps 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the raw secret.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the hash that the inviter keeps and compares instead of the secret.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key(SECRET_CONTEXT, &self.0)
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InviteSecret(..)")
    }
}

/// What an invite says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct InviteTerms {
    /// The mesh to join.
    pub mesh: MeshId,
    /// The node that invites, and that the secret must be shown to.
    pub inviter: NodeId,
    /// Where to reach the inviter, best first: at most 8, each at most 128 printable ASCII
    /// characters. May be empty on a LAN, where the inviter is found by its id.
    pub addresses: Vec<String>,
    /// The one-time secret.
    pub secret: InviteSecret,
    /// First instant at which the invite is void, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// The role that the new member gets.
    pub role: Role,
}

/// An invite whose terms keep to the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    terms: InviteTerms,
}

/// Says why an invite can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The string is no invite at all.
    #[error("not an invite: an invite starts with {PREFIX}; copy the whole string")]
    Prefix,
    /// More characters than any invite has.
    #[error("invite has {found} characters, but at most {max} are allowed; copy only the invite")]
    TooLong {
        /// Characters (bytes, where not ASCII) in the string.
        found: usize,
        /// Characters allowed.
        max: usize,
    },
    /// The string has a character that no invite has.
    #[error("invite has a character at position {position} that no invite has (only a-z and 2-7); copy it again")]
    Character {
        /// Where the first such character is, counted from 1.
        position: usize,
    },
    /// The string was mistyped, cut short or changed.
    #[error("invite has a typo or is cut short (its checksum does not match); copy the whole string again")]
    Checksum,
    /// The checksum matches, but the content can't be read: made by another version.
    #[error("invite can't be read; make a new one with the same version of jobmesh")]
    Malformed(#[source] CborError),
    /// More addresses than allowed.
    #[error("invite has {found} addresses, but at most {ADDRESSES_MAX} are allowed")]
    TooManyAddresses {
        /// Addresses in the invite.
        found: usize,
    },
    /// An address is empty, too long, or not printable ASCII.
    #[error("address {position} of the invite is not 1 to {ADDRESS_BYTES_MAX} printable characters")]
    Address {
        /// Which address, counted from 1.
        position: usize,
    },
}

impl Invite {
    /// Makes an invite of `terms`.
    ///
    /// # Errors
    ///
    /// [`InviteError::TooManyAddresses`] or [`InviteError::Address`].
    pub fn new(terms: InviteTerms) -> Result<Self, InviteError> {
        if terms.addresses.len() > ADDRESSES_MAX {
            let found = terms.addresses.len();
            return Err(InviteError::TooManyAddresses { found });
        }
        // Addresses are shown on terminals before anything is known about who wrote them.
        let is_bad = |address: &String| {
            let printable = address.bytes().all(|byte| byte.is_ascii_graphic());
            address.is_empty() || address.len() > ADDRESS_BYTES_MAX || !printable
        };
        if let Some(index) = terms.addresses.iter().position(is_bad) {
            let position = index + 1;
            return Err(InviteError::Address { position });
        }
        Ok(Self { terms })
    }

    /// Returns what the invite says.
    #[must_use]
    pub fn terms(&self) -> &InviteTerms {
        &self.terms
    }

    /// Returns the hash that the inviter keeps and compares instead of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        self.terms.secret.hash()
    }

    /// Says whether the invite is void at `now_ms`.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms >= self.terms.expires_at_ms
    }

    /// Returns the string to hand to the new member.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = canonical::encode(&self.terms);
        assert!(bytes.len() <= BODY_BYTES_MAX, "terms keep to the limits");
        bytes.extend(checksum(&bytes));
        format!("{PREFIX}{}", base32::encode(&bytes))
    }

    /// Reads an invite; blanks and line breaks round it are ignored.
    ///
    /// # Errors
    ///
    /// Every variant of [`InviteError`].
    pub fn decode(text: &str) -> Result<Self, InviteError> {
        let text = text.trim_ascii();
        let body = text.strip_prefix(PREFIX).ok_or(InviteError::Prefix)?;
        if text.len() > CHARS_MAX {
            return Err(InviteError::TooLong { found: text.len(), max: CHARS_MAX });
        }
        let is_foreign = |one: char| !matches!(one, 'a'..='z' | '2'..='7');
        if let Some(index) = body.chars().position(is_foreign) {
            let position = PREFIX.len() + index + 1;
            return Err(InviteError::Character { position });
        }
        // The alphabet is right, so what fails from here on is a wrong length or stray bits at the
        // end: the string was cut.
        let bytes = base32::decode(body).ok_or(InviteError::Checksum)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InviteError::Checksum)?;
        if *sum != checksum(content) {
            return Err(InviteError::Checksum);
        }
        let terms = canonical::decode(content, BODY_BYTES_MAX).map_err(InviteError::Malformed)?;
        Self::new(terms)
    }
}

/// Returns the checksum of the encoded terms.
fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = blake3::derive_key(CHECKSUM_CONTEXT, content);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_tests::fuzz::Target;
    use proptest::prelude::*;

    use super::*;

    fn terms() -> InviteTerms {
        InviteTerms {
            mesh: MeshId::from_bytes([1; 32]),
            inviter: NodeId::from_bytes([2; 32]),
            addresses: vec![
                "/ip4/192.168.1.20/udp/4001/quic-v1".to_owned(),
                "/dns4/box.example.org/tcp/4001".to_owned(),
            ],
            secret: InviteSecret::from_bytes([3; 16]),
            expires_at_ms: 1_000,
            role: Role::Member,
        }
    }

    fn with_addresses(addresses: Vec<String>) -> Result<Invite, InviteError> {
        Invite::new(InviteTerms { addresses, ..terms() })
    }

    /// Writes a string with a right checksum round any content.
    fn sealed(content: &[u8]) -> String {
        let mut bytes = content.to_vec();
        bytes.extend(checksum(content));
        format!("{PREFIX}{}", base32::encode(&bytes))
    }

    #[test]
    fn an_invite_survives_its_text() {
        let invite = Invite::new(terms()).unwrap();
        let text = invite.encode();
        assert!(text.starts_with("jm1"));
        assert_eq!(Invite::decode(&text), Ok(invite.clone()));
        assert_eq!(Invite::decode(&format!("\n  {text}\r\n")), Ok(invite));
    }

    #[test]
    fn fuzz_invites() {
        let text = Invite::new(terms()).unwrap().encode();
        let again = |bytes: &[u8]| -> Result<Vec<u8>, String> {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            Invite::decode(text).map(|invite| invite.encode().into_bytes()).map_err(|error| error.to_string())
        };
        Target::text("invite").sample(text).run_stable(again);
        // Whoever writes an invite can give it the right checksum.
        let again = |bytes: &[u8]| -> Result<Vec<u8>, String> {
            let found = Invite::decode(&sealed(bytes)).map_err(|error| format!("{error:?}"))?;
            Ok(canonical::encode(found.terms()))
        };
        Target::cbor("invite-terms").sample(canonical::encode(&terms())).run_stable(again);
    }

    #[test]
    fn the_largest_invite_fits() {
        let address = "a".repeat(ADDRESS_BYTES_MAX);
        let mut largest = terms();
        largest.addresses = vec![address; ADDRESSES_MAX];
        largest.expires_at_ms = u64::MAX;
        let invite = Invite::new(largest).unwrap();
        assert_eq!(Invite::decode(&invite.encode()), Ok(invite));
    }

    #[test]
    fn addresses_have_limits_on_both_ways() {
        let many = vec!["a".to_owned(); ADDRESSES_MAX + 1];
        let long = vec!["a".to_owned(), "a".repeat(ADDRESS_BYTES_MAX + 1)];
        let escape = vec!["\u{1b}[31m".to_owned()];
        let found = ADDRESSES_MAX + 1;
        for (addresses, error) in [
            (many, InviteError::TooManyAddresses { found }),
            (long, InviteError::Address { position: 2 }),
            (escape, InviteError::Address { position: 1 }),
            (vec![String::new()], InviteError::Address { position: 1 }),
        ] {
            let raw = InviteTerms { addresses: addresses.clone(), ..terms() };
            let text = sealed(&canonical::encode(&raw));
            assert_eq!(with_addresses(addresses), Err(error.clone()));
            assert_eq!(Invite::decode(&text), Err(error));
        }
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        let text = Invite::new(terms()).unwrap().encode();
        assert_eq!(Invite::decode(""), Err(InviteError::Prefix));
        assert_eq!(Invite::decode("jm2aaaa"), Err(InviteError::Prefix));
        assert_eq!(Invite::decode("jm1"), Err(InviteError::Checksum));
        let cut = &text[..text.len() - 1];
        assert_eq!(Invite::decode(cut), Err(InviteError::Checksum));
        let foreign = text.replacen(&text[9..10], "0", 1);
        assert!(matches!(Invite::decode(&foreign), Err(InviteError::Character { .. })));
        assert_eq!(Invite::decode("jm1ab\u{e9}d"), Err(InviteError::Character { position: 6 }));
        let long = format!("jm1{}", "a".repeat(CHARS_MAX));
        assert!(matches!(Invite::decode(&long), Err(InviteError::TooLong { .. })));
        assert!(matches!(Invite::decode(&sealed(&[0xFF])), Err(InviteError::Malformed(_))));
    }

    #[test]
    fn the_secret_is_neither_shown_nor_stored() {
        let invite = Invite::new(terms()).unwrap();
        assert!(format!("{invite:?}").contains("InviteSecret(..)"));
        let other = InviteSecret::from_bytes([4; 16]);
        assert_ne!(invite.secret_hash(), other.hash());
        assert_eq!(invite.secret_hash(), invite.terms().secret.hash());
    }

    #[test]
    fn an_invite_is_void_from_its_expiry_on() {
        let invite = Invite::new(terms()).unwrap();
        assert!(!invite.is_expired(999));
        assert!(invite.is_expired(1_000));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text: String, bytes: Vec<u8>) {
            let _ = Invite::decode(&text);
            let _ = Invite::decode(&format!("jm1{text}"));
            let _ = Invite::decode(&sealed(&bytes));
        }

        #[test]
        fn any_changed_byte_is_noticed(index: prop::sample::Index, mask in 1_u8..128) {
            let mut bytes = Invite::new(terms()).unwrap().encode().into_bytes();
            let index = index.index(bytes.len());
            bytes[index] ^= mask;
            let text = String::from_utf8(bytes).unwrap();
            prop_assert!(Invite::decode(&text).is_err());
        }
    }
}
