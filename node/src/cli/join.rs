//! `jobmesh join`: become a member of the mesh that an invite is for.

use clap::Args;
use jobmesh::api::{JoinRequest, Joined};
use jobmesh_keys::Invite;

use crate::cli::{Context, Exit, Failure, Kind};

#[derive(Args, Debug)]
pub(crate) struct Join {
    /// The string that `jobmesh invite` wrote on the other machine
    #[arg(value_name = "STRING")]
    invite: String,
}

impl Join {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        // A string that was cut in copying is told here, before anything is asked.
        Invite::decode(&self.invite).map_err(|error| {
            Failure::of(Kind::Usage, &error).hint("make a new one with `jobmesh invite` on the other machine")
        })?;
        let joined: Joined = context.client()?.post("/v1/join", &JoinRequest { invite: self.invite }).await?;
        context.output.show(&joined, |_| text(&joined))?;
        Ok(Exit::OK)
    }
}

fn text(joined: &Joined) -> String {
    format!(
        "Joined the mesh {} as {}.\n\
         The four words are: {}\n\
         `jobmesh peers` on the other machine shows the same words beside this node's name.\n",
        joined.mesh.short(),
        joined.role,
        joined.words.join(" ")
    )
}
