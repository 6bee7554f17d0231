//! A TOML document in which everything knows its line, and the one place where its values get their types.
//!
//! Numbers stay text until somebody asks for them in a range, so 0, -1 and 2^64 are judged by the same rule and
//! reported with the same words: the key, the value as it was written, what it must be, and, where it can be
//! guessed, what was meant.

use std::ops::{Range, RangeInclusive};

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::requirement::parse_size;
use jobmesh_protocol::schedule::{format_length, parse_length};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::causes::causes;
use crate::config::nearest::{list, nearest};

/// Most characters of a value that a message shows.
const SHOWN_MAX: usize = 60;
/// Most entries of a table or list: what a person writes has fewer, and looking up is linear.
const ENTRIES_MAX: usize = 4096;

/// Which document something was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One that is compiled in.
    BuiltIn,
    /// The one that a person wrote.
    File,
}

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The document.
    pub(crate) origin: Origin,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lined<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) problem: String,
}

impl Fault {
    pub(crate) fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into() }
    }

    /// The same with a remedy after it.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.problem = format!("{}; {hint}", self.problem);
        self
    }
}

/// The text of a document.
#[derive(Clone, Copy, Debug)]
struct Source<'d> {
    text: &'d str,
    origin: Origin,
}

impl Source<'_> {
    fn place(self, offset: usize) -> Place {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Place { line: before.iter().filter(|byte| **byte == b'\n').count() + 1, origin: self.origin }
    }
}

/// A document that is TOML; what its keys mean is not judged yet.
#[derive(Debug)]
pub(crate) struct Document<'d> {
    source: Source<'d>,
    root: Spanned<DeTable<'d>>,
}

impl<'d> Document<'d> {
    /// Reads the structure.
    pub(crate) fn parse(text: &'d str, origin: Origin) -> Result<Self, Fault> {
        let source = Source { text, origin };
        let root = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            Fault::new(source.place(span.start), syntax_problem(error.message(), text, span))
        })?;
        Ok(Self { source, root })
    }

    /// The whole of it.
    pub(crate) fn table(&self) -> Result<Table<'_>, Fault> {
        let place = Place { line: 1, origin: self.source.origin };
        Table::new(self.source, String::new(), place, self.root.get_ref())
    }
}

/// Says what the parser says, with the key and the remedy where it leaves them out.
fn syntax_problem(message: &str, text: &str, span: Range<usize>) -> String {
    let written = text.get(span.clone()).unwrap_or_default();
    let message = message.trim_end();
    if message.starts_with("duplicate key") {
        return format!("duplicate key `{}`; it is set twice in the same table, so keep one", clip(written));
    }
    let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let (key, written) = line.split_once('=').unwrap_or((line, ""));
    let (key, written) = (key.trim(), written.trim());
    if key.contains('/') && !key.contains(['"', '\'', '#', '[']) {
        return format!("a key with a slash must stand in quotes; write \"{}\" = …", clip(key));
    }
    // The parser guesses at what a bare word was to become, and not always well.
    if written.starts_with(|c: char| c.is_alphanumeric()) && !key.starts_with('#') {
        let written = clip(written.split('#').next().unwrap_or_default().trim());
        return format!("{key} is {written}, which is no value; write a text in quotes, such as {key} = \"{written}\"");
    }
    message.to_owned()
}

fn clip(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let is_whole = line.len() == text.trim_end().len() && line.chars().count() <= SHOWN_MAX;
    let short: String = line.chars().take(SHOWN_MAX).filter(|c| !c.is_control()).collect();
    if is_whole { short } else { format!("{short}…") }
}

/// One table.
#[derive(Debug)]
pub(crate) struct Table<'d> {
    source: Source<'d>,
    /// Its full name; empty for the document itself.
    path: String,
    place: Place,
    /// In the order in which they were written: key, where it stands, value.
    entries: Vec<(&'d str, usize, &'d Spanned<DeValue<'d>>)>,
}

