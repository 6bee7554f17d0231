//! Where words and data go: data to stdout, all the rest to stderr, colour only where a person looks.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::cli::failure::{Failure, Kind};
use crate::cli::yaml;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide screens
    Wide,
    /// One JSON document; one JSON line per event where something is followed
    Json,
    /// JSON lines: one for each thing that is listed
    Jsonl,
    /// One YAML document; JSON lines where something is followed
    Yaml,
    /// Names only, one a line: of jobs, their numbers
    Name,
}

/// How a piece of text stands out. Never carries a meaning of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// Like everything else.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Beside the point.
    Dim,
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// On its way.
    Busy,
}

/// Whether styles show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// They do.
    On,
    /// Plain text.
    Off,
}

impl Colour {
    /// Colour for a terminal, unless `NO_COLOR` is set to something (<https://no-color.org>).
    fn of_stdout() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if is_refused || is_dumb || !io::stdout().is_terminal() { Self::Off } else { Self::On }
    }

    /// Writes `text`, which is clean, in `style`.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match (self, style) {
            (Self::Off, _) | (Self::On, Style::Plain) => return text.to_owned(),
            (Self::On, Style::Bold) => "1",
            (Self::On, Style::Dim) => "2",
            (Self::On, Style::Good) => "32",
            (Self::On, Style::Bad) => "31",
            (Self::On, Style::Busy) => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Writes what a command has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: Colour,
}

impl Output {
    /// Output in `format` to where stdout leads.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, colour: Colour::of_stdout() }
    }

    /// Whether a program reads.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Whether a YAML document is wanted.
    const fn is_yaml(&self) -> bool {
        matches!(self.format, Format::Yaml)
    }

    /// Whether a table may be as wide as it likes.
    pub(crate) const fn is_wide(&self) -> bool {
        matches!(self.format, Format::Wide)
    }

    /// Whether it is people who read it.
    pub(crate) const fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether names are all that is wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        matches!(self.format, Format::Name)
    }

    /// How styles show.
    pub(crate) const fn colour(&self) -> Colour {
        self.colour
    }

    /// Writes a result: `value` for a program, else the lines that `text` makes of it.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(Colour) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.document(value),
            Format::Jsonl => self.line(value),
            Format::Yaml => self.yaml(value),
            Format::Table | Format::Wide | Format::Name => self.bytes(text(self.colour).as_bytes()),
        }
    }

    /// Writes one thing: `value` for a program, its `name`, or the lines that `text` makes of it.
    pub(crate) fn one<T: Serialize>(
        &self,
        value: &T,
        name: &str,
        text: impl FnOnce(Colour) -> String,
    ) -> Result<(), Failure> {
        if self.is_quiet() {
            return self.bytes(format!("{}\n", clean(name).replace('\n', " ")).as_bytes());
        }
        self.show(value, text)
    }

    /// Whether one document is wanted, and no lines.
    pub(crate) const fn is_document(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Writes a list: `whole` as one document or its `items` one by one for a program, their names, or the lines that
    /// `text` makes of it: on stderr if there is no item.
    pub(crate) fn list<T: Serialize, I: Serialize>(
        &self,
        (whole, items): (&T, &[I]),
        name: impl Fn(&I) -> String,
        text: impl FnOnce(Colour) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            // What is said where there is nothing is no data.
            Format::Table | Format::Wide if items.is_empty() => error_bytes(text(Colour::Off).as_bytes()),
            Format::Json | Format::Yaml | Format::Table | Format::Wide => self.show(whole, text),
            Format::Jsonl => items.iter().try_for_each(|item| self.line(item)),
            Format::Name => {
                let names: String = items.iter().map(|item| name(item) + "\n").collect();
                self.bytes(clean(&names).as_bytes())
            }
        }
    }

    /// Writes one YAML document.
    fn yaml<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let value = serde_json::to_value(value).map_err(|error| Failure::of(Kind::Internal, &error))?;
        self.bytes(without_controls(yaml::document(&value)).as_bytes())
    }

    /// Writes one JSON document.
    pub(crate) fn document<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        self.bytes(document(value)?.as_bytes())
    }

    /// Writes one JSON line of a stream.
    pub(crate) fn line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| Failure::of(Kind::Internal, &error))?;
        let mut line = without_controls(line);
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        output_bytes(bytes)
    }
}

/// A document of one list that is written item by item, since nobody knows how long it gets. If the rest does not come,
/// it is cut off, and the command fails.
#[derive(Debug)]
pub(crate) struct ListDocument {
    output: Output,
    key: &'static str,
    has_items: bool,
}

impl ListDocument {
    /// Begins the document `{key: [...]}` in the format of `output`, which is one of documents.
    pub(crate) const fn new(output: Output, key: &'static str) -> Self {
        Self { output, key, has_items: false }
    }

