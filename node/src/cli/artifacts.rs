//! `jobmesh artifacts`: the files that a job left and that were kept, and getting them.

use std::path::PathBuf;

use clap::Args;
use jobmesh::api::{Artifact, ArtifactKind, Artifacts as Answer};
use jobmesh_executors::{Existing, Selection};
use jobmesh_protocol::tree::{Entry, Node, Tree};

use crate::cli::download::Download;
use crate::cli::failure::Kind;
use crate::cli::upload::tree_of;
use crate::cli::words::size;
use crate::cli::{Cell, Colour, Context, Exit, Failure, JobRef, Style, Table, clean, note};
use crate::client::Client;

/// What helps if nothing was asked to be kept.
const HINT: &str = "say what is to be kept when it is submitted: --output GLOB";

#[derive(Args, Debug)]
#[command(
    after_help = "What a job is to leave is said when it is submitted: `jobmesh run --output 'out/*.png' -- …`. One file \
                        alone: `jobmesh cp JOB:PATH FILE`."
)]
pub(crate) struct Artifacts {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// Which attempt [default: the last one]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Get them, or those that match
    #[arg(long, value_name = "GLOB", num_args = 0..=1)]
    get: Option<Option<String>>,
    /// The directory to put them into
    #[arg(long, value_name = "DIR", default_value = ".", requires = "get")]
    to: PathBuf,
    /// Replace files that are there
    #[arg(long, requires = "get")]
    force: bool,
}

impl Artifacts {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let answer = ask(&client, &self.job, self.attempt).await?;
        let Some(wanted) = &self.get else {
            let name = |artifact: &Artifact| artifact.path.clone();
            context.output.list((&answer, &answer.artifacts), name, |colour| text(&answer, colour))?;
            return Ok(Exit::OK);
        };
        let tree = tree(&client, &answer).await?;
        let entries = chosen(&tree, wanted.as_deref())?;
        let existing = if self.force { Existing::Goes } else { Existing::Stays };
        let bytes = bytes_of(&entries);
        Box::pin(Download::into(&client, &self.to, existing, bytes)?.entries(&entries)).await?;
        if !context.output.is_quiet() && !context.output.is_json() {
            note(&format!("{} in {}", said(&entries, bytes), self.to.display()));
        }
        Ok(Exit::OK)
    }
}

/// What a job left.
///
/// # Errors
/// [`Failure`] if there is no such job, or it has not ended.
pub(crate) async fn ask(client: &Client, job: &JobRef, attempt: Option<u32>) -> Result<Answer, Failure> {
    let attempt = attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
    Ok(client.get(&format!("/v1/jobs/{job}/artifacts{attempt}")).await?)
}

/// The tree of what a job left, checked against its hash.
///
/// # Errors
/// [`Failure`] if nothing was kept.
pub(crate) async fn tree(client: &Client, answer: &Answer) -> Result<Tree, Failure> {
    match answer.tree {
        Some(tree) => tree_of(client, tree.hash).await,
        None => {
            let failure =
                |words| Failure::new(Kind::NotFound, format!("nothing was kept of job {}{words}", answer.label()));
            Err(match end(answer) {
                Some(end) => failure(format!(", since {end}")),
                None => failure(String::new()).hint(HINT),
            })
        }
    }
}

/// How the attempt ended, where that is why nothing of it was kept: only the files of one that succeeded are.
fn end(answer: &Answer) -> Option<String> {
    let end = match answer.outcome.as_deref()? {
        "ok" => return None,
        "error" | "permanent" => "it failed".to_owned(),
        "cancelled" | "self_cancelled" => "it was cancelled".to_owned(),
        "timeout" => "its time was over".to_owned(),
        other => format!("its attempt {} ended as {other}", answer.attempt),
    };
    Some(answer.message.as_ref().map_or_else(|| end.clone(), |message| format!("{end}: {message}")))
}

/// Bytes of all these files.
pub(crate) fn bytes_of(entries: &[Entry]) -> u64 {
    let size = |entry: &Entry| match &entry.node {
        Node::File { blob, .. } => blob.size,
        Node::Link { .. } | Node::Directory { .. } => 0,
    };
    entries.iter().map(size).fold(0, u64::saturating_add)
}

/// How many files there are, and how much.
pub(crate) fn said(entries: &[Entry], bytes: u64) -> String {
    let files = entries.iter().filter(|entry| matches!(entry.node, Node::File { .. })).count();
    let plural = if files == 1 { "file" } else { "files" };
    format!("{files} {plural}, {}", size(bytes))
}

fn chosen(tree: &Tree, pattern: Option<&str>) -> Result<Vec<Entry>, Failure> {
    let Some(pattern) = pattern else { return Ok(tree.entries().to_vec()) };
    let selection = Selection::new(pattern).map_err(|error| Failure::of(Kind::Usage, &error))?;
    let entries: Vec<Entry> = tree.entries().iter().filter(|entry| selection.has(&entry.path)).cloned().collect();
    if entries.is_empty() {
        return Err(Failure::new(Kind::NotFound, format!("nothing that was kept matches {pattern:?}")));
    }
    Ok(entries)
}

fn text(answer: &Answer, colour: Colour) -> String {
    if answer.artifacts.is_empty() {
        let number = answer.label();
        return match end(answer) {
            Some(end) => format!("Nothing was kept of job {number}, since {}\n", clean(&end)),
            None => format!("Nothing was kept of job {number}; {HINT}\n"),
        };
    }
    let mut table = Table::new(["MODE", "SIZE", "HASH", "PATH"]);
    for artifact in &answer.artifacts {
        let path = match (artifact.kind, &artifact.target) {
            (ArtifactKind::Directory, _) => format!("{}/", artifact.path),
            (ArtifactKind::Link, Some(target)) => format!("{} -> {target}", artifact.path),
            (ArtifactKind::File | ArtifactKind::Link, _) => artifact.path.clone(),
        };
        table.push([
            Cell::from(artifact.mode.as_deref().unwrap_or_default()),
            Cell::from(artifact.size.map(size).unwrap_or_default()),
            Cell::styled(Style::Dim, artifact.hash.map(|hash| hash.short()).unwrap_or_default()),
            Cell::whole(path),
        ]);
    }
    table.render(colour, 0)
}
