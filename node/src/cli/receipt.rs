//! `jobmesh receipt`: the signed account of a job that ran on another node.

mod document;
mod kept;
pub(crate) mod verify;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use jobmesh::api::{JobDetail, LogStream, ReceiptView};
use jobmesh_protocol::BlobRef;
use serde_json::json;

use crate::cli::time_words::length;
use crate::cli::{Colour, Context, Exit, Failure, JobRef, Kind, Style, clean, words};
use crate::client::Client;
use document::Document;

#[derive(Args, Debug)]
pub(crate) struct Receipt {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a receipt, or write it to a file
    Show(Show),
    /// Check that a receipt, and the output it speaks of, are exactly what was signed
    Verify(verify::Verify),
}

#[derive(Args, Debug)]
struct Show {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// Which attempt [default: the one whose receipt was accepted, else the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Write the signed bytes, as they came, to this file
    #[arg(long = "raw", value_name = "FILE")]
    raw: Option<PathBuf>,
}

impl Receipt {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.action {
            Action::Show(command) => command.run(context).await,
            Action::Verify(command) => Box::pin(command.run(context)).await,
        }
    }
}

impl Show {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let view = fetch(&client, &self.job, self.attempt).await?;
        let envelope = envelope(&view)?;
        if let Some(path) = &self.raw {
            write(path, &envelope)?;
            let value = json!({"file": path.display().to_string(), "bytes": envelope.len()});
            context.output.show(&value, |_| format!("wrote {} bytes to {}\n", envelope.len(), path.display()))?;
            return Ok(Exit::OK);
        }
        // What is written is made from the signed bytes alone, so that it can be checked to the last byte.
        let document = Document::of(view.mesh, &envelope).map_err(|error| Failure::of(Kind::BadReceipt, &error))?;
        let detail: JobDetail = client.get(&format!("/v1/jobs/{}", JobRef::of(view.receipt.ticket.into()))).await?;
        context.output.show(&document, |colour| text(&view, &detail, colour))?;
        Ok(Exit::OK)
    }
}

/// Asks for the receipt of a job.
async fn fetch(client: &Client, job: &JobRef, attempt: Option<u32>) -> Result<ReceiptView, Failure> {
    let query = attempt.map_or_else(String::new, |epoch| format!("?attempt={epoch}"));
    Ok(client.get(&format!("/v1/jobs/{job}/receipt{query}")).await?)
}

fn envelope(view: &ReceiptView) -> Result<Vec<u8>, Failure> {
    let broken = |_| Failure::new(Kind::BadReceipt, "the receipt that the node keeps is not base64");
    BASE64.decode(view.envelope.as_bytes()).map_err(broken)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::new(Kind::File, format!("failed to write {}: {error}", path.display()));
    std::fs::write(path, bytes).map_err(failed)
}

/// A receipt for people.
pub(crate) fn text(view: &ReceiptView, detail: &JobDetail, colour: Colour) -> String {
    let receipt = &view.receipt;
    let signer = detail.attempts.iter().find(|attempt| attempt.node.node == view.signer);
    let signer = signer.map_or_else(|| view.signer.short(), |attempt| words::node(&attempt.node));
    let title = format!("receipt of job {}, attempt {}", detail.job.number, receipt.epoch);
    let mut text = format!("{}\n", colour.paint(Style::Bold, &title));
    let outcome = match receipt.outcome.message() {
        Some(message) => format!("{}: {message}", receipt.outcome.word()),
        None => receipt.outcome.word().to_owned(),
    };
    let facts = [
        ("signed by", format!("{signer}, {}", view.signer)),
        ("verdict", view.verdict.map_or("its output is on the way", |verdict| verdict.word()).to_owned()),
        ("outcome", outcome),
        ("exit", words::exit(receipt.exit)),
        (
            "ran",
            format!(
                "{} from {}",
                length(receipt.finished_at.since(receipt.started_at)),
                receipt.started_at.to_rfc3339()
            ),
        ),
        ("isolation", receipt.isolation.to_string()),
        ("used", words::used(receipt.usage).unwrap_or_else(|| "unknown".to_owned())),
        ("stdout", blob(receipt.outputs.stdout)),
        ("stderr", blob(receipt.outputs.stderr)),
        ("result", blob(receipt.outputs.result)),
        ("files", blob(receipt.outputs.files)),
        ("job", receipt.spec.to_string()),
        ("award", receipt.award.to_string()),
        ("receipt", view.id.to_string()),
        ("chain", format!("number {} of {signer}; `jobmesh audit` checks them all", receipt.number)),
    ];
    let model = receipt.model.iter().flat_map(words::model);
    for (label, value) in facts.into_iter().chain(model) {
        let _ = writeln!(text, "  {label:<10} {}", clean(&value).replace('\n', " "));
    }
    let _ = writeln!(text, "Check it with `jobmesh receipt verify {}`.", detail.job.number);
    text
}

fn blob(blob: Option<BlobRef>) -> String {
    blob.map_or_else(|| "none".to_owned(), |blob| format!("{} bytes, BLAKE3 {}", blob.size, blob.hash))
}

/// The blob that a receipt names for a stream.
const fn named(outputs: &jobmesh_protocol::outcome::Outputs, stream: LogStream) -> Option<BlobRef> {
    match stream {
        LogStream::Stdout => outputs.stdout,
        LogStream::Stderr => outputs.stderr,
    }
}
