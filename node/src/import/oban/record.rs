//! One row of `oban_jobs`, whatever form it came in.
//!
//! Columns are those of Oban's migrations up to version 14: older tables lack some, and have fewer states.

use jobmesh_protocol::UnixMillis;
use serde_json::{Map, Value};

use crate::import::{ImportError, parse_time};

/// The columns that are read.
pub(super) const COLUMNS: [&str; 12] = [
    "id",
    "state",
    "queue",
    "worker",
    "args",
    "meta",
    "tags",
    "attempt",
    "max_attempts",
    "priority",
    "inserted_at",
    "scheduled_at",
];

/// How often Oban tries a job that says nothing about it.
const MAX_ATTEMPTS_DEFAULT: u32 = 20;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) state: State,
    pub(super) queue: String,
    pub(super) worker: String,
    pub(super) args: Map<String, Value>,
    pub(super) meta: Map<String, Value>,
    pub(super) tags: Vec<String>,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) priority: i32,
    pub(super) inserted_at: Option<UnixMillis>,
    pub(super) scheduled_at: Option<UnixMillis>,
}

/// Where a job of Oban is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Suspended,
    Scheduled,
    Available,
    Executing,
    Retryable,
    Completed,
    Discarded,
    Cancelled,
    /// A word that no version of Oban has.
    Unknown(String),
}

impl State {
    fn parse(text: String) -> Self {
        match text.as_str() {
            "suspended" => Self::Suspended,
            "scheduled" => Self::Scheduled,
            "available" => Self::Available,
            "executing" => Self::Executing,
            "retryable" => Self::Retryable,
            "completed" => Self::Completed,
            "discarded" => Self::Discarded,
            "cancelled" => Self::Cancelled,
            _ => Self::Unknown(text),
        }
    }

    /// Whether Oban would never run it again.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

impl Row {
    /// Checks the columns of a row that stands at `place`.
    ///
    /// # Errors
    /// [`ImportError::Form`] names the column that is missing or has another form.
    pub(super) fn parse(place: &str, columns: &Map<String, Value>) -> Result<Self, ImportError> {
        let fields = Fields { place, columns };
        let state = fields.text("state")?.ok_or_else(|| fields.wrong("state", "is missing"))?;
        let worker = fields.text("worker")?.ok_or_else(|| fields.wrong("worker", "is missing"))?;
        Ok(Self {
            id: fields.integer("id")?.ok_or_else(|| fields.wrong("id", "is missing"))?,
            state: State::parse(state),
            queue: fields.text("queue")?.unwrap_or_else(|| "default".to_owned()),
            worker: worker.strip_prefix("Elixir.").unwrap_or(&worker).to_owned(),
            args: fields.object("args")?,
            meta: fields.object("meta")?,
            tags: fields.list("tags")?,
            attempt: fields.number("attempt")?.unwrap_or(0),
            max_attempts: fields.number("max_attempts")?.unwrap_or(MAX_ATTEMPTS_DEFAULT),
            priority: fields.number("priority")?.unwrap_or(0),
            inserted_at: fields.time("inserted_at")?,
            scheduled_at: fields.time("scheduled_at")?,
        })
    }

    /// The arguments as JSON, keys in order: the same from every form.
    pub(super) fn args_text(&self) -> String {
        let mut args = Value::Object(self.args.clone());
        args.sort_all_objects();
        args.to_string()
    }

    /// How many attempts it has left. One that was cut off in the middle did not count.
    pub(super) fn attempts_left(&self) -> u32 {
        let cut_off = u32::from(self.state == State::Executing);
        self.max_attempts.saturating_sub(self.attempt.saturating_sub(cut_off))
    }
}

/// Reads columns by name.
struct Fields<'f> {
    place: &'f str,
    columns: &'f Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, column: &str, problem: &str) -> ImportError {
        ImportError::Form { place: self.place.to_owned(), problem: format!("its {column} {problem}") }
    }

    fn column(&self, name: &str) -> Option<&Value> {
        self.columns.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, ImportError> {
        match self.column(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(self.wrong(name, "is empty")),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(name, &format!("is {}, not a text", kind(other)))),
        }
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, ImportError> {
        let Some(value) = self.column(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(name, &format!("is {}, not a whole number", kind(value))))
    }

    fn number<N: TryFrom<i64>>(&self, name: &str) -> Result<Option<N>, ImportError> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        N::try_from(number).map(Some).map_err(|_| self.wrong(name, &format!("is {number}, which is out of range")))
    }

    fn time(&self, name: &str) -> Result<Option<UnixMillis>, ImportError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_time(&text).map(Some).ok_or_else(|| self.wrong(name, &format!("is {text:?}, which is no time")))
    }

    fn object(&self, name: &str) -> Result<Map<String, Value>, ImportError> {
        match self.json(name)? {
            None => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields),
            Some(other) => Err(self.wrong(name, &format!("is {}, not a JSON object", kind(&other)))),
        }
    }

    /// A list of texts: JSON, or an array as Postgres writes it.
    fn list(&self, name: &str) -> Result<Vec<String>, ImportError> {
        if let Some(Value::String(text)) = self.column(name)
            && text.starts_with('{')
        {
            return Ok(postgres_array(text));
        }
        match self.json(name)? {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                Ok(items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect())
            }
            Some(other) => Err(self.wrong(name, &format!("is {}, not a list", kind(&other)))),
        }
    }

    /// A value that may come as JSON or as a text that holds JSON.
    fn json(&self, name: &str) -> Result<Option<Value>, ImportError> {
        match self.column(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let parsed = serde_json::from_str(text);
                parsed.map(Some).map_err(|error| self.wrong(name, &format!("is no JSON: {error}")))
            }
            Some(value) => Ok(Some(value.clone())),
        }
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The texts of an array such as `{a,"b c","d\"e"}` (PostgreSQL manual, §8.15.6).
fn postgres_array(text: &str) -> Vec<String> {
    let inside = text.trim_start_matches('{').trim_end_matches('}');
    let mut items = Vec::new();
    let mut item = String::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in inside.chars() {
        match c {
            c if is_escaped => {
                item.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => items.push(std::mem::take(&mut item)),
            c => item.push(c),
        }
    }
    if !inside.is_empty() {
        items.push(item);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_postgres_is_taken_apart() {
        assert_eq!(postgres_array("{}"), Vec::<String>::new());
        assert_eq!(postgres_array(r#"{a,"b, c","d\"e"}"#), ["a", "b, c", "d\"e"]);
    }
}
