//! The parameters of a job type: what they are, and the check that a value passes before it gets anywhere.

use jobmesh_protocol::job::NAME_BYTES_MAX;
use serde_json::Value;

use crate::config::nearest::{list, nearest};
use crate::config::table::{Entry, Fault, Lined, Place, Table, value};

/// Most parameters of one type.
const PARAMETERS_MAX: usize = 64;
/// Most choices, prefixes or suffixes of one parameter.
const CHOICES_MAX: usize = 256;
/// Longest value: a quarter of what a whole job may have.
const VALUE_BYTES_MAX: usize = 16 * 1024;

const KEYS: &[&str] =
    &["type", "required", "default", "choices", "min", "max", "prefix", "suffix", "description", "example"];

const KINDS: &[(&str, Word)] = &[
    ("string", Word::Text),
    ("integer", Word::Integer),
    ("number", Word::Number),
    ("boolean", Word::Boolean),
    ("path", Word::Path),
    ("choice", Word::Choice),
];

/// What a parameter's value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A text.
    Text {
        /// Fewest and most letters.
        length: (Option<i64>, Option<i64>),
        /// How it may begin; empty is anyhow.
        prefix: Vec<String>,
        /// How it may end; empty is anyhow.
        suffix: Vec<String>,
    },
    /// A whole number between these, both included.
    Integer(Option<i64>, Option<i64>),
    /// A number between these, both included.
    Number(Option<f64>, Option<f64>),
    /// `true` or `false`.
    Boolean,
    /// An absolute path.
    Path {
        /// How it may end; empty is anyhow.
        suffix: Vec<String>,
    },
    /// One of these words.
    Choice(Vec<String>),
}

/// One parameter of a job type.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What its value may be.
    pub kind: Kind,
    /// Whether a job must give it, if it has no default.
    pub is_required: bool,
    /// Its value where a job gives none.
    pub default: Option<String>,
    /// A value that shows what is meant.
    pub example: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// The kinds as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Text,
    Integer,
    Number,
    Boolean,
    Path,
    Choice,
}

impl Parameter {
    /// Whether it always has a value.
    pub(super) const fn is_certain(&self) -> bool {
        self.is_required || self.default.is_some()
    }

    /// The text of a value that may be; the error is what it must be.
    pub(super) fn accept(&self, value: &Value) -> Result<String, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err(self.kind.words()),
        };
        if text.contains('\0') || text.len() > VALUE_BYTES_MAX {
            return Err(format!("at most {VALUE_BYTES_MAX} bytes without a NUL byte"));
        }
        let is_right = match &self.kind {
            Kind::Text { length: (least, most), prefix, suffix } => {
                let letters = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
                is_within(&letters, least.as_ref(), most.as_ref()) && is_framed(&text, prefix, suffix)
            }
            Kind::Integer(least, most) => {
                text.parse::<i64>().is_ok_and(|number| is_within(&number, least.as_ref(), most.as_ref()))
            }
            Kind::Number(least, most) => text
                .parse::<f64>()
                .is_ok_and(|number| number.is_finite() && is_within(&number, least.as_ref(), most.as_ref())),
            Kind::Boolean => text == "true" || text == "false",
            Kind::Path { suffix } => text.starts_with('/') && is_framed(&text, &[], suffix),
            Kind::Choice(choices) => return choose(text, choices),
        };
        if is_right { Ok(text) } else { Err(self.kind.words()) }
    }
}

fn choose(text: String, choices: &[String]) -> Result<String, String> {
    if choices.contains(&text) {
        return Ok(text);
    }
    let words: Vec<&str> = choices.iter().map(String::as_str).collect();
    let wanted = format!("one of {}", list(&words));
    Err(nearest(&text, &words).map_or(wanted.clone(), |meant| format!("{wanted}; did you mean {meant:?}?")))
}

fn is_within<T: PartialOrd>(number: &T, least: Option<&T>, most: Option<&T>) -> bool {
    least.is_none_or(|least| least <= number) && most.is_none_or(|most| number <= most)
}

fn is_framed(text: &str, prefix: &[String], suffix: &[String]) -> bool {
    let begins = prefix.is_empty() || prefix.iter().any(|prefix| text.starts_with(prefix));
    begins && (suffix.is_empty() || suffix.iter().any(|suffix| text.ends_with(suffix)))
}

