//! `jobmesh receipt verify`: does the receipt say what was signed, was it signed by the node that had the award, and
//! is the output what it speaks of?
//!
//! Nothing is taken from the daemon but what only it can know: which node it awarded what, and the output it keeps.
//! Signature and hashes are computed here.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh::api::{LogStream, ReceiptView};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{BlobRef, Hash, MeshId};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;

use super::document::{self, Document, FILE_BYTES_MAX};
use super::{envelope, fetch, kept, named};
use crate::cli::follow::word;
use crate::cli::{Context, Exit, Failure, JobRef, Kind};
use crate::client::Client;

#[derive(Args, Debug)]
#[command(
    after_help = "A file is what `receipt show -o FILE` or `receipt show --json` wrote. Ends with 1 if anything \
                        does not fit."
)]
pub(crate) struct Verify {
    /// The job (its number, id, or `last`), or a file that holds its receipt
    #[arg(value_name = "ID|FILE")]
    subject: String,
    /// Which attempt of the job [default: the one whose receipt was accepted, else the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Check this file instead of the standard output that the node keeps
    #[arg(long, value_name = "FILE")]
    stdout: Option<PathBuf>,
    /// Check this file instead of the standard error that the node keeps
    #[arg(long, value_name = "FILE")]
    stderr: Option<PathBuf>,
    /// Check only the signature and the files given: needs no node, and can't know who had the award
    #[arg(long)]
    signature_only: bool,
    /// The mesh, for a file that does not name it, with --signature-only
    #[arg(long, value_name = "MESH", requires = "signature_only")]
    mesh: Option<MeshId>,
}

/// What was checked and found good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verified {
    /// The job, if this node gave the award.
    pub(crate) job: Option<JobRef>,
    /// What was checked, in words.
    pub(crate) checks: Vec<String>,
}

/// A receipt that is to be checked.
struct Subject {
    envelope: Vec<u8>,
    mesh: Option<MeshId>,
}

impl Verify {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let verified = match self.subject.parse::<JobRef>() {
            Ok(job) if self.signature_only => {
                let message = format!("--signature-only checks a file, and {job} is a job");
                return Err(Failure::new(Kind::Usage, message).hint("put ./ before the name of a file"));
            }
            Ok(job) => of_job(&context.client()?, &job, self.attempt, self.files()).await?,
            Err(_) => {
                let subject = read(Path::new(&self.subject)).await?;
                if self.signature_only {
                    self.signature(&subject).await?
                } else {
                    self.of_file(context, subject).await?
                }
            }
        };
        context.output.show(&verified, |_| text(&verified))?;
        Ok(Exit::OK)
    }

    fn files(&self) -> Files<'_> {
        Files { stdout: self.stdout.as_deref(), stderr: self.stderr.as_deref() }
    }

    async fn of_file(&self, context: &Context, subject: Subject) -> Result<Verified, Failure> {
        let client = context.client()?;
        let status: jobmesh::api::Status = client.get("/v1/status").await?;
        let document = open(subject.mesh.unwrap_or(status.mesh), &subject.envelope)?;
        let job = JobRef::of(document.receipt.ticket.into());
        let view = fetch(&client, &job, Some(document.receipt.epoch.0)).await.map_err(unknown_award)?;
        check(&client, &job, &subject.envelope, &view, self.files()).await
    }

    async fn signature(&self, subject: &Subject) -> Result<Verified, Failure> {
        let mesh = self.mesh.or(subject.mesh).ok_or_else(|| {
            Failure::new(Kind::Usage, "the file does not say of which mesh it is").hint("give it with --mesh")
        })?;
        let document = open(mesh, &subject.envelope)?;
        let mut checks = vec![format!("signed by {} in the mesh {mesh}", document.signer)];
        for (stream, file) in self.files().given() {
            checks.push(check_file(&document, stream, file).await?);
        }
        Ok(Verified { job: None, checks })
    }
}

