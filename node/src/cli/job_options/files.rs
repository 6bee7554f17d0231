//! The files that a job begins with, and those of its files that are kept.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::check_path;

use super::Draft;
use crate::cli::failure::{Failure, Kind};
use crate::cli::upload::{Upload, blob_of};
use crate::client::Client;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Files")]
pub(super) struct FilesOptions {
    /// A file or a directory that the job finds in its working directory, under its own name or under NAME; with a slash
    /// behind it, what is in the directory. Or the hash of a blob on the node: with NAME a file, else a whole tree of files,
    /// such as `jobmesh artifacts` shows (may be repeated)
    #[arg(long = "input", value_name = "PATH|HASH[:NAME]", value_parser = parse_input)]
    pub(super) inputs: Vec<Input>,
    /// What is kept of its working directory: a file, a directory or a pattern such as `out/*.png` or `**/*.log`. If
    /// nothing matches, the job has failed (may be repeated). Of work without files it is `body`, what a server answered,
    /// `answer.txt`, what a model said, or `vectors.json`
    #[arg(long = "output", value_name = "GLOB", id = "output_pattern")]
    outputs: Vec<String>,
}

impl FilesOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) {
        draft.inputs.extend(self.inputs);
        let plain = |pattern: String| {
            let inside = pattern.strip_prefix("./").unwrap_or(&pattern);
            inside.strip_suffix('/').unwrap_or(inside).to_owned()
        };
        draft.submission.spec.outputs.extend(self.outputs.into_iter().map(plain));
    }
}

/// Something that is to be in the working directory of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A file or a directory of this machine, under this name; the name is empty for what is in a directory.
    Path(PathBuf, String),
    /// A blob of the node as a file of this name.
    Blob(Hash, String),
    /// A tree of the node below this name; the name is empty for what is in it.
    Tree(Hash, String),
}

/// Reads what `--input` says. What is there as a path is one, whatever else it could mean.
fn parse_input(text: &str) -> Result<Input, String> {
    if Path::new(text).exists() {
        let path = PathBuf::from(text);
        let name = if text.ends_with('/') { String::new() } else { base_name(&path)? };
        return Ok(Input::Path(path, name));
    }
    if let Ok(hash) = text.parse() {
        return Ok(Input::Tree(hash, String::new()));
    }
    let missing = || format!("there is no file {text}, and it is no hash of 64 hexadecimal digits either");
    let (what, name) = text.rsplit_once(':').ok_or_else(missing)?;
    let plain = name.strip_suffix('/').unwrap_or(name);
    check_path(plain).map_err(|error| error.to_string())?;
    if Path::new(what).exists() {
        return Ok(Input::Path(PathBuf::from(what), plain.to_owned()));
    }
    let hash = what.parse().map_err(|_| missing())?;
    let name = plain.to_owned();
    Ok(if text.ends_with('/') { Input::Tree(hash, name) } else { Input::Blob(hash, name) })
}

/// The name of a file or a directory in the directory that it is in. `.` and `..` have one too.
fn base_name(path: &Path) -> Result<String, String> {
    let whole = path.canonicalize().map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    let named = if path.file_name().is_some() { path } else { &whole };
    let name = named.file_name().ok_or("the whole disk has no name; give one behind a colon, as in /:NAME")?;
    let name = name.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    check_path(name).map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

/// Sends inputs to the node, beside those of a tree that is there, and returns the tree of all.
pub(super) async fn bring(client: &Client, inputs: Vec<Input>, there: Option<BlobRef>) -> Result<BlobRef, Failure> {
    let mut upload = Upload::default();
    if let Some(tree) = there {
        upload.add_tree(client, tree.hash, "").await?;
    }
    for input in inputs {
        match input {
            Input::Path(path, name) => upload.add(&path, &name)?,
            Input::Tree(hash, name) => upload.add_tree(client, hash, &name).await?,
            Input::Blob(hash, name) => upload.add_blob(blob_of(client, hash).await?, &name)?,
        }
    }
    upload.send(client).await
}

/// Refuses files for a job that does not work in a directory of its own.
pub(super) fn check_directory(draft: &Draft) -> Result<(), Failure> {
    let spec = &draft.submission.spec;
    let has_files = !draft.inputs.is_empty() || spec.inputs.is_some() || !spec.outputs.is_empty();
    let is_elsewhere = spec.task.directory().is_some();
    if has_files && is_elsewhere {
        let message = "--input and --output are about the directory that a job has for itself, and --cwd names another";
        return Err(Failure::new(Kind::Usage, message).hint("leave --cwd out, or the files"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const HASH: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn an_input_is_a_path_or_a_hash_with_or_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::create_dir(&path).unwrap();
        let text = path.to_str().unwrap();
        let at = |text: &str, name: &str| Input::Path(PathBuf::from(text), name.to_owned());
        assert_eq!(parse_input(text).unwrap(), at(text, "data"));
        assert_eq!(parse_input(&format!("{text}/")).unwrap(), at(&format!("{text}/"), ""));
        assert_eq!(parse_input(&format!("{text}:in/x")).unwrap(), at(text, "in/x"));
        let odd = format!("{text}:b");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(parse_input(&odd).unwrap(), at(&odd, "data:b"), "what is there is what is meant");
        let hash: Hash = HASH.parse().unwrap();
        assert_eq!(parse_input(HASH).unwrap(), Input::Tree(hash, String::new()));
        assert_eq!(parse_input(&format!("{HASH}:a/b")).unwrap(), Input::Blob(hash, "a/b".to_owned()));
        assert_eq!(parse_input(&format!("{HASH}:a/")).unwrap(), Input::Tree(hash, "a".to_owned()));
    }

    #[test]
    fn what_is_not_there_or_leads_out_is_refused() {
        for (text, what) in [
            ("/nowhere/x", "there is no file /nowhere/x"),
            ("abc:name", "there is no file abc:name"),
            (&format!("{HASH}:../x"), "can't be in a tree"),
            (&format!("{HASH}:/etc/x"), "can't be in a tree"),
            ("/tmp:", "can't be in a tree"),
        ] {
            let error = parse_input(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
