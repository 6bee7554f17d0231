//! What an award brings: the job that was sealed for this node, read once it is sure that it is what was offered.
//!
//! Whoever sealed it is a member and may have sealed anything. Under a slot lease there was no offer to hold it against;
//! then it must keep to the limits and, which its taker checks, to the class.

use jobmesh_keys::SealSecret;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::{SPEC_BYTES_MAX, Scope};
use jobmesh_protocol::ticket::{Award, PayloadError, commitment};
use jobmesh_protocol::{DurationMillis, JobSpec, cbor};

/// Longest lease that is taken: a day.
const LEASE_MAX: DurationMillis = DurationMillis::from_secs(86_400);
/// What is said of a job that no honest node awards.
pub(crate) const OUT_OF_BOUNDS: &str = "the awarded job is out of bounds";

/// The spec of an award and its hash, if it can be opened, is the one that the offer committed to, if there was one, and
/// keeps to the limits.
pub(crate) fn read_payload(
    secret: &SealSecret,
    award: &Award,
    offered: Option<Hash>,
) -> Result<(JobSpec, Hash), &'static str> {
    let payload = award.open(secret).map_err(|error| match error {
        PayloadError::Sealed(_) => "the awarded job can't be opened with the key of the bid",
        PayloadError::Decode(_) => "the payload of the award does not parse",
    })?;
    let committed = payload.salt.map(|salt| commitment(&salt, &payload.spec));
    if committed != offered {
        return Err("the awarded job is not the one that was offered");
    }
    let spec: JobSpec = cbor::decode(&payload.spec, SPEC_BYTES_MAX).map_err(|_| "the awarded job does not parse")?;
    let has_sound_lease = (1..=LEASE_MAX.0).contains(&award.terms.lease_ms.0);
    let is_sound = spec.check().is_ok() && spec.scope != Scope::Local;
    if is_sound && has_sound_lease { Ok((spec, Hash::of(&payload.spec))) } else { Err(OUT_OF_BOUNDS) }
}
