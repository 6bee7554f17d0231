//! `jobmesh explain`: why a job is where it is, and what each node lacks for it.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::{Explanation, NodeFit};
use jobmesh_protocol::UnixMillis;

use crate::cli::time_words::{now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, JobRef, Style, Table, clean};

/// What `explain` takes.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The job: its number, id, or `last`
    job: JobRef,
}

impl Explain {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let explanation: Explanation = context.client()?.get(&format!("/v1/jobs/{}/explain", self.job)).await?;
        context.output.show(&explanation, |colour| text(&explanation, now(), colour))?;
        Ok(Exit::OK)
    }
}

/// An explanation in full.
pub(crate) fn text(explanation: &Explanation, now: UnixMillis, colour: Colour) -> String {
    let Explanation { number, state, summary, since, reasons, nodes } = explanation;
    let mut text = format!("Job {number} {} ({state}, {}).\n", clean(summary), relative(now, *since));
    for reason in reasons.iter().filter(|reason| !summary.contains(reason.as_str())) {
        let _ = writeln!(text, "  - {}", clean(reason));
    }
    if nodes.is_empty() {
        return text;
    }
    let mut table = Table::new(["NODE", "IS", "LACKS", "LAST ANSWER"]);
    for fit in nodes {
        let lacks = match fit.lacks.as_slice() {
            [] => Cell::styled(Style::Good, "nothing"),
            lacks => Cell::styled(Style::Bad, lacks.join(", ")),
        };
        let answer = fit.answer.clone().unwrap_or_default();
        table.push([Cell::from(&fit.name), Cell::from(standing(fit)), lacks, Cell::from(answer)]);
    }
    text.push('\n');
    text.push_str(&table.render(colour, 0));
    text
}

const fn standing(fit: &NodeFit) -> &'static str {
    match (fit.is_self, fit.is_connected) {
        (true, _) => "here",
        (false, true) => "connected",
        (false, false) => "away",
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::{JobState, NodeId};

    use super::*;

    fn fit(name: &str, is_self: bool, lacks: &[&str]) -> NodeFit {
        NodeFit {
            node: NodeId::from_bytes([1; 32]),
            name: name.to_owned(),
            is_self,
            is_connected: !is_self,
            lacks: lacks.iter().map(|lack| (*lack).to_owned()).collect(),
            answer: None,
        }
    }

    #[test]
    fn the_reason_comes_first_and_the_nearest_node_on_top() {
        let explanation = Explanation {
            number: 12,
            state: JobState::Available,
            summary: "waits: no known node meets its requirements".to_owned(),
            since: UnixMillis(1_000),
            reasons: vec!["this node lacks tool:gzip".to_owned()],
            nodes: vec![fit("server", false, &["tool:gzip"]), fit("laptop", true, &["tool:gzip", "cpus>=8"])],
        };
        insta::assert_snapshot!(text(&explanation, UnixMillis(13_000), Colour::Off), @r"
        Job 12 waits: no known node meets its requirements (available, 12 s ago).
          - this node lacks tool:gzip

        NODE    IS         LACKS               LAST ANSWER
        server  connected  tool:gzip
        laptop  here       tool:gzip, cpus>=8
        ");
    }
}