impl<'d> Table<'d> {
    fn new(source: Source<'d>, path: String, place: Place, table: &'d DeTable<'d>) -> Result<Self, Fault> {
        let mut entries: Vec<_> =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span().start, value)).collect();
        if entries.len() > ENTRIES_MAX {
            return Err(Fault::new(place, format!("[{path}] has {} keys; the limit is {ENTRIES_MAX}", entries.len())));
        }
        entries.sort_by_key(|(_, at, _)| *at);
        Ok(Self { source, path, place, entries })
    }

    /// Where it begins.
    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    /// Its full name, as in its header.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Refuses a key that is not among `known`, naming the one that was probably meant. `sections` are other
    /// tables and their keys, in case it stands in the wrong one.
    pub(crate) fn check_keys(&self, known: &[&str], sections: &[(&str, &[&str])]) -> Result<(), Fault> {
        let Some((key, at, _)) = self.entries.iter().find(|(key, ..)| !known.contains(key)) else { return Ok(()) };
        let place = self.source.place(*at);
        let unknown = format!("unknown key `{}`", clip(key));
        if let Some(meant) = nearest(key, known) {
            return Err(Fault::new(place, format!("{unknown}; did you mean `{meant}`?")));
        }
        if let Some((section, _)) = sections.iter().find(|(_, keys)| keys.contains(key)) {
            let there =
                if section.is_empty() { "at the top of the file".to_owned() } else { format!("in [{section}]") };
            return Err(Fault::new(place, format!("{unknown} here; it belongs {there}")));
        }
        let here = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
        Err(Fault::new(place, format!("{unknown}{here}; it may have {}", list(known))))
    }

    /// The entry of this key.
    pub(crate) fn entry(&self, key: &str) -> Option<Entry<'d>> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|entry| self.wrap(entry))
    }

    /// What `read` makes of the entry of this key, if there is one.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Entry<'d>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.entry(key).map(|entry| read(&entry)).transpose()
    }

    /// Every entry with its key, in the order in which they were written.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'d str, Entry<'d>)> {
        self.entries.iter().map(|entry| (entry.0, self.wrap(entry)))
    }

    fn wrap(&self, (name, at, value): &(&'d str, usize, &'d Spanned<DeValue<'d>>)) -> Entry<'d> {
        let key = if self.path.is_empty() { (*name).to_owned() } else { format!("{}.{name}", self.path) };
        Entry { source: self.source, key, at: *at, span: value.span(), value: value.get_ref() }
    }
}

/// One key and its value, or one element of a list.
#[derive(Debug)]
pub(crate) struct Entry<'d> {
    source: Source<'d>,
    /// Its full name.
    key: String,
    /// Where the key stands.
    at: usize,
    span: Range<usize>,
    value: &'d DeValue<'d>,
}

impl<'d> Entry<'d> {
    /// Its full name.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Where it was written.
    pub(crate) fn place(&self) -> Place {
        self.source.place(self.at)
    }

    /// The value with its place.
    pub(crate) fn lined<T>(&self, value: T) -> Lined<T> {
        Lined { value, place: self.place() }
    }

    /// A fault of this entry: `problem` follows its key.
    pub(crate) fn fault(&self, problem: &str) -> Fault {
        Fault::new(self.place(), format!("{} {problem}", self.key))
    }

    /// The fault that its value was refused by the type that it is for.
    pub(crate) fn refused(&self, error: &dyn std::error::Error) -> Fault {
        self.fault(&format!("is wrong: {}", causes(error)))
    }

    /// The fault that its value is not what it must be.
    pub(crate) fn wrong(&self, wanted: &str) -> Fault {
        self.fault(&format!("is {}; it must be {wanted}", self.shown()))
    }

    /// The value as it was written, cut to size.
    pub(crate) fn shown(&self) -> String {
        if self.value.is_table() {
            return "a table".to_owned();
        }
        clip(self.source.text.get(self.span.clone()).unwrap_or_default())
    }

