//! `jobmesh types`: the kinds of jobs that the configuration declares or the node brings along.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jobmesh::api::Types as Answer;
use jobmesh::job_types::TypeView;

use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, clean};
use crate::client::segment;

#[derive(Args, Debug)]
#[command(after_help = "Declare one under [job_types.NAME] in config.toml; change or disable a built-in one there.")]
pub(crate) struct Types {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the job types
    Ls {},
    /// Show a job type with its parameters
    Show {
        /// The type
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

impl Types {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self.action {
            Action::Ls {} => {
                let all: Answer = client.get("/v1/types").await?;
                let name = |view: &TypeView| view.name.clone();
                context.output.list((&all, &all.types), name, |colour| table(&all.types, colour))?;
            }
            Action::Show { name } => {
                let view: TypeView = client.get(&format!("/v1/types/{}", segment(&name))).await?;
                context.output.one(&view, &view.name, |_| clean(&view.to_string()))?;
            }
        }
        Ok(Exit::OK)
    }
}

fn table(types: &[TypeView], colour: Colour) -> String {
    let mut table = Table::new(["TYPE", "IS", "TAKES", "WHAT"]);
    for view in types {
        let is = match view.enabled {
            true => Cell::from(&view.source),
            false => Cell::styled(Style::Dim, "disabled"),
        };
        let takes: Vec<String> = view
            .parameters
            .iter()
            .map(|it| if it.required { it.name.clone() } else { format!("[{}]", it.name) })
            .collect();
        let what = view.description.clone().unwrap_or_default();
        table.push([Cell::from(&view.name), is, Cell::from(takes.join(" ")), Cell::from(what)]);
    }
    table.render(colour, 0)
}
