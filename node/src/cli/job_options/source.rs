//! Where the work comes from: a command or other work, a declared type, or a file that holds a whole submission.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh::api::TypeRequest;
use jobmesh_protocol::Submission;
use jobmesh_protocol::task::{ProcessTask, Task};
use serde_json::Value;

use super::Draft;
use super::kind::KindOptions;
use crate::cli::failure::{Failure, Kind};
use crate::cli::selector::parse_pair;

/// Largest file of one submission: an array with all its items, however they are escaped.
const FILE_BYTES_MAX: u64 = 160 << 20;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What")]
pub(super) struct SourceOptions {
    /// A declared kind of job, see `jobmesh types`; beside a command, what learning groups it by
    /// [default: the name of the program]
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// A parameter of the declared kind (may be repeated)
    #[arg(short = 'P', value_name = "KEY=VALUE", value_parser = parse_pair, requires = "job_type",
          conflicts_with_all = ["file", "command", "kind"])]
    parameters: Vec<(String, String)>,
    /// A whole submission as TOML or JSON, `-` for what we read; further options are laid over it
    #[arg(long, short, value_name = "FILE|-", conflicts_with_all = ["shell", "command", "kind"])]
    file: Option<PathBuf>,
    /// Give the words after `--` to `sh -c` as one line
    #[arg(long, conflicts_with = "kind")]
    shell: bool,
    /// The command and its arguments; no shell reads them
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    #[command(flatten)]
    pub(super) kind: KindOptions,
}

impl SourceOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.file.is_some() || !self.command.is_empty() || self.kind.says_what()
    }

    /// The declared type that is to run, if that is what is to run.
    pub(super) fn declared(&self) -> Option<(String, TypeRequest)> {
        let name = self.job_type.clone().filter(|_| !self.says_what())?;
        let parameters = self.parameters.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        Some((name, TypeRequest { parameters: parameters.collect() }))
    }

    /// Refuses a parameter that is given twice: nobody could say which one was meant.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut names: Vec<&str> = self.parameters.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let mut pairs = names.iter().zip(names.iter().skip(1));
        match pairs.find(|(one, other)| one == other) {
            Some((twice, _)) => Err(Failure::new(Kind::Usage, format!("the parameter {twice} is given twice"))),
            None => Ok(()),
        }
    }

    /// How many of its options read what is piped in.
    pub(super) fn stdin_readers(&self) -> usize {
        usize::from(self.file.as_deref() == Some(Path::new("-"))) + self.kind.stdin_readers()
    }

    pub(super) fn draft(&self) -> Result<Draft, Failure> {
        if let Some(path) = &self.file {
            return read(path).map(Draft::whole);
        }
        if let Some(draft) = self.kind.draft(&self.command)? {
            return Ok(draft);
        }
        if self.command.is_empty() {
            let failure = Failure::new(Kind::Usage, "nothing says what to run");
            return Err(
                failure.hint("give the command after `--`, as in `jobmesh run -- echo hello`, other work such as --http or --llm, a declared kind of job with --type, or a file with -f")
            );
        }
        let argv = if self.shell { shell_line(&self.command) } else { self.command.clone() };
        Ok(Draft::of(program_name(&self.command, self.shell), Task::Process(ProcessTask::new(argv))))
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        if let Some(job_type) = self.job_type {
            draft.submission.spec.job_type = job_type;
        }
        self.kind.lay_over(draft)
    }
}

/// Reads a submission from a file, JSON or TOML by what it looks like.
fn read(path: &Path) -> Result<Submission, Failure> {
    let text = text(path, FILE_BYTES_MAX)?;
    let wrong = |problem: String| {
        Failure::new(Kind::File, format!("{} holds no submission: {problem}", path.display()))
            .hint("`jobmesh submit --dry-run -o json` with options shows one")
    };
    if text.starts_with("#!") {
        let message = format!("{} is a script and no submission", path.display());
        return Err(Failure::new(Kind::File, message).hint("run it with `jobmesh submit SCRIPT`"));
    }
    let is_json = text.trim_start().starts_with('{');
    if is_json {
        return serde_json::from_str(&text).map_err(|error| wrong(error.to_string()));
    }
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        wrong(format!("line {line}: {}", error.message()))
    })
}

/// Reads a whole text file, or what we read for `-`, up to a bound.
pub(super) fn text(path: &Path, limit: u64) -> Result<String, Failure> {
    use std::io::Read as _;
    let cant = |error: std::io::Error| Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()));
    let input: Box<dyn std::io::Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(cant)?)
    };
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes).map_err(cant)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(Kind::File, format!("{} is longer than {limit} bytes", path.display())));
    }
    plain(bytes).map_err(|line| Failure::new(Kind::File, format!("line {line} of {} is not UTF-8", path.display())))
}

/// The text of a file without the mark that editors put before it; or the number of the first line that is none.
fn plain(bytes: Vec<u8>) -> Result<String, usize> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn shell_line(words: &[String]) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), words.join(" ")]
}

/// The base name of the program: what ad-hoc work is grouped by. Of a shell line, that of its first word.
pub(super) fn program_name(command: &[String], is_shell_line: bool) -> String {
    let first = command.first().map(String::as_str).unwrap_or_default();
    let program = if is_shell_line { first.split_whitespace().next().unwrap_or(first) } else { first };
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_plain = !name.is_empty() && name.chars().all(|c| !c.is_control());
    if is_plain { name.to_owned() } else { "command".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_mark_and_a_line_that_is_no_text_is_named() {
        assert_eq!(plain("\u{feff}a\nb".into()), Ok("a\nb".to_owned()));
        assert_eq!(plain(b"a\nb\xff\n".to_vec()), Err(2));
        assert_eq!(plain(b"\xff".to_vec()), Err(1));
    }
}
