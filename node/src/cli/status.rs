//! `jobmesh status`: how the node is, in a few lines.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::Status as Answer;
use jobmesh_protocol::UnixMillis;

use crate::cli::time_words::{now, relative};
use crate::cli::words::size;
use crate::cli::{Colour, Context, Exit, Failure, Style, clean};

#[derive(Args, Debug)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let answer: Answer = context.client()?.get("/v1/status").await?;
        context.output.one(&answer, &answer.name, |colour| text(&answer, now(), context.verbose, colour))?;
        Ok(Exit::OK)
    }
}

fn text(answer: &Answer, now: UnixMillis, verbose: u8, colour: Colour) -> String {
    let state = if answer.is_draining { "is shutting down" } else { "is up" };
    let name = colour.paint(Style::Bold, &clean(&answer.name));
    let mut text = format!("{name} {state}, pid {}, started {}\n", answer.pid, relative(now, answer.started_at));
    let jobs: Vec<_> = answer.jobs.iter().filter(|(_, n)| **n > 0).map(|(state, n)| format!("{n} {state}")).collect();
    let jobs = if jobs.is_empty() { "none yet".to_owned() } else { jobs.join(", ") };
    let mut facts = vec![
        ("runs", format!("{} of {} slots in use", answer.running, answer.slots)),
        ("jobs", jobs),
        ("peers", format!("{} connected", answer.connected)),
        ("mesh", format!("{} as {}", answer.mesh.short(), answer.role)),
        ("certificate", format!("ends {}", relative(now, answer.certificate_not_after))),
        ("files", format!("{} of {}", size(answer.blobs.bytes), size(answer.blobs.quota))),
        ("home", answer.home.clone()),
        ("version", answer.version.clone()),
    ];
    let refused: u64 =
        answer.counters.iter().filter(|(name, _)| name.starts_with("refused")).map(|(_, count)| count).sum();
    if refused > 0 {
        facts.push(("refused", format!("{refused} messages of other nodes; `jobmesh -v status` says of what kind")));
    }
    facts.extend(answer.alarms.iter().map(|alarm| ("alarm", alarm.words.clone())));
    if verbose > 0 {
        facts.push(("node", answer.node.to_string()));
        facts.extend(answer.addresses.iter().map(|address| ("listens", address.clone())));
        facts.extend(answer.counters.iter().map(|(name, count)| ("counted", format!("{count} {name}"))));
    }
    for (label, value) in facts {
        let _ = writeln!(text, "  {label:<12} {}", clean(&value));
    }
    text
}
