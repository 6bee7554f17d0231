//! `jobmesh audit`: is the chain of receipts between two nodes whole, and did both sign it?
//!
//! Whatever is checked is checked here, from the signed bytes; the daemon only hands them out. So a file of another
//! machine is checked in the same way, and needs no node.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use clap::{Args, Subcommand};
use jobmesh_protocol::chain::{self, Auditor, EXPORT_BYTES_MAX, Fault, Finding};
use jobmesh_protocol::{Hash, MeshId, NodeId, UnixMillis};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;

use crate::cli::{Colour, Context, Exit, Failure, Kind, Style};
use crate::client::segment;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "An executor numbers its receipts to a node and signs in each what the one before was; the node \
                  countersigns. Ends with 1 if a receipt is missing, forged, doubled or not countersigned. Links are \
                  kept for five weeks."
)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
    /// The other node (its name or id), or a file that `audit export` wrote
    #[arg(value_name = "PEER|FILE", required = true)]
    subject: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write what this node has of the chains with another one, signed, to be checked anywhere
    Export(ExportTo),
}

#[derive(Args, Debug)]
struct ExportTo {
    /// The other node: its name or id
    peer: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    /// Whose database it is from.
    author: NodeId,
    /// The mesh whose domain the signatures cover.
    mesh: MeshId,
    /// When it was written, on the author's clock.
    at: UnixMillis,
    /// Whether nothing is wrong.
    is_good: bool,
    /// The chains, those without a receipt included.
    chains: Vec<ChainView>,
}

/// What was found in the receipts of one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ChainView {
    executor: NodeId,
    origin: NodeId,
    receipts: u64,
    settled: u64,
    first: Option<u64>,
    last: Option<u64>,
    head: Option<Hash>,
    findings: Vec<FindingView>,
    /// How many findings there are beside those.
    more: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FindingView {
    /// The place in the chain, from 1.
    place: u64,
    /// The number of the receipt, if it can be read.
    number: Option<u64>,
    fault: Fault,
    /// How many receipts are missing, in a gap.
    missing: u64,
    /// The same in words.
    words: String,
}

impl Audit {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match (self.action, self.subject) {
            (Some(Action::Export(command)), _) => command.run(context).await,
            (None, Some(subject)) => audit(context, &subject).await,
            (None, None) => Err(Failure::new(Kind::Usage, "say which node or file is to be checked")),
        }
    }
}

impl ExportTo {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if std::io::stdout().is_terminal() {
            let refused = Failure::new(Kind::Usage, "an export is signed bytes, and this is a terminal");
            return Err(refused.hint(format!("jobmesh audit export {} > receipts.audit", self.peer)));
        }
        context.output.bytes(&export(context, &self.peer).await?)?;
        Ok(Exit::OK)
    }
}

