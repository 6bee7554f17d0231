//! The files of this machine that the jobs of a type begin with: `inputs = ["{{photos}}", "/srv/lib/", "{{table}}:in.csv"]`.
//!
//! Each is said as `--input` says it: a file or a directory under its own name or under the one behind the colon; with a
//! slash behind it, what is in the directory. They are read by the node when a job is made, so a job that waits, or runs
//! elsewhere, gets what was there then. **The hard case** is the value again: the colon is looked for in what the type
//! says, so none in a value names anything, and a name that leads out of the job's directory is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jobmesh_protocol::tree::check_path;

use crate::config::table::{Entry, Fault, Lined, Table};
use crate::job_types::template::{Template, Values};
use crate::job_types::{Names, ParameterError};

/// The key of this part.
pub(super) const KEYS: &[&str] = &["inputs"];
/// Most inputs of one type; each may be a directory.
const INPUTS_MAX: usize = 64;

/// What one file says of inputs; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Inputs {
    all: Option<Lined<Vec<InputTemplate>>>,
}

/// One of them, with holes.
#[derive(Clone, Debug, PartialEq)]
struct InputTemplate {
    written: String,
    path: Template,
    name: Option<Template>,
}

/// A file or a directory that a job begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it is on this machine; absolute.
    pub path: PathBuf,
    /// What the job finds it as; empty for what is in the directory.
    pub name: String,
}

impl Inputs {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self { all: table.read("inputs", |entry| entry.list(INPUTS_MAX, read_input))? })
    }

    /// What `self` says, else what `base` says.
    pub(super) fn over(self, base: Self) -> Self {
        Self { all: self.all.or(base.all) }
    }

    /// Checks that holes are for parameters. A schedule's jobs are made long after somebody could have looked.
    pub(super) fn check(&self, path: &str, names: &Names<'_>, is_scheduled: bool) -> Result<(), Fault> {
        let Some(Lined { value: all, place }) = &self.all else { return Ok(()) };
        for template in all.iter().flat_map(|input| std::iter::once(&input.path).chain(&input.name)) {
            names.check(&format!("{path}.inputs"), template, *place)?;
        }
        if is_scheduled && !all.is_empty() {
            let problem =
                format!("{path} has a schedule, whose jobs are all alike, and inputs, which are read for each");
            return Err(
                Fault::new(*place, problem).hint("let the job read the files, or submit it with `cron add --input`")
            );
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.as_ref().is_none_or(|all| all.value.is_empty())
    }

    /// The parameters that they have holes for.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let all = self.all.iter().flat_map(|all| &all.value);
        all.flat_map(|input| std::iter::once(&input.path).chain(&input.name)).flat_map(Template::names).collect()
    }

    /// As they are written.
    pub(super) fn written(&self) -> Vec<String> {
        self.all.iter().flat_map(|all| &all.value).map(|input| input.written.clone()).collect()
    }

    /// Those of a job with these values. One with a hole for a parameter that has none is left out.
    pub(super) fn fill(&self, values: &Values) -> Result<Vec<Input>, ParameterError> {
        let filled = self.all.iter().flat_map(|all| &all.value).filter_map(|input| input.fill(values));
        filled.collect()
    }
}

impl InputTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted =
            || "the absolute path of a file or a directory, with a name behind a colon if it needs one".to_owned();
        let (path, name) = text.rsplit_once(':').map_or((text, None), |(path, name)| (path, Some(name)));
        if !path.starts_with(['/', '{']) || name == Some("") {
            return Err(wanted());
        }
        let name = name.map(Template::parse).transpose()?;
        Ok(Self { written: text.to_owned(), path: Template::parse(path)?, name })
    }

    fn fill(&self, values: &Values) -> Option<Result<Input, ParameterError>> {
        let path = self.path.fill(values).ok()?;
        let name = self.name.as_ref().map(|name| name.fill(values)).transpose().ok()?;
        Some(input(&path, name).map_err(|problem| ParameterError::Input { path, problem }))
    }
}

/// What a path and a name, if one is given, are as an input.
fn input(path: &str, name: Option<String>) -> Result<Input, String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("it is no absolute path".to_owned());
    }
    let name = match name {
        Some(name) => name.strip_suffix('/').unwrap_or(&name).to_owned(),
        None if path.ends_with('/') => return Ok(Input { path: path.into(), name: String::new() }),
        None => {
            let last = Path::new(path).file_name().and_then(|last| last.to_str());
            last.ok_or("it needs a name; give one behind a colon")?.to_owned()
        }
    };
    check_path(&name).map_err(|error| error.to_string())?;
    Ok(Input { path: path.into(), name })
}

fn read_input(entry: &Entry<'_>) -> Result<Lined<InputTemplate>, Fault> {
    entry.text()?;
    entry.parsed(InputTemplate::parse)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn filled(text: &str, value: &str) -> Result<(String, String), String> {
        let values = Values::from([("x".to_owned(), value.to_owned())]);
        let input = InputTemplate::parse(text)?.fill(&values).unwrap().map_err(|error| error.to_string())?;
        Ok((input.path.to_str().unwrap().to_owned(), input.name))
    }

    #[test]
    fn an_input_has_its_own_name_another_or_none() {
        for (text, value, path, name) in [
            ("{{x}}", "/a/b.csv", "/a/b.csv", "b.csv"),
            ("{{x}}", "/a/b:c", "/a/b:c", "b:c"),
            ("/a/{{x}}:in/{{x}}", "b", "/a/b", "in/b"),
            ("/a/b/", "", "/a/b/", ""),
            ("/a/b/:lib/", "", "/a/b/", "lib"),
        ] {
            assert_eq!(filled(text, value).unwrap(), (path.to_owned(), name.to_owned()), "{text}");
        }
        let silent = InputTemplate::parse("{{y}}").unwrap();
        assert_eq!(silent.fill(&Values::new()), None);
    }

    #[test]
    fn what_leads_out_or_nowhere_is_refused() {
        for (text, value) in
            [("a", ""), ("/a:", ""), ("{{x}}", "b"), ("/a:{{x}}", "../b"), ("/a:{{x}}", "/b"), ("{{x}}", "/..")]
        {
            assert!(filled(text, value).is_err(), "{text} {value}");
        }
    }
}
