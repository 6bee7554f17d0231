//! One certificate: a signed statement that a node belongs to a mesh.
//!
//! The signature covers the body as received. Checking happens in one order only: limit, signature,
//! parse; so no byte of an unsigned body reaches the parser.

use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::canonical::{self, CborError};
use crate::{Domain, Identity, MeshId, NodeId, Role, Serial, Signature, VerifyError, verify};

/// Longest certificate body: 1 KiB. Ours are about 160 bytes; the rest is room for later versions.
pub(crate) const BODY_BYTES_MAX: usize = 1024;

/// Version of the body that this build writes and knows.
const VERSION: u8 = 1;

/// What an issuer grants to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The node that becomes a member.
    pub member: NodeId,
    /// What it may do.
    pub role: Role,
    /// The member that vouches for it; reputation groups nodes by sponsor.
    pub sponsor: NodeId,
    /// First instant of validity, in Unix milliseconds.
    pub issued_at_ms: u64,
    /// Last instant of validity, in Unix milliseconds.
    pub not_after_ms: u64,
    /// A random number that makes the certificate unique.
    pub serial: Serial,
}

/// A certificate whose signature holds; whether its issuer may issue is for the chain to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) mesh: MeshId,
    pub(crate) grant: Grant,
}

/// The wire form of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct SignedCertificate {
    body: ByteBuf,
    issuer: NodeId,
    signature: Signature,
}

/// The wire form of a body. A new field makes a new version: readers refuse what they don't know,
/// because a restriction that is skipped over is a permission.
#[derive(Serialize_tuple, Deserialize_tuple)]
struct Body {
    version: u8,
    mesh: MeshId,
    member: NodeId,
    role: Role,
    sponsor: NodeId,
    issued_at_ms: u64,
    not_after_ms: u64,
    serial: Serial,
}

