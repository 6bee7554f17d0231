//! A script that says itself how it wants to be run: options in lines that begin with `#JM` and a blank, before its
//! first line of code. The idea is that of the directives of batch schedulers.
//!
//! ```text
//! #!/bin/bash
//! #JM --cpus 4 --mem 8G
//! #JM --name "nightly build"
//! make -j4
//! ```
//!
//! The script is run from where it is: what is in it when the job starts is what runs.

use std::path::{Path, PathBuf};

use clap::Parser;
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::task::{ProcessTask, Task};

use super::source::{program_name, text};
use super::work::utf8;
use super::{Draft, JobOptions};
use crate::cli::failure::{Failure, Kind};
use crate::cli::note;

/// Largest script: what is longer is no script.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;
/// What a line of options begins with.
const MARK: &str = "#JM";

/// A script with what it says of itself.
#[derive(Debug)]
pub(crate) struct Script {
    path: PathBuf,
    text: String,
    arguments: Vec<String>,
}

/// One line of options.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Directive {
    #[command(flatten)]
    options: JobOptions,
}

impl Script {
    /// Reads a script that is to be run with these arguments.
    ///
    /// # Errors
    /// [`Failure`] if it can't be read.
    pub(crate) fn read(path: &Path, arguments: Vec<String>) -> Result<Self, Failure> {
        let missing = |error| {
            Failure::new(Kind::File, format!("failed to read the script {}: {error}", path.display()))
                .hint("a command goes after `--`, as in `jobmesh submit -- echo hello`")
        };
        let whole = path.canonicalize().map_err(missing)?;
        let text = text(path, SCRIPT_BYTES_MAX)?;
        // What some editors put in front is no part of the first line.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(Self { path: whole, text, arguments })
    }

    pub(super) fn draft(&self) -> Result<Draft, Failure> {
        let path = utf8(self.path.clone())?;
        let mut argv = interpreter(&self.text);
        argv.push(path);
        let name = program_name(argv.get(argv.len() - 1..).unwrap_or_default(), false);
        argv.extend(self.arguments.iter().cloned());
        let mut draft = Draft::of(name, Task::Process(ProcessTask::new(argv)));
        for (line, number) in self.text.lines().zip(1..).take_while(|(line, _)| is_preamble(line)) {
            let Some(words) = options(line) else { continue };
            let at =
                |problem: &str| Failure::new(Kind::Usage, format!("{} line {number}: {problem}", self.path.display()));
            let words = split(words).ok_or_else(|| at("a quote is not closed"))?;
            let directive = Directive::try_parse_from(words).map_err(|error| at(&first_line(&error)))?;
            if directive.options.says_what() {
                return Err(at("the script is what runs; a #JM line can't name another command or file"));
            }
            directive.options.lay_over(&mut draft)?;
        }
        if let Some(number) = self.unread() {
            let words =
                format!("warning: {} line {number} is not read: #JM lines stand above the code", self.path.display());
            note(&words);
        }
        if draft.is_place_said && draft.submission.spec.scope != Scope::Local {
            return Err(self.elsewhere());
        }
        draft.submission.spec.scope = Scope::Local;
        draft.is_place_said = true;
        Ok(draft)
    }

    /// The first line that looks like options but stands below the first line of code.
    fn unread(&self) -> Option<usize> {
        let mut lines = (1..).zip(self.text.lines()).skip_while(|(_, line)| is_preamble(line));
        lines.find(|(_, line)| options(line).is_some()).map(|(at, _)| at)
    }

    fn elsewhere(&self) -> Failure {
        let message = format!("{} is a file of this machine, but the job may run on another one", self.path.display());
        Failure::new(Kind::Usage, message).hint("give it to a shell there: `--stdin SCRIPT -- sh -s`")
    }
}

/// What runs the script: what its first line says, else `sh`.
fn interpreter(text: &str) -> Vec<String> {
    let line = text.lines().next().and_then(|line| line.strip_prefix("#!")).unwrap_or("sh");
    // As the kernel does it: the program, and all the rest as one argument.
    let (program, argument) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let words = [program, argument.trim()];
    words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The options of a line, if it is one of options. `#JMeter` is a comment like any other.
fn options(line: &str) -> Option<&str> {
    line.strip_prefix(MARK).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a line comes before the code: a comment, or empty.
fn is_preamble(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// Splits a line into words as a shell does, quotes and backslashes included. `None` if a quote is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn script(text: &str) -> Script {
        Script { path: PathBuf::from("/x/build.sh"), text: text.to_owned(), arguments: vec!["all".to_owned()] }
    }

    #[test]
    fn a_script_says_how_it_wants_to_run() {
        let text =
            "#!/usr/bin/env bash\n#JM -p 3 --name \"nightly build\"\n\n# more\n#JM --retries 2\nmake\n#JM -p 9\n";
        let draft = script(text).draft().unwrap();
        assert_eq!(script(text).unread(), Some(7), "one below the code is told");
        let spec = &draft.submission.spec;
        assert_eq!((spec.priority, spec.name.as_deref(), spec.retry.max_attempts), (3, Some("nightly build"), 3));
        let Task::Process(process) = &spec.task else { unreachable!("a script is a process") };
        assert_eq!(process.argv, ["/usr/bin/env", "bash", "/x/build.sh", "all"]);
        assert_eq!((spec.job_type.as_str(), spec.scope), ("build.sh", Scope::Local));
    }

    /// `#JMX --name x` was refused for its options, or taken for them.
    #[test]
    fn a_word_that_begins_alike_is_a_comment() {
        let draft =
            script("#!/bin/sh\n#JMX --nonsense\n#JMeter\n#JM\n#JM\t--name x\nmake\n#JMX --y\n").draft().unwrap();
        assert_eq!(draft.submission.spec.name.as_deref(), Some("x"));
    }

    #[test]
    fn what_an_editor_puts_in_front_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.sh");
        std::fs::write(&path, "\u{feff}#!/bin/bash\n#JM --name x\nmake\n").unwrap();
        let draft = Script::read(&path, Vec::new()).unwrap().draft().unwrap();
        assert_eq!(draft.submission.spec.name.as_deref(), Some("x"));
        let Task::Process(process) = &draft.submission.spec.task else { unreachable!("a script is a process") };
        assert_eq!(process.argv.first().map(String::as_str), Some("/bin/bash"));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, problem) in [
            ("#JM --nonsense\n", "line 1"),
            ("#!/bin/sh\n#JM --name 'x\n", "line 2: a quote is not closed"),
            ("#JM -- rm\n", "can't name another command"),
            ("#JM --where mesh\n", "is a file of this machine"),
        ] {
            let failure = script(text).draft().unwrap_err();
            assert!(failure.text().contains(problem), "{}", failure.text());
        }
    }

    #[test]
    fn words_are_split_as_in_a_shell() {
        assert_eq!(split(r#" a  "b c" 'd "e' f\ g "" "#).unwrap(), ["a", "b c", "d \"e", "f g", ""]);
        assert_eq!(split("a \\"), None);
    }
}