async fn audit(context: &Context, subject: &str) -> Result<Exit, Failure> {
    let path = Path::new(subject);
    let is_file = tokio::fs::metadata(path).await.is_ok_and(|found| found.is_file());
    let bytes = if is_file { read(path).await? } else { export(context, subject).await? };
    let (author, export) = chain::Export::open(&bytes).map_err(|error| Failure::of(Kind::BadReceipt, &error))?;
    let report = Report::of(author, &export);
    let names = if is_file { BTreeMap::new() } else { names(author, &report, subject) };
    context.output.show(&report, |colour| report.text(&names, colour))?;
    Ok(if report.is_good { Exit::OK } else { Exit::FAILED })
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too long from one that just fits.
    file.take(EXPORT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

async fn export(context: &Context, peer: &str) -> Result<Vec<u8>, Failure> {
    let mut answer = context.client()?.bytes(&format!("/v1/audit/{}", segment(peer))).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What people call the two nodes, as far as they said so themselves.
fn names(me: NodeId, report: &Report, peer: &str) -> BTreeMap<NodeId, String> {
    let ends = report.chains.iter().flat_map(|chain| [chain.executor, chain.origin]);
    ends.map(|node| (node, if node == me { "this node".to_owned() } else { peer.to_owned() })).collect()
}

impl Report {
    fn of(author: NodeId, export: &chain::Export) -> Self {
        let audits: Vec<_> = export.chains.iter().map(|chain| Auditor::check(export.mesh, chain)).collect();
        let is_good = audits.iter().all(chain::Audit::is_good);
        let chains = audits.into_iter().map(ChainView::from).collect();
        Self { author, mesh: export.mesh, at: export.at, is_good, chains }
    }

    fn text(&self, names: &BTreeMap<NodeId, String>, colour: Colour) -> String {
        let mut text = String::new();
        for chain in &self.chains {
            let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| node.short());
            let title = format!("{} worked for {}", name(&chain.executor), name(&chain.origin));
            let _ = writeln!(text, "{}", colour.paint(Style::Bold, &title));
            chain.write(&mut text, colour);
        }
        if self.chains.is_empty() {
            text.push_str("there is no chain in it\n");
        }
        let _ = writeln!(
            text,
            "as {} had it at {}",
            names.get(&self.author).map_or_else(|| self.author.to_string(), String::clone),
            self.at.to_rfc3339()
        );
        text
    }
}

impl ChainView {
    fn write(&self, text: &mut String, colour: Colour) {
        let (Some(first), Some(last), Some(head)) = (self.first, self.last, self.head) else {
            if self.receipts == 0 {
                text.push_str("  no receipts\n");
            }
            return self.write_findings(text, colour);
        };
        let before = if first > 1 { "; those before are not kept any more" } else { "" };
        let _ = writeln!(text, "  receipts       {}, number {first} to {last}{before}", self.receipts);
        let _ = writeln!(text, "  countersigned  {}", self.settled);
        let _ = writeln!(text, "  head           {head}");
        if self.findings.is_empty() {
            let _ = writeln!(text, "  {}", colour.paint(Style::Good, "whole, and signed by both"));
        }
        self.write_findings(text, colour);
    }

    fn write_findings(&self, text: &mut String, colour: Colour) {
        for finding in &self.findings {
            let _ = writeln!(text, "  {}", colour.paint(Style::Bad, &finding.words));
        }
        if self.more > 0 {
            let _ = writeln!(text, "  and {} findings more", self.more);
        }
    }
}

impl From<chain::Audit> for ChainView {
    fn from(audit: chain::Audit) -> Self {
        let chain::Audit { executor, origin, receipts, settled, first, last, head, findings, more } = audit;
        let findings = findings.into_iter().map(FindingView::from).collect();
        Self { executor, origin, receipts, settled, first, last, head, findings, more }
    }
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        let Finding { place, number, fault, missing } = finding;
        let which =
            number.map_or_else(|| format!("the receipt at place {place}"), |number| format!("receipt {number}"));
        let words = match (fault, number.unwrap_or_default().saturating_sub(1)) {
            (Fault::Gap, before) if missing == 1 => format!("receipt {before} is missing"),
            (Fault::Gap, before) => format!("receipts {} to {before} are missing", before.saturating_sub(missing - 1)),
            (Fault::BadReceipt | Fault::Fork | Fault::Torn | Fault::Order | Fault::Unsettled | Fault::BadSettle, _) => {
                format!("{which} {}", fault.words())
            }
        };
        Self { place, number, fault, missing, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(number: Option<u64>, fault: Fault, missing: u64) -> String {
        FindingView::from(Finding { place: 4, number, fault, missing }).words
    }

    #[test]
    fn a_finding_names_the_receipt() {
        assert_eq!(words(Some(7), Fault::Gap, 1), "receipt 6 is missing");
        assert_eq!(words(Some(7), Fault::Gap, 3), "receipts 4 to 6 are missing");
        assert_eq!(words(Some(7), Fault::Unsettled, 0), "receipt 7 has no countersignature of the origin");
        assert!(words(None, Fault::BadReceipt, 0).starts_with("the receipt at place 4 is not signed"));
    }
}
