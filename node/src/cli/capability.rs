//! `jobmesh capability`: what this node advertises to the others, and how to change that.

use std::os::unix::fs::PermissionsExt as _;

use clap::{Args, Subcommand};
use jobmesh::api::{Capabilities, CapabilityAnswer, CapabilityRequest, TagSource, TagView};
use jobmesh_protocol::Tag;

use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, note};

#[derive(Args, Debug)]
pub(crate) struct Capability {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what this node can do
    Ls,
    /// Advertise that this node can do something, such as `tool:ffmpeg`
    Add {
        /// What it can do
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<Tag>,
    },
    /// Advertise something no longer, even if it is found on this machine
    Rm {
        /// What it is not to do
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<Tag>,
    },
}

impl Capability {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self.action {
            Action::Ls => {
                let answer: Capabilities = client.get("/v1/capabilities").await?;
                let name = |view: &TagView| view.tag.to_string();
                context.output.list((&answer, &answer.tags), name, |colour| list(&answer, colour))?;
            }
            Action::Add { tags } => {
                warn_of_missing_tools(&tags);
                let answer: CapabilityAnswer = client.post("/v1/capabilities", &CapabilityRequest { tags }).await?;
                context.output.show(&answer, |_| changes(&answer, ("is advertised", "was advertised already")))?;
            }
            Action::Rm { tags } => {
                let answer: CapabilityAnswer = client.delete("/v1/capabilities", &CapabilityRequest { tags }).await?;
                let said = ("is advertised no longer", "was not advertised; that is remembered");
                context.output.show(&answer, |_| changes(&answer, said))?;
            }
        }
        Ok(Exit::OK)
    }
}

fn list(answer: &Capabilities, colour: Colour) -> String {
    let mut table = Table::new(["CAPABILITY", "ADVERTISED", "BECAUSE"]);
    for view in &answer.tags {
        let advertised = if view.is_advertised { Cell::styled(Style::Good, "yes") } else { Cell::from("no") };
        let because = match view.source {
            TagSource::Detected => "found on this machine",
            TagSource::Added => "added by `capability add`",
            TagSource::Removed => "removed by `capability rm`",
        };
        table.push([Cell::from(view.tag.as_str()), advertised, Cell::styled(Style::Dim, because)]);
    }
    for (name, value) in &answer.attributes {
        let cell = Cell::from(format!("{name}={}", value.0));
        table.push([cell, Cell::styled(Style::Good, "yes"), Cell::styled(Style::Dim, "measured")]);
    }
    let slots = answer.slots;
    format!(
        "{}\nRuns {slots} jobs at once. Add one with `jobmesh capability add tool:NAME`.\n",
        table.render(colour, 0)
    )
}

fn changes(answer: &CapabilityAnswer, (changed, unchanged): (&str, &str)) -> String {
    let line = |tag: &Tag, what: &str| format!("{tag} {what}\n");
    let changed = answer.changed.iter().map(|tag| line(tag, changed));
    changed.chain(answer.unchanged.iter().map(|tag| line(tag, unchanged))).collect()
}

/// Warns of tools that jobs would not find. Only a warning: the node may have another PATH than this shell.
fn warn_of_missing_tools(tags: &[Tag]) {
    for tag in tags {
        if let Some(tool) = tag.as_str().strip_prefix("tool:")
            && !is_in_path(tool)
        {
            note(&format!("warning: no program {tool} is in the PATH here; jobs that need {tag} may fail"));
        }
    }
}

fn is_in_path(tool: &str) -> bool {
    let is_program = |path: std::path::PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    !tool.contains('/') && std::env::split_paths(&path).any(|directory| is_program(directory.join(tool)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_a_program_in_the_path() {
        assert!(is_in_path("sh"));
        assert!(!is_in_path("no-such-tool-anywhere"));
        assert!(!is_in_path("../bin/sh"));
    }
}
