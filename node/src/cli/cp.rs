//! `jobmesh cp`: files of jobs and blobs of the node, to and from this machine.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use jobmesh_executors::Existing;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{Entry, Node, Tree};
use serde_json::json;

use crate::cli::artifacts::{ask, bytes_of, said, tree};
use crate::cli::download::{Check, Download};
use crate::cli::failure::Kind;
use crate::cli::terminal::{Passage, Way};
use crate::cli::upload::{Upload, blob_of, send_one};
use crate::cli::{Context, Exit, Failure, JobRef, note};
use crate::client::Client;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
                        jobmesh cp 42:out/a.png .          # a file that job 42 left\n  \
                        jobmesh cp last:out images/        # a directory\n  \
                        jobmesh cp 42: all/                # everything that was kept of it\n  \
                        jobmesh cp 42:log -                # to standard output\n  \
                        jobmesh cp data.csv blob:          # to the node; writes the hash, for --input HASH:NAME\n  \
                        jobmesh cp blob:HASH data.csv\n\n\
                        A local path with a colon is written with its directory: ./7:x")]
pub(crate) struct Cp {
    /// JOB:PATH, JOB: for all that it left, blob:HASH, or a file or directory of this machine
    from: End,
    /// A file or directory of this machine, - for standard output, or blob:
    to: End,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Of which attempt of the job [default: the last one]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

/// Where something is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Job(JobRef, String),
    Blob(Hash),
    /// Wherever its hash says.
    AnyBlob,
    Local(PathBuf),
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("blob", "")) => Ok(Self::AnyBlob),
            Some(("blob", hash)) => {
                hash.parse().map(Self::Blob).map_err(|_| format!("{hash:?} is no hash of 64 hexadecimal digits"))
            }
            Some((job, path)) if job.parse::<JobRef>().is_ok() => {
                let path = path.trim_start_matches("./").trim_end_matches('/');
                job.parse().map(|job| Self::Job(job, path.to_owned()))
            }
            Some(_) | None => Ok(Self::Local(PathBuf::from(text))),
        }
    }
}

impl Cp {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let existing = if self.force { Existing::Goes } else { Existing::Stays };
        match (self.from, self.to) {
            (End::Job(job, path), End::Local(to)) => {
                let left = ask(&client, &job, self.attempt).await?;
                let found = Found::in_tree(&tree(&client, &left).await?, &path, &left.label())?;
                if to.as_os_str() == "-" {
                    return write_out(&client, found.single()?).await;
                }
                Box::pin(found.bring(context, &client, &to, existing)).await
            }
            (End::Blob(hash), End::Local(to)) => {
                let blob = blob_of(&client, hash).await?;
                if to.as_os_str() == "-" {
                    return write_out(&client, blob).await;
                }
                let entry = Entry { path: hash.to_string(), node: Node::File { blob, mode: 0o644 } };
                Box::pin(Found::File(entry).bring(context, &client, &to, existing)).await
            }
            (End::Local(from), End::AnyBlob) => {
                let blob = Box::pin(send(&client, &from)).await?;
                context.output.one(&blob, &blob.hash.to_string(), |_| format!("{}\n", blob.hash))?;
                Ok(Exit::OK)
            }
            (End::Local(_), End::Job(..)) => Err(unknown("a job that was submitted can't be given files any more")
                .hint("give them to it when it is submitted: `jobmesh submit --input PATH`")),
            (End::AnyBlob, _) => Err(unknown("blob: names no blob; write blob:HASH")),
            (End::Local(_), End::Local(_) | End::Blob(_)) | (End::Job(..) | End::Blob(_), _) => {
                let failure = unknown("one of the two must be of the node, and the other one of this machine");
                Err(failure.hint("JOB:PATH or blob:HASH to a file, or a file to blob:"))
            }
        }
    }
}

fn unknown(message: &str) -> Failure {
    Failure::new(Kind::Usage, message)
}

/// What was found under a path of a tree.
enum Found {
    /// A file or a link.
    File(Entry),
    /// All that is below it, by paths from there.
    Directory(Vec<Entry>, String),
}

