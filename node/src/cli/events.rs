//! `jobmesh events`: what happens to jobs, one line each, as it happens.

use clap::Args;
use jobmesh::api::Change;

use crate::cli::output::ListDocument;
use crate::cli::time_words::clock;
use crate::cli::{Context, Exit, Failure, clean, words};

#[derive(Args, Debug)]
#[command(after_help = "With -f, -o json and -o yaml write one JSON line each, else one document; `event` is the \
                        number to go on from.")]
pub(crate) struct Events {
    /// Go on as long as the node runs
    #[arg(long, short)]
    follow: bool,
    /// Begin behind the event of this number; 0 is the very first [default: the newest 50, or with -f what comes]
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let from = self.from.map_or_else(String::new, |from| format!("&from={from}"));
        let mut lines = context.client()?.lines(&format!("/v1/feed?follow={}{from}", self.follow)).await?;
        let mut document = context.output.is_document().then(|| ListDocument::new(context.output, "events"));
        document = document.filter(|_| !self.follow);
        while let Some(change) = lines.next::<Change>().await? {
            if let Some(document) = &mut document {
                document.add(&change)?;
                continue;
            }
            if context.output.is_quiet() {
                context.output.bytes(format!("{}\n", change.event).as_bytes())?;
                continue;
            }
            if context.output.is_json() {
                context.output.line(&change)?;
                continue;
            }
            let what = clean(&words::happened(change.cause, change.state, change.node.as_ref()));
            let line = format!("{}  {:>8}  job {}  {what}\n", clock(change.at), change.event, change.label());
            context.output.bytes(line.as_bytes())?;
        }
        if let Some(document) = document {
            document.end()?;
        }
        Ok(Exit::OK)
    }
}
