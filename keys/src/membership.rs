//! Proof that a node belongs to a mesh: a chain of certificates from the node up to the root.
//!
//! The root signs admins, admins sign members or further admins. The whole chain is judged each
//! time, against the mesh and the peer that the caller expects: a chain that is good for another
//! mesh or another node proves nothing here. Trust is settled before dates, so a stranger never
//! gets to hear "expired".

use crate::canonical::{self, CborError};
use crate::certificate::{BODY_BYTES_MAX, Certificate, SignedCertificate};
use crate::{CertificateError, Grant, Identity, MeshId, MeshRoot, NodeId, Role};

/// Longest chain: root signs admin, admin signs admin, admin signs member. Each further link would
/// be one more key whose loss lets strangers in.
const CHAIN_MAX: usize = 3;

/// Longest encoded membership: three bodies with key, signature and headers round them.
const ENCODED_BYTES_MAX: usize = CHAIN_MAX * (BODY_BYTES_MAX + 128);

/// How far into the future a certificate may start: 10 minutes, more than the clocks of machines
/// that sync at all are apart, so a new member is not refused by a peer whose clock is behind.
const CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;

/// A chain of 1 to 3 certificates, the member's own first. Believe it only after [`Self::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    chain: Vec<SignedCertificate>,
}

/// A membership that passed every check at the time it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedMembership {
    mesh: MeshId,
    member: NodeId,
    role: Role,
    sponsor: NodeId,
    not_after_ms: u64,
    admins: Vec<NodeId>,
}

/// Says why a membership is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// More bytes than any membership has.
    #[error("membership has {found} bytes, but at most {max} are allowed")]
    TooLong {
        /// Bytes received.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes are no membership.
    #[error("membership can't be read")]
    Malformed(#[source] CborError),
    /// No certificate, or too many.
    #[error("membership is a chain of {found} certificates, but 1 to {CHAIN_MAX} are allowed")]
    ChainLength {
        /// Certificates in the chain.
        found: usize,
    },
    /// One certificate is forged, damaged or unreadable.
    #[error("membership holds a certificate that can't be believed")]
    Certificate(#[from] CertificateError),
    /// A certificate is for another mesh.
    #[error(
        "certificate is for mesh {}, but this is mesh {}; ask an admin of this mesh for an invite",
        .found.short(), .expected.short()
    )]
    WrongMesh {
        /// The mesh of the caller.
        expected: MeshId,
        /// The mesh in the certificate.
        found: MeshId,
    },
    /// The certificate belongs to another node than the one that shows it.
    #[error("certificate belongs to node {}, but node {} shows it", .found.short(), .expected.short())]
    WrongMember {
        /// The node that shows the certificate.
        expected: NodeId,
        /// The node in the certificate.
        found: NodeId,
    },
    /// A certificate was signed by a key that the next link does not vouch for.
    #[error("certificate was signed by {}, which neither is the mesh root nor has its certificate next in the chain", .issuer.short())]
    UntrustedIssuer {
        /// The key that signed.
        issuer: NodeId,
    },
    /// A certificate was signed by a member without the admin role.
    #[error("node {} signed a certificate but is not an admin of the mesh", .issuer.short())]
    NotAdmin {
        /// The member that signed.
        issuer: NodeId,
    },
    /// A certificate of the chain has run out.
    #[error(
        "certificate of node {} expired {} ago; ask an admin of the mesh for a new invite",
        .holder.short(), span(.now_ms.saturating_sub(*.not_after_ms))
    )]
    Expired {
        /// The node in the certificate: the member itself or an admin above it.
        holder: NodeId,
        /// Last instant of validity, in Unix milliseconds.
        not_after_ms: u64,
        /// Time of the check, in Unix milliseconds.
        now_ms: u64,
    },
    /// A certificate of the chain starts later than clocks can be apart.
    #[error(
        "certificate of node {} becomes valid only in {}; check the clock of this machine",
        .holder.short(), span(.issued_at_ms.saturating_sub(*.now_ms))
    )]
    NotYetValid {
        /// The node in the certificate: the member itself or an admin above it.
        holder: NodeId,
        /// First instant of validity, in Unix milliseconds.
        issued_at_ms: u64,
        /// Time of the check, in Unix milliseconds.
        now_ms: u64,
    },
}

