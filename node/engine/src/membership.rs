//! Founding a mesh, inviting into it, and joining another one.

use jobmesh_keys::{
    Grant, Identity, Invite, InviteSecret, InviteTerms, Membership, MeshId, MeshRoot, NodeId, Role, Serial,
};
use jobmesh_protocol::join::{Answer as JoinAnswer, RefusalReason, Request};
use jobmesh_protocol::{DurationMillis, Incarnation, UnixMillis};
use jobmesh_store::{InviteRow, StoreError};

use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::step::Step;
use crate::submit::Answer;

/// How long a membership is good for: a year. It has to be renewed by a new invite until then.
const MEMBERSHIP_MS: DurationMillis = DurationMillis::from_secs(365 * 86_400);
/// How long the founder's own membership is good for: ten years, since it holds the root key anyway.
const FOUNDER_MS: DurationMillis = DurationMillis::from_secs(3650 * 86_400);
/// Clocks of the two ends of an invite may differ by this much.
const SKEW_MS: u64 = 300_000;
/// Longest life of an invite: a week.
const INVITE_MS_MAX: DurationMillis = DurationMillis::from_secs(7 * 86_400);

/// The membership by which a node becomes the first admin of its own new mesh.
#[must_use]
pub fn founding(root: &MeshRoot, identity: &Identity, now: UnixMillis, serial: [u8; 16]) -> Membership {
    let node = identity.node();
    Membership::issue_root(root, &grant(node, node, Role::Admin, (now, FOUNDER_MS), serial))
}

fn grant(
    member: NodeId,
    sponsor: NodeId,
    role: Role,
    (now, life): (UnixMillis, DurationMillis),
    serial: [u8; 16],
) -> Grant {
    Grant {
        member,
        role,
        sponsor,
        issued_at_ms: now.0.saturating_sub(SKEW_MS),
        not_after_ms: now.plus(life).0,
        serial: Serial::from_bytes(serial),
    }
}

impl Engine {
    pub(crate) fn invite(
        &mut self,
        step: &mut Step<'_>,
        ttl: DurationMillis,
        role: Role,
        addresses: Vec<String>,
    ) -> Answer {
        if self.issue(step, self.me, Role::Member).is_none() {
            return Ok(Err(Refusal::NotAdmin));
        }
        if ttl.0 == 0 || ttl > INVITE_MS_MAX {
            return Ok(Err(Refusal::BadInvite("its life must be 1 ms to 7 days".to_owned())));
        }
        let expires_at = step.wall().plus(ttl);
        let invite = Invite::new(InviteTerms {
            mesh: self.mesh,
            inviter: self.me,
            addresses,
            secret: InviteSecret::from_bytes(step.random()),
            expires_at_ms: expires_at.0,
            role,
        });
        let invite = match invite {
            Ok(invite) => invite,
            Err(error) => return Ok(Err(Refusal::BadInvite(error.to_string()))),
        };
        let secret_hash = invite.secret_hash();
        step.txn.put_invite(&InviteRow { secret_hash, role, expires_at, used_by: None, membership: None })?;
        Ok(Ok(Response::Invited(Box::new(invite))))
    }

    pub(crate) fn admit(&mut self, step: &mut Step<'_>, from: NodeId, request: &[u8]) -> Answer {
        let answer = self.judge(step, from, request)?;
        if matches!(answer, JoinAnswer::Refused(_)) {
            self.count("refused_join");
        }
        Ok(Ok(Response::Judged(answer.encode())))
    }

    fn judge(&mut self, step: &mut Step<'_>, from: NodeId, request: &[u8]) -> Result<JoinAnswer, StoreError> {
        let refuse = |reason| Ok(JoinAnswer::Refused(reason));
        let Ok(request) = Request::decode(request) else { return refuse(RefusalReason::Malformed) };
        let secret_hash = InviteSecret::from_bytes(request.secret).hash();
        let Some(invite) = step.view().invite(&secret_hash)? else { return refuse(RefusalReason::Unknown) };
        // The same node asking again has lost the answer: give it the same one.
        if let Some(membership) = invite.membership.clone().filter(|_| invite.used_by == Some(from)) {
            return Ok(JoinAnswer::Welcome(membership));
        }
        if invite.used_by.is_some() {
            return refuse(RefusalReason::Used);
        }
        if invite.expires_at <= step.wall() {
            return refuse(RefusalReason::Expired);
        }
        let Some(membership) = self.issue(step, from, invite.role) else { return refuse(RefusalReason::NotAdmin) };
        let membership = membership.encode();
        let used = InviteRow { used_by: Some(from), membership: Some(membership.clone()), ..invite };
        step.txn.put_invite(&used)?;
        Ok(JoinAnswer::Welcome(membership))
    }

    /// Issues a membership, if this node may.
    fn issue(&self, step: &mut Step<'_>, member: NodeId, role: Role) -> Option<Membership> {
        let grant = grant(member, self.me, role, (step.wall(), MEMBERSHIP_MS), step.random());
        match &self.config.root {
            Some(root) if root.mesh() == self.mesh => Some(Membership::issue_root(root, &grant)),
            Some(_) | None => {
                let verified = self.config.membership.verify(&self.mesh, &self.me, step.wall().0).ok()?;
                let is_admin = verified.role() == Role::Admin;
                is_admin.then(|| Membership::issue(&self.config.identity, &self.config.membership, &grant).ok())?
            }
        }
    }

    pub(crate) fn enroll(&mut self, step: &mut Step<'_>, mesh: MeshId, membership: Membership) -> Answer {
        if let Err(error) = membership.verify(&mesh, &self.me, step.wall().0) {
            return Ok(Err(Refusal::BadMembership(error.to_string())));
        }
        if mesh != self.mesh {
            step.txn.forget_peers()?;
            step.txn.renew_incarnation(Incarnation::from_bytes(step.random()))?;
            self.peers.clear();
            self.matches.clear();
        }
        self.mesh = mesh;
        self.config.mesh = mesh;
        self.config.membership = membership;
        self.write_membership(step)?;
        Ok(Ok(Response::Done))
    }

    /// Keeps the membership for the next start.
    pub(crate) fn write_membership(&self, step: &Step<'_>) -> Result<(), StoreError> {
        step.txn.set_meta("mesh", self.mesh.as_bytes())?;
        step.txn.set_meta("membership", &self.config.membership.encode())
    }
}
