//! Shell texts with holes. A value never becomes part of the text: `{{url}}` turns into an expansion of the variable
//! `JOBMESH_PARAM_URL`, which the shell does not read as code.
//!
//! The hard case is the author's own quotes. In a bare place the expansion gets quotes, so that it stays one word;
//! in double quotes it must not, in single quotes and here-documents it could not be expanded rightly, so a hole
//! there is refused. Quotes are followed by a scan that knows nesting through `$( )`, but not all of the shell's
//! grammar: where it errs, a value may be split into words, but it is still not run.

use std::collections::BTreeSet;

use crate::job_types::template::{Part, Values, parts};

/// What the variables of parameters begin with.
const PREFIX: &str = "JOBMESH_PARAM_";

/// A text for `sh -c`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShellText {
    written: String,
    /// With expansions in the place of holes.
    text: String,
    names: BTreeSet<String>,
}

impl ShellText {
    /// Puts expansions in the place of holes.
    ///
    /// # Errors
    /// What the text must be: a hole is not closed, or stands where the shell expands nothing.
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        let mut scan = Scan::default();
        let mut text = String::new();
        let mut names = BTreeSet::new();
        for part in parts(written)? {
            match part {
                Part::Text(plain) => {
                    scan.read(&plain);
                    text.push_str(&plain);
                }
                Part::Hole(name) => {
                    text.push_str(&scan.expansion(&name)?);
                    names.insert(name);
                }
            }
        }
        Ok(Self { written: written.to_owned(), text, names })
    }

    /// As it was written.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// What the shell is given.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The parameters that it has holes for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The variables that carry the values.
    pub(super) fn variables(values: &Values) -> impl Iterator<Item = (String, String)> {
        values.iter().map(|(name, value)| (variable(name), value.clone()))
    }
}

/// The variable of a parameter.
fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase().replace('-', "_"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
    Comment,
}

/// Where in the shell's quotes a text has come to.
#[derive(Debug)]
struct Scan {
    quote: Quote,
    /// What the quotes were before each open `$(` or `(`.
    outer: Vec<Quote>,
    before: char,
    is_escaped: bool,
    has_here_document: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { quote: Quote::None, outer: Vec::new(), before: '\n', is_escaped: false, has_here_document: false }
    }
}

impl Scan {
    fn read(&mut self, text: &str) {
        for c in text.chars() {
            if self.is_escaped {
                self.is_escaped = false;
            } else {
                self.step(c);
            }
            self.before = c;
        }
    }

    fn step(&mut self, c: char) {
        match (self.quote, c) {
            (Quote::None | Quote::Double, '\\') => self.is_escaped = true,
            (Quote::None, '\'') => self.quote = Quote::Single,
            (Quote::Single, '\'') | (Quote::Double, '"') | (Quote::Comment, '\n') => self.quote = Quote::None,
            (Quote::None, '"') => self.quote = Quote::Double,
            (Quote::None, '#') if self.before.is_whitespace() || self.before == ';' => self.quote = Quote::Comment,
            (Quote::None, '(') => self.outer.push(Quote::None),
            (Quote::Double, '(') if self.before == '$' => {
                self.outer.push(Quote::Double);
                self.quote = Quote::None;
            }
            (Quote::None, ')') => self.quote = self.outer.pop().unwrap_or(Quote::None),
            (Quote::None, '<') if self.before == '<' => self.has_here_document = true,
            (Quote::None | Quote::Single | Quote::Double | Quote::Comment, _) => {}
        }
    }

    /// What stands for a hole here. Without a value, nothing: an option that was not given is an empty text.
    fn expansion(&mut self, name: &str) -> Result<String, String> {
        self.before = '}';
        let variable = variable(name);
        if self.has_here_document {
            return Err(format!("without {{{{{name}}}}} after <<; write ${{{variable}}} in the here-document"));
        }
        match self.quote {
            Quote::None | Quote::Comment => Ok(format!("\"${{{variable}-}}\"")),
            Quote::Double => Ok(format!("${{{variable}-}}")),
            Quote::Single => Err(format!(
                "without {{{{{name}}}}} in single quotes, where the shell expands nothing; use double quotes"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn text(written: &str) -> String {
        ShellText::parse(written).unwrap().text().replace(PREFIX, "")
    }

    #[test]
    fn a_hole_gets_quotes_unless_it_stands_in_some() {
        for (written, expected) in [
            ("cat {{a}}", "cat \"${A-}\""),
            ("cat \"x {{a}}\"", "cat \"x ${A-}\""),
            ("x=\"$(cat {{a}} \"{{b}}\")\" {{c}}", "x=\"$(cat \"${A-}\" \"${B-}\")\" \"${C-}\""),
            ("echo 'it''s' \\\" {{a}}", "echo 'it''s' \\\" \"${A-}\""),
            ("# don't\ncat {{a}}", "# don't\ncat \"${A-}\""),
            ("case {{a}} in x) y {{b}} ;; esac", "case \"${A-}\" in x) y \"${B-}\" ;; esac"),
            ("echo ${#x} {{a}}.part", "echo ${#x} \"${A-}\".part"),
        ] {
            assert_eq!(text(written), expected, "{written}");
        }
    }

    #[test]
    fn a_hole_where_nothing_is_expanded_is_refused() {
        assert!(ShellText::parse("awk '{{a}}'").unwrap_err().contains("single quotes"));
        assert!(ShellText::parse("cat <<E\n{{a}}\nE").unwrap_err().contains("here-document"));
    }
}