/// Says why an admin can't issue a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The admin's own membership does not hold at the time of issue.
    #[error("the membership of this node does not let it issue certificates")]
    Chain(#[source] MembershipError),
    /// The node is a member but not an admin.
    #[error("node {} is not an admin of the mesh; ask an admin to invite the new node", .node.short())]
    NotAdmin {
        /// The node that tried to issue.
        node: NodeId,
    },
    /// The chain has no room for another link.
    #[error(
        "node {} is {CHAIN_MAX} certificates away from the mesh root and can't add another; \
         ask an admin nearer to the root", .node.short()
    )]
    ChainFull {
        /// The node that tried to issue.
        node: NodeId,
    },
}

impl Membership {
    /// Issues a membership directly under the mesh root.
    #[must_use]
    pub fn issue_root(root: &MeshRoot, grant: &Grant) -> Self {
        let chain = vec![SignedCertificate::sign(root.identity(), root.mesh(), grant)];
        Self { chain }
    }

    /// Issues a membership under `admin`, whose own membership is `admin_chain`.
    ///
    /// The time of issue is that of the grant. The new certificate may outlive the admin's: the
    /// membership then ends with the earlier of the two.
    ///
    /// # Errors
    ///
    /// [`IssueError::Chain`] if `admin_chain` does not hold for `admin`, [`IssueError::NotAdmin`]
    /// if it grants no admin role, [`IssueError::ChainFull`] if it is as long as chains may be.
    pub fn issue(admin: &Identity, admin_chain: &Self, grant: &Grant) -> Result<Self, IssueError> {
        let node = admin.node();
        let verified =
            admin_chain.verify(&admin_chain.claimed_mesh(), &node, grant.issued_at_ms).map_err(IssueError::Chain)?;
        if verified.role() != Role::Admin {
            return Err(IssueError::NotAdmin { node });
        }
        if admin_chain.chain.len() >= CHAIN_MAX {
            return Err(IssueError::ChainFull { node });
        }
        let mut chain = vec![SignedCertificate::sign(admin, verified.mesh(), grant)];
        chain.extend(admin_chain.chain.iter().cloned());
        Ok(Self { chain })
    }

