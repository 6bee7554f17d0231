//! `jobmesh invite`: one string that lets one other machine into the mesh.

use clap::Args;
use jobmesh::api::{InviteRequest, InviteView};
use jobmesh_keys::Role;
use jobmesh_protocol::DurationMillis;

use crate::cli::time_words::{length, parse_length};
use crate::cli::{Context, Exit, Failure, note};

#[derive(Args, Debug)]
#[command(after_help = "Whoever has the string can join once, until it ends. Hand it over as you would a password.")]
pub(crate) struct Invite {
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_length, allow_hyphen_values = true)]
    ttl: DurationMillis,
    /// What the new member may do: `member`, or `admin` to invite others as well
    #[arg(long, default_value_t = Role::Member)]
    role: Role,
}

impl Invite {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let question = InviteRequest { ttl_ms: self.ttl, role: self.role };
        let invite: InviteView = context.client()?.post("/v1/invites", &question).await?;
        // The string alone is data; a script takes it as it is.
        context.output.show(&invite, |_| format!("{}\n", invite.invite))?;
        if !context.output.is_json() {
            let good_for = length(self.ttl);
            note(&format!("Good once, for {good_for}. On the other machine: jobmesh up -d && jobmesh join STRING"));
        }
        Ok(Exit::OK)
    }
}
