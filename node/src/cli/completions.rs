//! `jobmesh completions`: a script that lets a shell complete our commands.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::{Context, Exit, Failure};

/// What `completions` takes.
#[derive(Args, Debug)]
#[command(after_help = "For bash: jobmesh completions bash > ~/.local/share/bash-completion/completions/jobmesh")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, context: &Context, command: &mut clap::Command) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "jobmesh", &mut script);
        if context.output.is_json() {
            let script = String::from_utf8_lossy(&script);
            context.output.document(&json!({"shell": self.shell.to_string(), "script": script}))?;
        } else {
            context.output.bytes(&script)?;
        }
        Ok(Exit::OK)
    }
}
