//! `jobmesh explain`: why a job is where it is, and what each node lacks for it.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::{Explanation, NodeFit};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use crate::cli::time_words::{length, now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, JobRef, Style, Table, clean};

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The job: its number, id, or `last`
    job: JobRef,
}

impl Explain {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let explanation: Explanation = context.client()?.get(&format!("/v1/jobs/{}/explain", self.job)).await?;
        context.output.one(&explanation, &name(&explanation, &self.job), |colour| text(&explanation, now(), colour))?;
        Ok(Exit::OK)
    }
}

/// The number of the job that is explained, whatever it was called.
fn name(explanation: &Explanation, asked: &JobRef) -> String {
    match (explanation.number, explanation.task) {
        (Some(number), Some(task)) => format!("{number}.{task}"),
        (Some(number), None) => number.to_string(),
        (None, _) => asked.to_string(),
    }
}

/// An explanation in full.
pub(crate) fn text(explanation: &Explanation, now: UnixMillis, colour: Colour) -> String {
    let mut text = head(explanation, now);
    for reason in &explanation.reasons {
        // Of a single reason the sentence above has said it all but the remedy.
        if !explanation.summary.contains(&reason.words) {
            let _ = writeln!(text, "  - {} ({})", clean(&reason.words), relative(now, reason.since));
        }
        if !reason.remedy.is_empty() {
            let _ = writeln!(text, "    what would help: {}", clean(&reason.remedy));
        }
    }
    if explanation.state.is_final() {
        // What else could have run it, and for how long, is past.
        return text;
    }
    match explanation.ahead {
        0 => {}
        1 => text.push_str("  1 job like it is ahead of it\n"),
        ahead => {
            let _ = writeln!(text, "  {ahead} jobs like it are ahead of it");
        }
    }
    if let Some(micros) = explanation.takes_micros {
        let _ = writeln!(text, "  jobs of its type take about {}", length(DurationMillis(micros.div_ceil(1000))));
    }
    if explanation.nodes.is_empty() {
        return text;
    }
    text.push('\n');
    text.push_str(&nodes(&explanation.nodes, colour));
    text
}

/// Why a job waits and what would help, in one line; none if there is no reason.
pub(crate) fn brief(explanation: &Explanation) -> Option<String> {
    explanation.reasons.first()?;
    let mut remedies: Vec<&str> = explanation.reasons.iter().map(|reason| reason.remedy.as_str()).collect();
    remedies.retain(|remedy| !remedy.is_empty());
    remedies.dedup();
    let help =
        if remedies.is_empty() { String::new() } else { format!("; what would help: {}", remedies.join("; and ")) };
    Some(format!("{}{help}", explanation.summary))
}

/// `Job 12 waits: … (available, 12 s ago).`
fn head(explanation: &Explanation, now: UnixMillis) -> String {
    let Explanation { number, task, state, summary, since, .. } = explanation;
    let job = match (number, task) {
        (Some(number), Some(task)) => format!("Job {number}.{task}"),
        (Some(number), None) => format!("Job {number}"),
        (None, _) => return format!("Such a job {} ({state}).\n", clean(summary)),
    };
    format!("{job} {} ({state}, {}).\n", clean(summary), relative(now, *since))
}

fn nodes(fits: &[NodeFit], colour: Colour) -> String {
    let mut table = Table::new(["NODE", "IS", "LACKS", "LAST ANSWER"]);
    for fit in fits {
        let lacks = match fit.lacks.as_slice() {
            [] => Cell::styled(Style::Good, "nothing"),
            lacks => Cell::styled(Style::Bad, lacks.join(", ")),
        };
        let answer = fit.answer.clone().unwrap_or_default();
        table.push([Cell::from(&fit.name), Cell::from(standing(fit)), lacks, Cell::from(answer)]);
    }
    table.render(colour, 0)
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
    use jobmesh::api::Reason;
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
    fn of_a_job_that_has_ended_one_sentence_is_said() {
        let explanation = Explanation {
            number: Some(12),
            task: Some(3),
            state: JobState::Completed,
            summary: "completed on server".to_owned(),
            since: UnixMillis(1_000),
            reasons: Vec::new(),
            ahead: 0,
            takes_micros: Some(2_100_000),
            nodes: vec![fit("server", false, &["tool:gzip"])],
        };
        let said = text(&explanation, UnixMillis(13_000), Colour::Off);
        assert_eq!(said, "Job 12.3 completed on server (completed, 12 s ago).\n");
    }

    #[test]
    fn the_reason_comes_first_and_the_nearest_node_on_top() {
        let explanation = Explanation {
            number: Some(12),
            task: None,
            state: JobState::Available,
            summary: "waits: no known node meets its requirements".to_owned(),
            since: UnixMillis(1_000),
            reasons: vec![Reason {
                kind: "capability".to_owned(),
                words: "this node lacks tool:gzip".to_owned(),
                since: UnixMillis(1_000),
                remedy: "a node with tool:gzip".to_owned(),
            }],
            ahead: 3,
            takes_micros: Some(2_100_000),
            nodes: vec![fit("server", false, &["tool:gzip"]), fit("laptop", true, &["tool:gzip", "cpus>=8"])],
        };
        assert_eq!(
            brief(&explanation).as_deref(),
            Some("waits: no known node meets its requirements; what would help: a node with tool:gzip")
        );
        assert_eq!(brief(&Explanation { reasons: Vec::new(), ..explanation.clone() }), None);
        insta::assert_snapshot!(text(&explanation, UnixMillis(13_000), Colour::Off), @r"
        Job 12 waits: no known node meets its requirements (available, 12 s ago).
          - this node lacks tool:gzip (12 s ago)
            what would help: a node with tool:gzip
          3 jobs like it are ahead of it
          jobs of its type take about 2.1 s

        NODE    IS         LACKS               LAST ANSWER
        server  connected  tool:gzip
        laptop  here       tool:gzip, cpus>=8
        ");
    }
}
