//! `jobmesh config`: what the node is told, and whether that makes sense.

use std::collections::{BTreeMap, BTreeSet};
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
    context.output.show(&reloaded, |_| reload_text(&reloaded.pending))
}

/// What became of a reload: of the keys that stand in tables, such as those of providers, a line for each kind says which
/// tables wait for a restart; of a key that stands alone, what it is and what it will be.
fn reload_text(pending: &[Pending]) -> String {
    if pending.is_empty() {
        return "The node goes by what config.toml says now.\n".to_owned();
    }
    let mut text = "The node goes by what config.toml says now, but for what waits for a restart:\n".to_owned();
    let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let or_nothing = |value: &str| if value.is_empty() { "nothing".to_owned() } else { clean(value) };
    for Pending { key, running, written } in pending {
        if let Some((table, rest)) = key.split_once('.') {
            tables.entry(table).or_default().insert(rest.rsplit_once('.').map_or(rest, |(name, _)| name));
        } else {
            let _ = writeln!(text, "  {key}: {} now, {} then", or_nothing(running), or_nothing(written));
        }
    }
    for (table, names) in tables {
        let names: Vec<String> = names.into_iter().map(clean).collect();
        let _ = writeln!(text, "  {table}: {}", names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headline said that everything holds, and eighty lines below it that nothing of it does.
    #[test]
    fn what_waits_for_a_restart_is_a_line_of_each_kind() {
        let pending = |(key, running, written): (&str, &str, &str)| Pending {
            key: key.to_owned(),
            running: running.to_owned(),
            written: written.to_owned(),
        };
        assert_eq!(reload_text(&[]), "The node goes by what config.toml says now.\n");
        let all = [
            ("slots", "2", "3"),
            ("listen", "", "/ip4/0.0.0.0/tcp/1"),
            ("lease.ttl", "10s", "5s"),
            ("providers.one", "", "openai"),
            ("providers.two.headers", "the value of the start", "another value of A"),
            ("models.m.input_price", "", "1"),
            ("models.m.output_price", "", "1"),
        ];
        assert_eq!(
            reload_text(&all.map(pending)),
            "The node goes by what config.toml says now, but for what waits for a restart:\n  slots: 2 now, 3 then\n  \
             listen: nothing now, /ip4/0.0.0.0/tcp/1 then\n  lease: ttl\n  models: m\n  providers: one, two\n"
        );
    }
}
