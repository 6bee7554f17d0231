//! `jobmesh config`: what the node is told, and whether that makes sense.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use jobmesh::api::Reloaded;
use jobmesh::config::{Config as Resolved, Overrides, Pending, Setting};
use serde_json::json;

use crate::cli::{Cell, Context, Exit, Failure, Kind, Style, Table, clean, note};

#[derive(Args, Debug)]
#[command(after_help = "Flags of `up` win over the environment, that over config.toml in the data directory.")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what holds for the next start
    Show {},
    /// Say whether config.toml and the environment make sense
    Check {},
    /// Have the node read config.toml again
    Reload {},
    /// Write the path of config.toml
    Path {},
}

impl Config {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let path = context.home.config();
        let shown = path.display().to_string();
        match self.action {
            Action::Path {} => context.output.show(&json!({ "path": shown }), |_| format!("{}\n", clean(&shown)))?,
            Action::Check {} => {
                resolve(context)?;
                let what = if path.exists() { "makes sense" } else { "is not there; the defaults hold" };
                let warning = context.home.check().err().map(|error| error.to_string());
                let warnings: Vec<&String> = warning.iter().collect();
                let document = json!({ "path": shown, "exists": path.exists(), "good": true, "warnings": warnings });
                context.output.show(&document, |_| format!("{} {what}\n", clean(&shown)))?;
                if let Some(warning) = &warning {
                    note(&format!("warning: {warning}"));
                }
            }
            Action::Reload {} => reload(context).await?,
            Action::Show {} => show(context, &resolve(context)?)?,
        }
        Ok(Exit::OK)
    }
}

fn resolve(context: &Context) -> Result<Resolved, Failure> {
    let config = Resolved::resolve(context.home.clone(), Overrides::default());
    config.map_err(|error| Failure::of(Kind::Config, &error))
}

fn show(context: &Context, config: &Resolved) -> Result<(), Failure> {
    let settings = config.settings();
    let name = |setting: &Setting| setting.key.clone();
    context.output.list((&settings, &settings), name, |colour| {
        let mut table = Table::new(["KEY", "VALUE", "BY"]);
        for setting in &settings {
            let by = setting.layer.map(|layer| layer.to_string()).unwrap_or_default();
            table.push([Cell::from(&setting.key), Cell::from(&setting.value), Cell::styled(Style::Dim, by)]);
        }
        table.render(colour, 0)
    })
}

async fn reload(context: &Context) -> Result<(), Failure> {
    let reloaded: Reloaded = context.client()?.post("/v1/config/reload", &json!({})).await?;
    context.output.show(&reloaded, |_| {
        let mut text = "The node goes by what config.toml says now.\n".to_owned();
        for pending in &reloaded.pending {
            let Pending { key, running, written } = pending;
            let _ =
                writeln!(text, "{} stays {} until a restart; the file says {}", key, clean(running), clean(written));
        }
        text
    })
}