/// The outputs that the user has as files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Files<'f> {
    stdout: Option<&'f Path>,
    stderr: Option<&'f Path>,
}

impl<'f> Files<'f> {
    fn of(&self, stream: LogStream) -> Option<&'f Path> {
        match stream {
            LogStream::Stdout => self.stdout,
            LogStream::Stderr => self.stderr,
        }
    }

    fn given(&self) -> impl Iterator<Item = (LogStream, &'f Path)> {
        let files = *self;
        [LogStream::Stdout, LogStream::Stderr].into_iter().filter_map(move |stream| Some((stream, files.of(stream)?)))
    }
}

/// Checks the receipt that the node keeps for a job.
///
/// # Errors
/// [`Failure`] of [`Kind::BadReceipt`] says what does not fit; others, why it could not be checked.
pub(crate) async fn of_job(
    client: &Client,
    job: &JobRef,
    attempt: Option<u32>,
    files: Files<'_>,
) -> Result<Verified, Failure> {
    let view = fetch(client, job, attempt).await?;
    let bytes = envelope(&view)?;
    // `last` may be another job by now; the ticket that the node wrote down is not.
    let job = JobRef::of(view.expected.ticket.into());
    check(client, &job, &bytes, &view, files).await
}

async fn check(
    client: &Client,
    job: &JobRef,
    envelope: &[u8],
    view: &ReceiptView,
    files: Files<'_>,
) -> Result<Verified, Failure> {
    let document = open(view.mesh, envelope)?;
    check_award(&document, view)?;
    if view.id == document.id && self::envelope(view)? != envelope {
        return Err(bad("the signed bytes are not written as they were received"));
    }
    let mut checks = vec![
        format!("signed by {} in the mesh {}", document.signer, document.mesh),
        format!("that node had award {} for attempt {}", document.receipt.award, document.receipt.epoch),
        format!("it ran the job that was awarded, {}", document.receipt.spec),
    ];
    for stream in [LogStream::Stdout, LogStream::Stderr] {
        if let Some(file) = files.of(stream) {
            checks.push(check_file(&document, stream, file).await?);
        } else if let Some(blob) = named(&document.receipt.outputs, stream) {
            checks.push(check_kept(client, job, (&document, view), (stream, blob)).await?);
        }
    }
    let receipt = &document.receipt;
    if let Some(blob) = receipt.outputs.result {
        is_result(&document, view, "result")?;
        checks.push(kept::result(client, job, receipt.epoch, blob).await?);
    }
    if let Some(blob) = receipt.outputs.files {
        is_result(&document, view, "files")?;
        checks.push(kept::files(client, blob).await?);
    }
    Ok(Verified { job: Some(job.clone()), checks })
}

fn open(mesh: MeshId, envelope: &[u8]) -> Result<Document, Failure> {
    Document::of(mesh, envelope).map_err(|error| Failure::of(Kind::BadReceipt, &error))
}

/// The receipt must agree with what this node wrote down when it gave the award.
fn check_award(document: &Document, view: &ReceiptView) -> Result<(), Failure> {
    let (receipt, expected) = (&document.receipt, &view.expected);
    if document.signer != expected.awardee {
        let message = format!("{} signed it, but {} had the award", document.signer, expected.awardee);
        return Err(bad(&message));
    }
    let fits = [
        ("award", Some(receipt.award) == expected.award),
        ("ticket", receipt.ticket == expected.ticket),
        ("attempt", receipt.epoch == expected.epoch),
        ("job", Some(receipt.spec) == expected.spec),
        ("origin", receipt.to == expected.to),
    ];
    let wrong: Vec<_> = fits.iter().filter(|(_, fits)| !fits).map(|(what, _)| *what).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(bad(&format!("it speaks of another {} than this node awarded", wrong.join(", "))))
}

async fn check_file(document: &Document, stream: LogStream, path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut piece).await.map_err(failed)?;
        match piece.get(..count) {
            Some([]) | None => break,
            Some(bytes) => hasher.update(bytes),
        }
    }
    let what = path.display().to_string();
    compare(&what, stream, hasher.finish(), named(&document.receipt.outputs, stream))
}

