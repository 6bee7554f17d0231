//! The first words on a session stream: who is speaking, by which right, and what the other side thinks of it.
//!
//! The transport has proved the node id already; the hello proves that the node belongs to the mesh. Each side says
//! hello on its own stream and hears a verdict on it.

use jobmesh_keys::{Membership, MembershipError, MeshId, NodeId, Role};
use jobmesh_protocol::UnixMillis;
use jobmesh_protocol::cbor::{self, DecodeError};
use serde::{Deserialize, Serialize};

use crate::admission::Credentials;
use crate::config::NAME_BYTES_MAX;
use crate::peerbook::ADDRESSES_MAX;

/// Largest hello: a membership of three certificates, a name and eight addresses.
pub(crate) const HELLO_BYTES_MAX: usize = 4 * 1024;

/// Largest verdict: a reason of [`REASON_CHARS_MAX`] four-byte characters and its wrapping.
pub(crate) const VERDICT_BYTES_MAX: usize = 2 * 1024;

/// Longest reason that is shown: it is a stranger's text.
const REASON_CHARS_MAX: usize = 256;

/// Version of the session that this build speaks.
const VERSION: u16 = 1;

/// What a node says on opening a session. Unknown fields are skipped, so that a later version can be told from
/// garbage and be answered with "update".
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: u16,
    /// Random per speaker and connected spell: a new one says that the speaker starts from nothing.
    life: u64,
    name: String,
    #[serde(with = "serde_bytes")]
    membership: Vec<u8>,
    addresses: Vec<String>,
}

/// What the listener answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireVerdict {
    Welcome,
    Refused(String),
}

/// What the other side thinks of our hello.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It accepts frames.
    Welcome,
    /// It does not, and says why.
    Refused(String),
}

/// A hello whose membership holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedHello {
    pub(crate) life: u64,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) not_after: UnixMillis,
    /// The admins that its certificates rest on.
    pub(crate) admins: Vec<NodeId>,
    /// Unchecked text; the peer book filters.
    pub(crate) addresses: Vec<String>,
}

/// Says why a hello is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// Not a hello at all; not worth an answer.
    #[error("hello can't be read")]
    Garbage(#[source] DecodeError),
    /// A hello that is answered with a refusal.
    #[error("{0}")]
    Refused(String),
}

/// Encodes our hello, with as many of `addresses` as fit.
pub(crate) fn encode(credentials: &Credentials, life: u64, addresses: &[String]) -> Vec<u8> {
    let mut hello = Hello {
        version: VERSION,
        life,
        name: credentials.name.clone(),
        membership: credentials.membership.encode(),
        addresses: addresses.iter().take(ADDRESSES_MAX).cloned().collect(),
    };
    let mut bytes = cbor::encode(&hello);
    while bytes.len() > HELLO_BYTES_MAX && hello.addresses.pop().is_some() {
        bytes = cbor::encode(&hello);
    }
    bytes
}

/// Reads the hello of `node` and checks that it may enter at `now`.
pub(crate) fn verify(
    bytes: &[u8],
    credentials: &Credentials,
    node: NodeId,
    now: UnixMillis,
) -> Result<VerifiedHello, HelloError> {
    let hello: Hello = cbor::decode(bytes, HELLO_BYTES_MAX).map_err(HelloError::Garbage)?;
    let refused = |reason: String| Err(HelloError::Refused(reason));
    if hello.version != VERSION {
        return refused(format!(
            "node speaks session version {}, but this one speaks {VERSION}; update jobmesh on the older one",
            hello.version
        ));
    }
    if !is_name(&hello.name) {
        return refused(format!("name of the node is not 1 to {NAME_BYTES_MAX} bytes of plain text; change it"));
    }
    if hello.membership.is_empty() {
        return refused("node shows no certificate; ask an admin of this mesh for an invite".to_owned());
    }
    let verified = Membership::decode(&hello.membership)
        .and_then(|membership| membership.verify(&credentials.mesh, &node, now.0))
        .map_err(|error| HelloError::Refused(reason(&error, &credentials.mesh)))?;
    let verified = VerifiedHello {
        life: hello.life,
        name: hello.name,
        role: verified.role(),
        not_after: UnixMillis(verified.not_after_ms()),
        admins: verified.admins().to_vec(),
        addresses: hello.addresses,
    };
    if credentials.revokes(node, &verified.admins) {
        return refused("certificate was revoked; ask an admin of this mesh for an invite".to_owned());
    }
    Ok(verified)
}

/// Says whether `name` is fit to be shown to people.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Words `error` for the peer: whoever has no place in the mesh does not learn its id from us.
fn reason(error: &MembershipError, mesh: &MeshId) -> String {
    if matches!(error, MembershipError::WrongMesh { expected, .. } if expected == mesh) {
        return "certificate is for another mesh; ask an admin of this mesh for an invite".to_owned();
    }
    error.to_string()
}

/// Encodes our verdict.
pub(crate) fn encode_verdict(verdict: &Verdict) -> Vec<u8> {
    cbor::encode(&match verdict {
        Verdict::Welcome => WireVerdict::Welcome,
        Verdict::Refused(reason) => WireVerdict::Refused(plain(reason)),
    })
}

/// Reads a verdict; the reason comes out as harmless text.
pub(crate) fn decode_verdict(bytes: &[u8]) -> Result<Verdict, DecodeError> {
    Ok(match cbor::decode(bytes, VERDICT_BYTES_MAX)? {
        WireVerdict::Welcome => Verdict::Welcome,
        WireVerdict::Refused(reason) => Verdict::Refused(plain(&reason)),
    })
}

/// Cuts a text to what may be printed.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