    /// Its text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    /// Whether it is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Whether it is a number.
    pub(crate) fn is_number(&self) -> bool {
        self.value.is_integer() || self.value.is_float()
    }

    /// Its truth, if it is one.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// A text that is not empty.
    pub(crate) fn text(&self) -> Result<Lined<String>, Fault> {
        match self.as_text() {
            Some("") => Err(self.wrong("a text that is not empty")),
            Some(text) => Ok(self.lined(text.to_owned())),
            None => Err(self.wrong("a text in quotes")),
        }
    }

    /// What `parse` makes of a text; its error is what the text must be.
    pub(crate) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Lined<T>, Fault> {
        let text = self.text()?;
        parse(&text.value).map(|value| self.lined(value)).map_err(|wanted| self.wrong(&wanted))
    }

    /// What a text stands for, of its kind's own `FromStr`, whose errors say what is wrong.
    pub(crate) fn spoken<T>(&self) -> Result<Lined<T>, Fault>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error,
    {
        let text = self.text()?;
        text.value.parse().map(|value| self.lined(value)).map_err(|error| self.refused(&error))
    }

    /// Yes or no.
    pub(crate) fn boolean(&self) -> Result<Lined<bool>, Fault> {
        self.as_bool().map(|is| self.lined(is)).ok_or_else(|| {
            let is_quoted = matches!(self.as_text(), Some("true" | "false"));
            self.wrong(if is_quoted { "true or false, so leave the quotes out" } else { "true or false" })
        })
    }

    /// A whole number in this range, which must be within that of `T`.
    pub(crate) fn whole<T: TryFrom<i128>>(&self, range: RangeInclusive<i128>) -> Result<Lined<T>, Fault> {
        let wanted = format!("{} to {}", range.start(), range.end());
        if let Some(number) = self.as_whole() {
            let number = number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
            return number.map(|number| self.lined(number)).ok_or_else(|| self.wrong(&wanted));
        }
        let is_quoted = self.as_text().is_some_and(|text| text.trim().parse::<i128>().is_ok());
        let remedy = if is_quoted { ", so leave the quotes out" } else { "" };
        Err(self.wrong(&format!("a whole number, {wanted}{remedy}")))
    }

    /// The number, if it is whole; the inner none is beyond everything.
    fn as_whole(&self) -> Option<Option<i128>> {
        self.value.as_integer().map(|number| i128::from_str_radix(number.as_str(), number.radix()).ok())
    }

    /// A length of time in this range.
    pub(crate) fn length(&self, range: RangeInclusive<DurationMillis>) -> Result<Lined<DurationMillis>, Fault> {
        self.length_or(None, range).map(|found| found.map(|length| length.unwrap_or_default()))
    }

    /// A length of time in this range, or a word that stands for none.
    pub(crate) fn length_or(
        &self,
        none: Option<&str>,
        range: RangeInclusive<DurationMillis>,
    ) -> Result<Lined<Option<DurationMillis>>, Fault> {
        let or = none.map(|word| format!(", or {word:?}")).unwrap_or_default();
        if none.is_some() && self.as_text() == none {
            return Ok(self.lined(None));
        }
        let wanted = format!("{} to {}{or}", format_length(*range.start()), format_length(*range.end()));
        let Some(length) = self.as_text().and_then(parse_length) else {
            let is_number = self.value.is_integer() || self.as_text().is_some_and(|text| text.parse::<u64>().is_ok());
            let remedy = if is_number { ", with its unit" } else { "" };
            return Err(self.wrong(&format!("a length of time such as \"30s\", \"5m\" or \"1h30m\"{or}{remedy}")));
        };
        if range.contains(&length) { Ok(self.lined(Some(length))) } else { Err(self.wrong(&wanted)) }
    }

