//! Texts with holes: `{{url}}` stands for the value of the parameter `url`.
//!
//! A value is put into one text and stays in it: an argument with a hole is one argument whatever the value is.
//! Braces that hold no name are left alone, so that formats of other programs (`{{.Names}}`) pass; `{{{{` is a
//! literal `{{`.

use std::collections::{BTreeMap, BTreeSet};

/// The values of a job's parameters, checked, as text.
pub(super) type Values = BTreeMap<String, String>;

/// A text with holes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Hole(String),
}

impl Template {
    /// Finds the holes.
    ///
    /// # Errors
    /// What the text must be: a hole is not closed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { written: text.to_owned(), parts: parts(text)? })
    }

    /// As it was written.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// The parameters that it has holes for.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.parts.iter().filter_map(Part::name).collect()
    }

    /// Whether the text can begin with one of these, whatever its holes are filled with.
    pub(super) fn may_begin_with(&self, beginnings: &[&str]) -> bool {
        let is_open = |beginning: &str, plain: &str| self.parts.len() > 1 && beginning.starts_with(plain);
        match self.parts.first() {
            Some(Part::Text(plain)) => beginnings.iter().any(|one| plain.starts_with(one) || is_open(one, plain)),
            Some(Part::Hole(_)) => true,
            None => false,
        }
    }

    /// An address with every hole filled. A value stays in the part of the address that it stands in: only one that the
    /// address begins with is taken as it is.
    pub(super) fn fill_address(&self, values: &Values) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Hole(name) => {
                    let value = values.get(name).ok_or(name.as_str())?;
                    if text.is_empty() {
                        text.push_str(value);
                    } else {
                        push_escaped(&mut text, value);
                    }
                }
            }
        }
        Ok(text)
    }

    /// The text with every hole filled; the error is the parameter that has no value.
    pub(super) fn fill(&self, values: &Values) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(match part {
                Part::Text(text) => text,
                Part::Hole(name) => values.get(name).ok_or(name.as_str())?,
            });
        }
        Ok(text)
    }
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Hole(name) => Some(name),
            Self::Text(_) => None,
        }
    }
}

/// Writes everything that could mean something in an address as `%XX`.
fn push_escaped(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Splits a text at its holes.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix("{{") {
            plain.push_str("{{");
            rest = after;
            continue;
        }
        match hole(after)? {
            Some((name, after)) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Hole(name.to_owned()));
                rest = after;
            }
            None => {
                plain.push_str("{{");
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// The name in the hole that `text` begins with, and what follows it; `None` if it is no hole.
fn hole(text: &str) -> Result<Option<(&str, &str)>, String> {
    let inside = text.trim_start_matches(' ');
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(inside.len());
    let (name, after) = inside.split_at(end);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    match after.trim_start_matches(' ').strip_prefix("}}") {
        Some(after) if is_name => Ok(Some((name, after))),
        None if is_name && !after.contains("}}") => {
            Err(format!("closed: write {{{{{name}}}}}, or {{{{{{{{ for two braces that are no hole"))
        }
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn fill(text: &str) -> String {
        let values = Values::from([("url".to_owned(), "{{x}} $(id)".to_owned()), ("x".to_owned(), "1".to_owned())]);
        Template::parse(text).unwrap().fill(&values).unwrap()
    }

    #[test]
    fn holes_are_filled_once_and_other_braces_are_left_alone() {
        assert_eq!(fill("a{{url}}b{{ x }}"), "a{{x}} $(id)b1");
        assert_eq!(fill("{{.Names}} {{range .}} {} }} {{{{x}}"), "{{.Names}} {{range .}} {} }} {{x}}");
        assert_eq!(fill(""), "");
        assert_eq!(Template::parse("{{x}}{{x}}{{y}}").unwrap().names(), BTreeSet::from(["x", "y"]));
    }

    #[test]
    fn a_value_does_not_leave_its_part_of_an_address() {
        let values =
            Values::from([("q".to_owned(), "a b/../?x=1#é".to_owned()), ("u".to_owned(), "http://a/?b".to_owned())]);
        let fill = |text: &str| Template::parse(text).unwrap().fill_address(&values).unwrap();
        assert_eq!(fill("https://a.org/{{q}}?k=1"), "https://a.org/a%20b%2F..%2F%3Fx%3D1%23%C3%A9?k=1");
        assert_eq!(fill("{{u}}&q=z"), "http://a/?b&q=z");
    }

    #[test]
    fn a_hole_without_an_end_is_refused_and_one_without_a_value_is_named() {
        assert!(Template::parse("{{url}").unwrap_err().contains("write {{url}}"));
        assert_eq!(Template::parse("{{none}}").unwrap().fill(&Values::new()), Err("none"));
    }
}
