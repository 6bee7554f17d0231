//! `jobmesh learn`: which node did which work how well, as seen here and as told by others.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::{CellView, Learned, NodeName};
use serde::Serialize;

use crate::cli::time_words::length;
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, words};

#[derive(Args, Debug)]
pub(crate) struct Learn {}

impl Learn {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let learned: Learned = context.client()?.get("/v1/learn").await?;
        let own = learned.own.iter().map(|cell| Line { told_by: None, cell });
        let heard = learned
            .heard
            .iter()
            .flat_map(|told| told.cells.iter().map(|cell| Line { told_by: Some(&told.author), cell }));
        let lines: Vec<Line<'_>> = own.chain(heard).collect();
        let name = |line: &Line<'_>| line.cell.job_type.clone();
        context.output.list((&learned, &lines), name, |colour| text(&learned, colour))?;
        Ok(Exit::OK)
    }
}

/// One line for programs that read lines.
#[derive(Serialize)]
struct Line<'a> {
    /// The node that told it; none if this node saw it.
    told_by: Option<&'a NodeName>,
    #[serde(flatten)]
    cell: &'a CellView,
}

/// All that was learned.
pub(crate) fn text(learned: &Learned, colour: Colour) -> String {
    if learned.own.is_empty() && learned.heard.is_empty() {
        return "Nothing learned yet: that takes jobs. Run one with `jobmesh run -- echo hello`.\n".to_owned();
    }
    let mut text = format!("{}\n", colour.paint(Style::Bold, "seen by this node"));
    if learned.own.is_empty() {
        text.push_str("  nothing yet\n");
    } else {
        text.push_str(&cells(learned.own.iter().map(|cell| (String::new(), cell)), colour));
    }
    if learned.heard.is_empty() {
        return text;
    }
    let _ = writeln!(text, "\n{}", colour.paint(Style::Bold, "told by others"));
    let heard = learned.heard.iter().flat_map(|told| told.cells.iter().map(|cell| (told.author.name.clone(), cell)));
    text.push_str(&cells(heard, colour));
    text
}

fn cells<'c>(cells: impl Iterator<Item = (String, &'c CellView)>, colour: Colour) -> String {
    let mut table =
        Table::new(["TYPE", "ON", "OK", "FAILED", "TIMED OUT", "LOST", "HALF WITHIN", "90 % WITHIN", "SAYS"]);
    for (author, cell) in cells {
        let time = |time: Option<_>| Cell::from(time.map(length).unwrap_or_default());
        table.push([
            Cell::from(&cell.job_type),
            Cell::from(words::node(&cell.node)),
            Cell::from(cell.succeeded.to_string()),
            Cell::from(cell.failed.to_string()),
            Cell::from(cell.timed_out.to_string()),
            Cell::from(cell.lost.to_string()),
            time(cell.p50_ms),
            time(cell.p90_ms),
            Cell::from(author),
        ]);
    }
    table.render(colour, 2)
}