    /// A number of bytes in this range, as a number or a text with a unit.
    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Result<Lined<u64>, Fault> {
        let wanted = format!("{} to {}", format_size(*range.start()), format_size(*range.end()));
        let found = match self.as_whole() {
            Some(number) => number.and_then(|number| u64::try_from(number).ok()),
            None => match self.as_text().map(parse_size) {
                Some(Some(size)) => Some(size),
                Some(None) | None => return Err(self.wrong("a size such as 4096, \"64KiB\" or \"1GiB\"")),
            },
        };
        let found = found.filter(|size| range.contains(size));
        found.map(|size| self.lined(size)).ok_or_else(|| self.wrong(&wanted))
    }

    /// The meaning of a word.
    pub(crate) fn word<T: Clone>(&self, words: &[(&str, T)]) -> Result<Lined<T>, Fault> {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let found = self.as_text().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| self.lined(meaning.clone())).ok_or_else(|| {
            let fault = self.wrong(&format!("one of {}", list(&all)));
            match self.as_text().and_then(|text| nearest(text, &all)) {
                Some(meant) => fault.hint(&format!("did you mean {meant:?}?")),
                None => fault,
            }
        })
    }

    /// The elements of a list of at most so many, each with its own line.
    pub(crate) fn elements(&self, most: usize) -> Result<Vec<Entry<'d>>, Fault> {
        let array = self.value.as_array().ok_or_else(|| {
            let remedy = if self.as_text().is_some() { ", so put the text into [ ]" } else { "" };
            self.wrong(&format!("a list such as [\"a\", \"b\"]{remedy}"))
        })?;
        if array.len() > most {
            return Err(self.fault(&format!("has {} elements; it must have {most} at most", array.len())));
        }
        let element = |(index, value): (usize, &'d Spanned<DeValue<'d>>)| Self {
            source: self.source,
            key: format!("{}[{index}]", self.key),
            at: value.span().start,
            span: value.span(),
            value: value.get_ref(),
        };
        Ok(array.iter().enumerate().map(element).collect())
    }

    /// What `read` makes of each element of a list of at most so many, or of a single value that is no list.
    pub(crate) fn list<T>(
        &self,
        most: usize,
        read: impl Fn(&Self) -> Result<Lined<T>, Fault>,
    ) -> Result<Lined<Vec<T>>, Fault> {
        let found: Result<Vec<T>, Fault> = self.elements(most)?.iter().map(|it| read(it).map(|it| it.value)).collect();
        found.map(|list| self.lined(list))
    }

    /// The table that it is.
    pub(crate) fn table(&self) -> Result<Table<'d>, Fault> {
        let table = self.value.as_table().ok_or_else(|| self.wrong(&format!("a table, such as [{}]", self.key)))?;
        Table::new(self.source, self.key.clone(), self.place(), table)
    }

    /// A text, number or truth as JSON has it.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Fault> {
        let float = || self.value.as_float().and_then(|number| number.as_str().parse::<f64>().ok());
        let wanted = "a text, a number, true or false";
        if let Some(text) = self.as_text() {
            return Ok(text.into());
        }
        if let Some(number) = self.as_whole() {
            let number = number.and_then(|number| i64::try_from(number).ok());
            return number.map(Into::into).ok_or_else(|| self.wrong("a number of at most 63 bits, or a text"));
        }
        if let Some(is) = self.as_bool() {
            return Ok(is.into());
        }
        let number = float().and_then(serde_json::Number::from_f64);
        number.map(serde_json::Value::Number).ok_or_else(|| self.wrong(wanted))
    }
}

impl<T> Lined<T> {
    /// The same place with what `change` makes of the value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Lined<U> {
        Lined { value: change(self.value), place: self.place }
    }
}

/// The value, wherever it was written.
pub(crate) fn value<T: Clone>(lined: Option<&Lined<T>>) -> Option<T> {
    lined.map(|lined| lined.value.clone())
}

/// Writes a number of bytes the way that sizes are read: in the largest unit that is exact.
pub(crate) fn format_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    exact.map_or_else(|| format!("{bytes}B"), |(unit, size)| format!("{}{unit}", bytes / size))
}
