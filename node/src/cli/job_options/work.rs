//! What a command finds when it runs: its directory, its variables, its input; and what it is called.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::task::Task;

use super::Draft;
use super::source;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::note;
use crate::cli::selector::parse_pair;
use crate::client::Client;

/// Largest file of variables: many times what a job spec may hold.
const ENV_FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What")]
pub(super) struct WorkOptions {
    /// A name for people; need not be unique
    #[arg(long)]
    name: Option<String>,
    /// A label, to find it by (may be repeated)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    labels: Vec<(String, String)>,
    /// A variable for the command, module or script; without `=VALUE`, with the value that it has here (may be repeated)
    #[arg(long = "env", value_name = "KEY[=VALUE]", value_parser = parse_variable)]
    environment: Vec<(String, String)>,
    /// A file of variables, KEY=VALUE on each line (may be repeated)
    #[arg(long = "env-file", value_name = "FILE")]
    environment_files: Vec<PathBuf>,
    /// A secret of this node for the job, in this variable; it then stays here, or by --where goes to a peer that is entrusted
    /// with it (may be repeated)
    #[arg(long = "secret", value_name = "[VARIABLE=]NAME", value_parser = parse_secret)]
    secrets: Vec<(String, String)>,
    /// The directory to run in, on this machine only [default: an empty one of its own]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// What the command reads on standard input; `-` is what we read [default: nothing]
    #[arg(long, value_name = "FILE|-")]
    pub(super) stdin: Option<PathBuf>,
}

impl WorkOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let spec = &mut draft.submission.spec;
        spec.name = self.name.or_else(|| spec.name.take());
        spec.labels.extend(self.labels);
        spec.secrets.extend(self.secrets);
        draft.stdin = self.stdin.or_else(|| draft.stdin.take());
        let mut variables = Vec::new();
        for file in &self.environment_files {
            variables.extend(read_variables(file)?);
        }
        variables.extend(self.environment);
        if variables.is_empty() && self.cwd.is_none() {
            return Ok(());
        }
        if let Some(environment) = spec.task.environment_mut() {
            environment.extend(variables);
        } else if !variables.is_empty() {
            return Err(Failure::new(Kind::Usage, "--env and --env-file are for code that runs; this job runs none"));
        }
        let Some(path) = self.cwd else { return Ok(()) };
        let Task::Process(process) = &mut spec.task else {
            return Err(Failure::new(Kind::Usage, "--cwd is for commands of this machine; this job runs none"));
        };
        process.directory = Some(directory(&path)?);
        Ok(())
    }
}

/// The whole path of a directory of this machine.
pub(super) fn directory(path: &Path) -> Result<String, Failure> {
    let found = path.canonicalize().ok().filter(|found| found.is_dir());
    let missing = || Failure::new(Kind::File, format!("--cwd: {} is no directory", path.display()));
    utf8(found.ok_or_else(missing)?)
}

pub(super) fn utf8(path: PathBuf) -> Result<String, Failure> {
    let text = path.into_os_string().into_string();
    text.map_err(|path| Failure::new(Kind::Usage, format!("{} is not UTF-8", path.display())))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    if text.contains('=') {
        return parse_pair(text);
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(_) => Err(format!("{text} is not set here; write it as {text}=VALUE")),
    }
}

fn parse_secret(text: &str) -> Result<(String, String), String> {
    if text.contains('=') { parse_pair(text) } else { Ok((text.to_owned(), text.to_owned())) }
}

/// Reads the variables of a file: one a line, empty lines and those that begin with `#` left out, one pair of quotes
/// around a value taken off.
fn read_variables(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let text = source::text(path, ENV_FILE_BYTES_MAX)?;
    let mut variables = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim().trim_start_matches("export ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = parse_pair(line)
            .map_err(|error| Failure::new(Kind::File, format!("{} line {number}: {error}", path.display())))?;
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(&value).to_owned();
        variables.push((key.trim_end().to_owned(), value));
    }
    Ok(variables)
}

/// Sends a file, or what we read for `-`, to the node.
pub(super) async fn upload(client: &Client, path: PathBuf) -> Result<BlobRef, Failure> {
    if path.as_os_str() == "-" {
        return Ok(client.upload(tokio::io::stdin()).await?);
    }
    let failed = |error| Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()));
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    Ok(client.upload(file).await?)
}

/// Says that what is piped in stays here, if something is.
pub(super) fn mention_pipe(is_read: bool) {
    if is_read {
        return;
    }
    let status = rustix::fs::fstat(std::io::stdin());
    // A file or a terminal says nothing about what was meant.
    if status.is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode) == rustix::fs::FileType::Fifo) {
        note("what is piped in is not passed on to the job; add `--stdin -` if it should be");
    }
}