async fn check_kept(
    client: &Client,
    job: &JobRef,
    (document, view): (&Document, &ReceiptView),
    (stream, blob): (LogStream, BlobRef),
) -> Result<String, Failure> {
    if blob.size > 0 {
        is_result(document, view, word(stream))
            .map_err(|failure| failure.hint(format!("give it as a file with --{} FILE", word(stream))))?;
    }
    let path = format!("/v1/jobs/{job}/logs?stream={}&attempt={}", word(stream), document.receipt.epoch);
    let mut answer = client.bytes(&path).await?;
    let mut hasher = Hasher::default();
    while let Some(piece) = answer.next().await? {
        hasher.update(&piece);
    }
    compare("what the node keeps", stream, hasher.finish(), Some(blob))
}

/// What came with a receipt is kept only if it is the result of its job.
fn is_result(document: &Document, view: &ReceiptView, what: &str) -> Result<(), Failure> {
    if view.verdict == Some(Verdict::Accepted) && view.id == document.id {
        return Ok(());
    }
    Err(bad(&format!("the node does not keep the {what} of a receipt that is not the result")))
}

fn compare(what: &str, stream: LogStream, found: BlobRef, wanted: Option<BlobRef>) -> Result<String, Failure> {
    let stream = word(stream);
    match wanted {
        Some(wanted) if wanted == found => Ok(format!("{stream} is {} bytes with BLAKE3 {}", found.size, found.hash)),
        Some(wanted) => Err(bad(&format!(
            "{what} is not the {stream} that was signed: it has {} bytes with BLAKE3 {}, the receipt says {} bytes \
             with {}",
            found.size, found.hash, wanted.size, wanted.hash
        ))),
        None => Err(bad(&format!("the receipt speaks of no {stream}, so {what} can't be checked"))),
    }
}

/// Counts and hashes bytes as they come.
#[derive(Default)]
struct Hasher {
    state: blake3::Hasher,
    size: u64,
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(&self) -> BlobRef {
        BlobRef { hash: Hash::from_bytes(*self.state.finalize().as_bytes()), size: self.size }
    }
}

async fn read(path: &Path) -> Result<Subject, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("failed to read {}: {error}", path.display());
        Failure::new(Kind::File, message).hint("name a job by its number, or a file that holds a receipt")
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(&format!("{} is too large for a receipt", path.display())));
    }
    let read = document::read(&bytes).map_err(|error| Failure::of(Kind::BadReceipt, &error))?;
    Ok(Subject { envelope: read.envelope, mesh: read.mesh })
}

fn bad(what: &str) -> Failure {
    Failure::new(Kind::BadReceipt, format!("the receipt is not good: {what}"))
}

fn unknown_award(failure: Failure) -> Failure {
    if failure.kind() != Kind::NotFound {
        return failure;
    }
    bad("this node gave no such award").hint("check it on the node that submitted the job, or with --signature-only")
}

/// What was checked, in lines.
pub(crate) fn text(verified: &Verified) -> String {
    let lines: String = verified.checks.iter().map(|check| format!("  ok  {check}\n")).collect();
    let end = match &verified.job {
        Some(_) => "The receipt is good.\n",
        None => "The signature is good. Whether the signer had the award was not checked.\n",
    };
    lines + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_other_byte_of_output_is_told() {
        let mut hasher = Hasher::default();
        hasher.update(b"ou");
        hasher.update(b"t");
        assert_eq!(hasher.finish(), BlobRef::of(b"out"));
        let failure = compare("x", LogStream::Stdout, hasher.finish(), Some(BlobRef::of(b"oux")));
        assert!(failure.is_err_and(|failure| failure.exit() == Exit::FAILED));
    }

    #[test]
    fn an_output_that_was_never_named_can_not_be_good() {
        assert!(compare("x", LogStream::Stderr, BlobRef::of(b""), None).is_err());
    }
}