impl Found {
    fn in_tree(tree: &Tree, path: &str, job: &str) -> Result<Self, Failure> {
        if path.is_empty() {
            return Ok(Self::Directory(tree.entries().to_vec(), String::new()));
        }
        let exact = tree.entries().iter().find(|entry| entry.path == path);
        if let Some(entry) = exact.filter(|entry| !matches!(entry.node, Node::Directory { .. })) {
            return Ok(Self::File(entry.clone()));
        }
        let below = |entry: &Entry| {
            let rest = entry.path.strip_prefix(path)?.strip_prefix('/')?;
            Some(Entry { path: rest.to_owned(), node: entry.node.clone() })
        };
        let entries: Vec<Entry> = tree.entries().iter().filter_map(below).collect();
        if entries.is_empty() && exact.is_none() {
            return Err(Failure::new(Kind::NotFound, format!("job {job} left no {path:?} that was kept"))
                .hint(format!("`jobmesh artifacts {job}` lists what was")));
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        Ok(Self::Directory(entries, name.to_owned()))
    }

    fn single(&self) -> Result<BlobRef, Failure> {
        match self {
            Self::File(Entry { node: Node::File { blob, .. }, .. }) => Ok(*blob),
            Self::File(_) | Self::Directory(..) => Err(unknown("only a single file can be written to standard output")),
        }
    }

    /// Writes it to this machine. What is there as a directory, or ends with a slash, gets it under its own name.
    async fn bring(self, context: &Context, client: &Client, to: &Path, existing: Existing) -> Result<Exit, Failure> {
        let is_into = to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (directory, entries) = match self {
            Self::Directory(entries, name) => {
                let directory = if to.is_dir() { to.join(name) } else { to.to_owned() };
                (directory, entries)
            }
            Self::File(entry) => {
                let own = entry.path.rsplit('/').next().unwrap_or(&entry.path).to_owned();
                let (directory, name) = if is_into { (to.to_owned(), own) } else { place(to)? };
                (directory, vec![Entry { path: name, node: entry.node }])
            }
        };
        let bytes = bytes_of(&entries);
        Download::into(client, &directory, existing, bytes)?.entries(&entries).await?;
        if context.output.is_json() {
            context.output.document(&json!({ "directory": directory, "entries": entries.len(), "bytes": bytes }))?;
        } else if !context.output.is_quiet() {
            note(&format!("{} in {}", said(&entries, bytes), directory.display()));
        }
        Ok(Exit::OK)
    }
}

/// The directory of a path that is to be written, and its name there.
fn place(path: &Path) -> Result<(PathBuf, String), Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| unknown(&format!("{} is no name for a file", path.display())))?;
    let directory = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok((directory.to_owned(), name.to_owned()))
}

/// Writes a blob to standard output.
async fn write_out(client: &Client, blob: BlobRef) -> Result<Exit, Failure> {
    let mut answer = client.bytes(&format!("/v1/blobs/{}", blob.hash)).await?;
    let (mut check, mut passage) = (Check::default(), Passage::new(Way::Stdout));
    while let Some(piece) = answer.next().await? {
        check.update(&piece);
        passage.write(&piece)?;
    }
    passage.finish()?;
    check.is(blob)?;
    Ok(Exit::OK)
}

/// Sends a file, or a directory as a tree of files.
async fn send(client: &Client, from: &Path) -> Result<BlobRef, Failure> {
    if !from.is_dir() {
        return send_one(client, from).await;
    }
    let mut upload = Upload::default();
    upload.add(from, "")?;
    upload.send(client).await
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn both_ends_are_told_apart() {
        let job = |job: &str, path: &str| End::Job(job.parse().unwrap(), path.to_owned());
        for (text, wanted) in [
            ("42:out/a.png", job("42", "out/a.png")),
            ("42.7:./out/", job("42.7", "out")),
            ("last:", job("last", "")),
            ("blob:", End::AnyBlob),
            ("./7:x", End::Local(PathBuf::from("./7:x"))),
            ("C:x", End::Local(PathBuf::from("C:x"))),
            ("-", End::Local(PathBuf::from("-"))),
        ] {
            assert_eq!(text.parse::<End>().unwrap(), wanted, "{text}");
        }
        assert!("blob:abc".parse::<End>().is_err());
    }

    #[test]
    fn a_path_of_a_tree_is_a_file_or_all_below_it() {
        let blob = BlobRef::of(b"x");
        let file = |path: &str| Entry { path: path.to_owned(), node: Node::File { blob, mode: 0o644 } };
        let tree = Tree::new(vec![file("out/a"), file("out/b/c"), file("outer")]).unwrap();
        let paths = |found: Found| match found {
            Found::File(entry) => vec![entry.path],
            Found::Directory(entries, _) => entries.into_iter().map(|entry| entry.path).collect(),
        };
        let found = |path: &str| Found::in_tree(&tree, path, "7").map(paths);
        assert_eq!(found("out/a").unwrap(), ["out/a"]);
        assert_eq!(found("out").unwrap(), ["a", "b/c"]);
        assert_eq!(found("").unwrap().len(), 3);
        assert!(found("ou").unwrap_err().text().contains("left no \"ou\""));
    }
}