    /// Returns the wire form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bytes = canonical::encode(&self.chain);
        assert!(bytes.len() <= ENCODED_BYTES_MAX, "chain and bodies are bounded");
        bytes
    }

    /// Reads the wire form. Nothing in the result has been checked beyond its shape.
    ///
    /// # Errors
    ///
    /// [`MembershipError::TooLong`], [`MembershipError::Malformed`] or
    /// [`MembershipError::ChainLength`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        if bytes.len() > ENCODED_BYTES_MAX {
            return Err(MembershipError::TooLong { found: bytes.len(), max: ENCODED_BYTES_MAX });
        }
        let chain: Vec<SignedCertificate> =
            canonical::decode(bytes, ENCODED_BYTES_MAX).map_err(MembershipError::Malformed)?;
        if chain.is_empty() || chain.len() > CHAIN_MAX {
            let found = chain.len();
            return Err(MembershipError::ChainLength { found });
        }
        Ok(Self { chain })
    }

    /// Checks that this proves `member` to belong to `mesh` at `now_ms`.
    ///
    /// # Errors
    ///
    /// Every variant of [`MembershipError`] but `TooLong`, `Malformed` and `ChainLength`.
    pub fn verify(&self, mesh: &MeshId, member: &NodeId, now_ms: u64) -> Result<VerifiedMembership, MembershipError> {
        let certificates = self.trusted(mesh, member)?;
        let Some(leaf) = certificates.first() else {
            return Err(MembershipError::ChainLength { found: 0 });
        };
        for certificate in &certificates {
            check_dates(&certificate.grant, now_ms)?;
        }
        let ends = certificates.iter().map(|one| one.grant.not_after_ms);
        let admins = certificates.iter().skip(1).map(|one| one.grant.member);
        Ok(VerifiedMembership {
            mesh: *mesh,
            member: leaf.grant.member,
            role: leaf.grant.role,
            sponsor: leaf.grant.sponsor,
            not_after_ms: ends.min().unwrap_or(leaf.grant.not_after_ms),
            admins: admins.collect(),
        })
    }

    /// Checks everything but the dates: signatures, mesh, owner, and that each issuer is the admin
    /// of the next link or, at the end, the root. Returns the certificates, the member's own first.
    fn trusted(&self, mesh: &MeshId, member: &NodeId) -> Result<Vec<Certificate>, MembershipError> {
        let mut certificates: Vec<Certificate> = Vec::with_capacity(CHAIN_MAX);
        // Whom the next certificate must belong to; the first must belong to the member itself.
        let mut holder = *member;
        for signed in &self.chain {
            let certificate = signed.verify()?;
            check_link(&certificate, mesh, holder, certificates.is_empty())?;
            holder = signed.issuer();
            certificates.push(certificate);
        }
        if holder.as_bytes() != mesh.as_bytes() {
            return Err(MembershipError::UntrustedIssuer { issuer: holder });
        }
        Ok(certificates)
    }

    /// Returns the key that signed the last certificate, as the mesh it would be the root of.
    fn claimed_mesh(&self) -> MeshId {
        let root = self.chain.last().map(SignedCertificate::issuer);
        // A chain is never empty; if it were, no certificate could match the zero mesh.
        MeshId::from_bytes(root.map_or([0; 32], |root| *root.as_bytes()))
    }
}

impl VerifiedMembership {
    /// Returns the mesh that the member belongs to.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Returns the member.
    #[must_use]
    pub fn member(&self) -> NodeId {
        self.member
    }

    /// Returns what the member may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the member that vouches for this one.
    #[must_use]
    pub fn sponsor(&self) -> NodeId {
        self.sponsor
    }

    /// Returns when the first certificate of the chain runs out, in Unix milliseconds.
    #[must_use]
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }

    /// Returns the admins between the member and the root, nearest to the member first.
    ///
    /// A revoked one among them makes the membership void.
    #[must_use]
    pub fn admins(&self) -> &[NodeId] {
        &self.admins
    }
}

/// Checks one certificate's place in the chain: right mesh, right holder, and an admin unless it
/// is the member's own.
fn check_link(certificate: &Certificate, mesh: &MeshId, holder: NodeId, is_own: bool) -> Result<(), MembershipError> {
    let Certificate { mesh: found, grant } = certificate;
    if found != mesh {
        return Err(MembershipError::WrongMesh { expected: *mesh, found: *found });
    }
    if grant.member != holder && is_own {
        return Err(MembershipError::WrongMember { expected: holder, found: grant.member });
    }
    if grant.member != holder {
        return Err(MembershipError::UntrustedIssuer { issuer: holder });
    }
    if grant.role != Role::Admin && !is_own {
        return Err(MembershipError::NotAdmin { issuer: holder });
    }
    Ok(())
}

/// Checks that `grant` is in date at `now_ms`.
fn check_dates(grant: &Grant, now_ms: u64) -> Result<(), MembershipError> {
    let holder = grant.member;
    if now_ms > grant.not_after_ms {
        return Err(MembershipError::Expired { holder, not_after_ms: grant.not_after_ms, now_ms });
    }
    if grant.issued_at_ms > now_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(MembershipError::NotYetValid { holder, issued_at_ms: grant.issued_at_ms, now_ms });
    }
    Ok(())
}

/// Returns a length of time in its largest whole unit, such as "2 h".
fn span(length_ms: u64) -> String {
    let seconds = length_ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