/// Says why one certificate can't be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The body is longer than any certificate.
    #[error("certificate body has {found} bytes, but at most {max} are allowed")]
    TooLong {
        /// Bytes received.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The signature does not hold.
    #[error("certificate was forged or damaged on the way")]
    BadSignature(#[source] VerifyError),
    /// The body is signed but is no certificate.
    #[error("certificate can't be read")]
    Malformed(#[source] CborError),
    /// The body is of a version that this build does not know.
    #[error("certificate has version {found}, but this build knows {VERSION}; update jobmesh")]
    UnknownVersion {
        /// The version in the body.
        found: u8,
    },
}

impl SignedCertificate {
    /// Signs `grant` for `mesh` with the key of `issuer`.
    pub(crate) fn sign(issuer: &Identity, mesh: MeshId, grant: &Grant) -> Self {
        let body = canonical::encode(&Body {
            version: VERSION,
            mesh,
            member: grant.member,
            role: grant.role,
            sponsor: grant.sponsor,
            issued_at_ms: grant.issued_at_ms,
            not_after_ms: grant.not_after_ms,
            serial: grant.serial,
        });
        assert!(body.len() <= BODY_BYTES_MAX, "a body is of fixed size");
        Self { signature: issuer.sign(Domain::Certificate, &body), issuer: issuer.node(), body: ByteBuf::from(body) }
    }

    /// Returns the key that claims to have signed; true once [`Self::verify`] succeeds.
    pub(crate) fn issuer(&self) -> NodeId {
        self.issuer
    }

    /// Checks the signature, then reads the body.
    pub(crate) fn verify(&self) -> Result<Certificate, CertificateError> {
        if self.body.len() > BODY_BYTES_MAX {
            return Err(CertificateError::TooLong { found: self.body.len(), max: BODY_BYTES_MAX });
        }
        verify(&self.issuer, Domain::Certificate, &self.body, &self.signature)
            .map_err(CertificateError::BadSignature)?;
        parse(&self.body)
    }
}

/// Reads a body whose signature holds.
fn parse(body: &[u8]) -> Result<Certificate, CertificateError> {
    // The version is looked at before the shape: a later version may have more fields, and
    // "update" helps its holder where "malformed" would not.
    if let Some(found) = leading_version(body).filter(|found| *found != VERSION) {
        return Err(CertificateError::UnknownVersion { found });
    }
    let body: Body = canonical::decode(body, BODY_BYTES_MAX).map_err(CertificateError::Malformed)?;
    if body.version != VERSION {
        let found = body.version;
        return Err(CertificateError::UnknownVersion { found });
    }
    Ok(Certificate {
        mesh: body.mesh,
        grant: Grant {
            member: body.member,
            role: body.role,
            sponsor: body.sponsor,
            issued_at_ms: body.issued_at_ms,
            not_after_ms: body.not_after_ms,
            serial: body.serial,
        },
    })
}

/// Returns the first element of a body of any version, if it is a small array that opens with a
/// small number (both take one byte in canonical CBOR).
fn leading_version(body: &[u8]) -> Option<u8> {
    match body {
        [0x80..=0x97, version @ 0..=23, ..] => Some(*version),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_tests::fuzz::Target;

    use super::*;

    fn grant() -> Grant {
        Grant {
            member: Identity::from_seed([2; 32]).node(),
            role: Role::Member,
            sponsor: Identity::from_seed([1; 32]).node(),
            issued_at_ms: 1_000,
            not_after_ms: u64::MAX,
            serial: Serial::from_bytes([7; 16]),
        }
    }

    fn signed(body: Vec<u8>) -> SignedCertificate {
        let issuer = Identity::from_seed([1; 32]);
        SignedCertificate {
            signature: issuer.sign(Domain::Certificate, &body),
            issuer: issuer.node(),
            body: ByteBuf::from(body),
        }
    }

    fn body() -> Vec<u8> {
        let mesh = MeshId::from_bytes([5; 32]);
        SignedCertificate::sign(&Identity::from_seed([1; 32]), mesh, &grant()).body.into_vec()
    }

    #[test]
    fn what_is_signed_is_what_is_read() {
        let mesh = MeshId::from_bytes([5; 32]);
        let certificate = signed(body()).verify();
        assert_eq!(certificate, Ok(Certificate { mesh, grant: grant() }));
    }

    #[test]
    fn a_later_version_asks_for_an_update() {
        let mut later = body();
        assert_eq!(later[..2], [0x88, VERSION]);
        later[0] = 0x89;
        later[1] = 2;
        later.push(0);
        assert_eq!(signed(later).verify(), Err(CertificateError::UnknownVersion { found: 2 }));
    }

    #[test]
    fn a_signed_body_is_still_parsed_strictly() {
        let mut trailing = body();
        trailing.push(0);
        assert_eq!(signed(trailing).verify(), Err(CertificateError::Malformed(CborError::Trailing { bytes: 1 })));
        assert!(matches!(signed(vec![0xFF; 8]).verify(), Err(CertificateError::Malformed(CborError::Shape { .. }))));
        assert_eq!(
            signed(vec![0; BODY_BYTES_MAX + 1]).verify(),
            Err(CertificateError::TooLong { found: BODY_BYTES_MAX + 1, max: BODY_BYTES_MAX })
        );
    }

    #[test]
    fn an_unsigned_body_is_not_parsed() {
        let mut certificate = signed(body());
        certificate.body = ByteBuf::from(vec![0xFF; 8]);
        assert!(matches!(certificate.verify(), Err(CertificateError::BadSignature(_))));
    }

    #[test]
    fn a_signature_from_another_domain_is_refused() {
        let issuer = Identity::from_seed([1; 32]);
        let mut certificate = signed(body());
        certificate.signature = issuer.sign(Domain::Envelope, &certificate.body);
        assert!(matches!(certificate.verify(), Err(CertificateError::BadSignature(_))));
    }

    /// An admin signs what it likes.
    #[test]
    fn fuzz_certificates() {
        let target = Target::cbor("certificate").sample(body());
        target.run(|bytes| signed(bytes.to_vec()).verify().map(drop).map_err(|error| format!("{error:?}")));
    }
}
