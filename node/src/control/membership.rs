//! Inviting into this node's mesh, and joining another one.

use axum::Json;
use axum::extract::State;
use jobmesh_engine::{Command, Response};
use jobmesh_keys::{Invite, words};
use jobmesh_protocol::UnixMillis;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use crate::api::{ErrorCode, InviteRequest, InviteView, JoinRequest, Joined};

/// Most addresses in an invite: what [`Invite`] takes.
const ADDRESSES_MAX: usize = 8;

pub(super) async fn invite(State(control): State<Control>, Ask(body): Ask<InviteRequest>) -> Answer<Json<InviteView>> {
    let addresses = worth_telling(control.handle.addresses());
    let command = Command::Invite { ttl: body.ttl_ms, role: body.role, addresses };
    match control.handle.command(command).await? {
        Response::Invited(invite) => {
            let terms = invite.terms();
            Ok(Json(InviteView {
                invite: invite.encode(),
                mesh: terms.mesh,
                expires_at: UnixMillis(terms.expires_at_ms),
                role: terms.role,
                addresses: terms.addresses.clone(),
            }))
        }
        Response::Submitted(_)
        | Response::Pruned(_)
        | Response::Done
        | Response::Unchanged
        | Response::Explained(_)
        | Response::Judged(_)
        | Response::Counted(_)
        | Response::Granted(_) => Err(Failure::unexpected()),
    }
}

/// The addresses that a new member may try: those of other machines' networks first, loopback for nodes of this one.
fn worth_telling(mut addresses: Vec<String>) -> Vec<String> {
    addresses.sort_by_key(|address| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/"));
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

pub(super) async fn join(State(control): State<Control>, Ask(body): Ask<JoinRequest>) -> Answer<Json<Joined>> {
    let invite =
        Invite::decode(&body.invite).map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()))?;
    let standing = Box::pin(control.handle.join(&invite)).await?;
    let inviter = invite.terms().inviter;
    Ok(Json(Joined {
        mesh: standing.mesh,
        inviter,
        role: standing.role,
        certificate_not_after: standing.not_after,
        words: words(&standing.mesh, &inviter, &control.handle.node()).map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_come_last_and_the_rest_keep_their_order() {
        let given = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.2/udp/2/quic-v1", "/ip6/::1/tcp/3", "/ip4/10.0.0.2/tcp/4"];
        let told = worth_telling(given.map(str::to_owned).to_vec());
        assert_eq!(told.first().map(String::as_str), Some("/ip4/10.0.0.2/udp/2/quic-v1"));
        assert_eq!(told.get(1).map(String::as_str), Some("/ip4/10.0.0.2/tcp/4"));
        assert_eq!(worth_telling(vec!["/ip4/10.0.0.2/tcp/4".to_owned(); 20]).len(), ADDRESSES_MAX);
    }
}