    /// Writes one item.
    pub(crate) fn add<T: Serialize>(&mut self, item: &T) -> Result<(), Failure> {
        let text = self.text_of(item)?;
        self.has_items = true;
        self.output.bytes(text.as_bytes())
    }

    /// Writes what comes behind the last item.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let empty: [u8; 0] = [];
        match (self.output.is_yaml(), self.has_items) {
            (_, false) => self.output.show(&serde_json::json!({ (self.key): empty }), |_| String::new()),
            (true, true) => Ok(()),
            (false, true) => self.output.bytes(JSON_END.as_bytes()),
        }
    }

    /// An item as it stands in the document: that of this item alone, without what is written already or comes later.
    fn text_of<T: Serialize>(&self, item: &T) -> Result<String, Failure> {
        let alone = serde_json::json!({ (self.key): [item] });
        let (text, head) = if self.output.is_yaml() {
            (without_controls(yaml::document(&alone)), format!("{}:\n", self.key))
        } else {
            (document(&alone)?, format!("{{\n  \"{}\": [", self.key))
        };
        let text = if self.output.is_yaml() { text.as_str() } else { text.strip_suffix(JSON_END).unwrap_or(&text) };
        if !self.has_items {
            return Ok(text.to_owned());
        }
        let item = text.strip_prefix(head.as_str()).unwrap_or(text);
        Ok(if self.output.is_yaml() { item.to_owned() } else { format!(",{item}") })
    }
}

/// The end of a JSON document of one list.
const JSON_END: &str = "\n  ]\n}\n";

/// Writes bytes to stdout as they are.
pub(crate) fn output_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written("stdout", stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes bytes to stderr as they are.
pub(crate) fn error_bytes(bytes: &[u8]) -> Result<(), Failure> {
    written("stderr", io::stderr().lock().write_all(bytes))
}

/// Says something beside the point, to people only.
pub(crate) fn note(text: &str) {
    // Nobody may be left to read stderr; that must not end what is being done.
    let _ = writeln!(io::stderr().lock(), "{}", clean(text));
}

/// Renders `value` as the one document that a command writes. `receipt verify` renders again and compares.
pub(crate) fn document<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::of(Kind::Internal, &error))?;
    let mut text = without_controls(text);
    text.push('\n');
    Ok(text)
}

/// Escapes the control characters that JSON leaves as they are, those from 7F to 9F: a document may be shown by a
/// terminal as well, and there they are commands.
fn without_controls(json: String) -> String {
    if !json.contains(is_bare_control) {
        return json;
    }
    let escaped = |c: char| if is_bare_control(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escaped).collect()
}

const fn is_bare_control(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}')
}

fn written(to: &str, result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Kind::Pipe, "nobody reads the output any more");
        }
        Failure::new(Kind::File, format!("failed to write to {to}: {error}"))
    })
}

/// Takes the control characters out of a text: names and messages come from other nodes, and an escape sequence
/// in one must not reach the terminal, nor may a mark that turns the direction make a text read as another.
pub(crate) fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        c if c.is_control() || turns_direction(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// Whether a character says in which direction those beside it are shown (the controls of Unicode UAX #9), or shows
/// nothing at all.
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_pass_for_something_else_is_taken_out() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\u{200b}d\u{7f}\te\nf"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd} e\nf");
    }

    #[test]
    fn a_document_means_the_same_without_control_characters() {
        let text = "a\u{7f}b\u{9b}2J\u{1b}\\u{85}é";
        let value = serde_json::json!({ text: [text] });
        for written in [document(&value).ok(), Some(without_controls(yaml::document(&value)))] {
            let written = written.unwrap_or_default();
            assert!(!written.chars().any(|c| c.is_control() && c != '\n'), "{written:?}");
            assert!(written.contains("a\\u007fb\\u009b2J"), "{written}");
        }
        let back: Option<serde_json::Value> = serde_json::from_str(&document(&value).unwrap_or_default()).ok();
        assert_eq!(back, Some(value));
    }

    #[test]
    fn a_list_written_item_by_item_is_the_document_of_all() {
        let items = [serde_json::json!({ "a": 1, "b": [] }), serde_json::json!({ "a": "x\ny" }), serde_json::json!(7)];
        let whole = serde_json::json!({ "all": items });
        for (format, wanted) in [(Format::Json, document(&whole).ok()), (Format::Yaml, Some(yaml::document(&whole)))] {
            let mut list = ListDocument::new(Output { format, colour: Colour::Off }, "all");
            let mut text = String::new();
            for item in &items {
                text += &list.text_of(item).unwrap_or_default();
                list.has_items = true;
            }
            let end = if format == Format::Json { JSON_END } else { "" };
            assert_eq!(Some(text + end), wanted);
        }
    }

    #[test]
    fn styles_show_only_where_they_may() {
        assert_eq!(Colour::Off.paint(Style::Bad, "x"), "x");
        assert_eq!(Colour::On.paint(Style::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Colour::On.paint(Style::Plain, "x"), "x");
    }
}