impl Kind {
    /// The word for it in the file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Text { .. } => "string",
            Self::Integer(..) => "integer",
            Self::Number(..) => "number",
            Self::Boolean => "boolean",
            Self::Path { .. } => "path",
            Self::Choice(_) => "choice",
        }
    }

    /// What a value must be, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Text { length: (least, most), prefix, suffix } => {
                let letters =
                    range_words(*least, *most).map_or_else(String::new, |range| format!(" of {range} letters"));
                format!("a text{letters}{}", frame_words(prefix, suffix))
            }
            Self::Integer(least, most) => in_range("a whole number", range_words(*least, *most)),
            Self::Number(least, most) => in_range("a number", range_words(*least, *most)),
            Self::Boolean => "true or false".to_owned(),
            Self::Path { suffix } => format!("an absolute path{}", frame_words(&[], suffix)),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
        }
    }
}

fn in_range(what: &str, range: Option<String>) -> String {
    range.map_or_else(|| what.to_owned(), |range| format!("{what}, {range}"))
}

fn range_words<T: std::fmt::Display + PartialEq>(least: Option<T>, most: Option<T>) -> Option<String> {
    match (least, most) {
        (Some(least), Some(most)) if least == most => Some(format!("{least}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    }
}

fn frame_words(prefix: &[String], suffix: &[String]) -> String {
    let one = |how: &str, list: &[String]| {
        if list.is_empty() { String::new() } else { format!(" that {how} with {}", list.join(" or ")) }
    };
    format!("{}{}", one("begins", prefix), one("ends", suffix))
}

/// What one file says of a parameter; `None` where it is silent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ParameterDeclaration {
    place: Place,
    /// Its full name in the file, for messages.
    key: String,
    kind: Option<Lined<Word>>,
    is_required: Option<Lined<bool>>,
    default: Option<Lined<Value>>,
    example: Option<Lined<Value>>,
    choices: Option<Lined<Vec<String>>>,
    min: Option<Lined<Value>>,
    max: Option<Lined<Value>>,
    prefix: Option<Lined<Vec<String>>>,
    suffix: Option<Lined<Vec<String>>>,
    description: Option<Lined<String>>,
}

/// Reads the table `parameters`, in the order in which they were written.
pub(super) fn read_parameters(entry: &Entry<'_>) -> Result<Vec<(String, ParameterDeclaration)>, Fault> {
    let table = entry.table()?;
    check_shape(&table)?;
    let found = table.entries().map(|(name, it)| read(name, &it)).collect::<Result<Vec<_>, Fault>>()?;
    if found.len() > PARAMETERS_MAX {
        return Err(entry.fault(&format!("has {} parameters; the limit is {PARAMETERS_MAX}", found.len())));
    }
    Ok(found)
}

fn read(name: &str, entry: &Entry<'_>) -> Result<(String, ParameterDeclaration), Fault> {
    let is_led = name.starts_with(|c: char| c.is_ascii_lowercase());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !is_led || name.len() > NAME_BYTES_MAX || !name.chars().all(legal) {
        return Err(entry.fault("is no name of a parameter; it must be a-z, 0-9 and _, with a letter in front"));
    }
    let table = entry.table()?;
    table.check_keys(KEYS, &[])?;
    let json = |key| table.read(key, |entry| entry.json().map(|value| entry.lined(value)));
    let one_or_more = |key| {
        table.read(key, |entry| {
            if entry.is_list() {
                entry.list(CHOICES_MAX, Entry::text)
            } else {
                entry.text().map(|text| text.map(|text| vec![text]))
            }
        })
    };
    let declaration = ParameterDeclaration {
        place: entry.place(),
        key: entry.key().to_owned(),
        kind: table.read("type", |entry| entry.word(KINDS))?,
        is_required: table.read("required", Entry::boolean)?,
        default: json("default")?,
        example: json("example")?,
        choices: table.read("choices", |entry| entry.list(CHOICES_MAX, Entry::text))?,
        min: json("min")?,
        max: json("max")?,
        prefix: one_or_more("prefix")?,
        suffix: one_or_more("suffix")?,
        description: table.read("description", Entry::text)?,
    };
    Ok((name.to_owned(), declaration))
}

impl ParameterDeclaration {
    /// What `self` says, else what `base` says.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            place: self.place,
            key: self.key,
            kind: self.kind.or(base.kind),
            is_required: self.is_required.or(base.is_required),
            default: self.default.or(base.default),
            example: self.example.or(base.example),
            choices: self.choices.or(base.choices),
            min: self.min.or(base.min),
            max: self.max.or(base.max),
            prefix: self.prefix.or(base.prefix),
            suffix: self.suffix.or(base.suffix),
            description: self.description.or(base.description),
        }
    }

    /// The parameter, if everything that was said of it goes together.
    pub(super) fn resolve(&self, name: &str) -> Result<Parameter, Fault> {
        let kind = self.kind()?;
        let mut parameter = Parameter {
            name: name.to_owned(),
            kind,
            is_required: value(self.is_required.as_ref()).unwrap_or(false),
            default: None,
            example: None,
            description: value(self.description.as_ref()),
        };
        let accept = |lined: &Option<Lined<Value>>, key: &str| {
            let Some(Lined { value, place }) = lined else { return Ok(None) };
            let wrong = |wanted| Fault::new(*place, format!("{}.{key} is {value}; it must be {wanted}", self.key));
            parameter.accept(value).map(Some).map_err(wrong)
        };
        let (default, example) = (accept(&self.default, "default")?, accept(&self.example, "example")?);
        parameter.default = default;
        parameter.example = example;
        Ok(parameter)
    }

    fn kind(&self) -> Result<Kind, Fault> {
        let Some(Lined { value: word, .. }) = self.kind else {
            let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
            return Err(Fault::new(
                self.place,
                format!("{} has no type; it must be one of {}", self.key, list(&words)),
            ));
        };
        self.check_fitting(word)?;
        let texts = |lined: &Option<Lined<Vec<String>>>| value(lined.as_ref()).unwrap_or_default();
        Ok(match word {
            Word::Text => Kind::Text {
                length: self.bounds(Value::as_i64)?,
                prefix: texts(&self.prefix),
                suffix: texts(&self.suffix),
            },
            Word::Integer => {
                let (least, most) = self.bounds(Value::as_i64)?;
                Kind::Integer(least, most)
            }
            Word::Number => {
                let (least, most) = self.bounds(Value::as_f64)?;
                Kind::Number(least, most)
            }
            Word::Boolean => Kind::Boolean,
            Word::Path => Kind::Path { suffix: texts(&self.suffix) },
            Word::Choice => Kind::Choice(texts(&self.choices)),
        })
    }

    /// Refuses keys that mean nothing for this kind: a limit that does not hold must not be written down.
    fn check_fitting(&self, word: Word) -> Result<(), Fault> {
        let is_text = word == Word::Text;
        let is_counted = matches!(word, Word::Text | Word::Integer | Word::Number);
        let ends = is_text || word == Word::Path;
        let name = KINDS.iter().find(|(_, kind)| *kind == word).map_or("", |(name, _)| *name);
        let found = [
            ("choices", self.choices.as_ref().map(|it| it.place), word == Word::Choice),
            ("min", self.min.as_ref().map(|it| it.place), is_counted),
            ("max", self.max.as_ref().map(|it| it.place), is_counted),
            ("prefix", self.prefix.as_ref().map(|it| it.place), is_text),
            ("suffix", self.suffix.as_ref().map(|it| it.place), ends),
        ];
        for (key, place, is_fitting) in found {
            if let (Some(place), false) = (place, is_fitting) {
                return Err(Fault::new(place, format!("{}.{key} means nothing for the type {name}", self.key)));
            }
        }
        if word == Word::Choice && self.choices.as_ref().is_none_or(|choices| choices.value.is_empty()) {
            return Err(Fault::new(
                self.place,
                format!("{} has no choices; name them, such as choices = [\"a\"]", self.key),
            ));
        }
        Ok(())
    }

    fn bounds<T: PartialOrd>(&self, read: fn(&Value) -> Option<T>) -> Result<(Option<T>, Option<T>), Fault> {
        let bound = |lined: &Option<Lined<Value>>, key: &str| {
            let Some(Lined { value, place }) = lined else { return Ok(None) };
            let wrong =
                || Fault::new(*place, format!("{}.{key} is {value}; it must be a number of its type", self.key));
            read(value).map(Some).ok_or_else(wrong)
        };
        let (least, most) = (bound(&self.min, "min")?, bound(&self.max, "max")?);
        match (&self.min, &least, &most) {
            (Some(Lined { value, place }), Some(low), Some(high)) if low > high => {
                Err(Fault::new(*place, format!("{}.min is {value}; it must be at most {}.max", self.key, self.key)))
            }
            _ => Ok((least, most)),
        }
    }
}

/// Helps those who write `url = "string"`.
fn check_shape(table: &Table<'_>) -> Result<(), Fault> {
    match table.entries().find(|(_, entry)| !entry.is_table()) {
        Some((_, entry)) => Err(entry.wrong("a table, such as { type = \"string\", required = true }")),
        None => Ok(()),
    }
}
