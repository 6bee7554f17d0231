//! The forms in which a table of Oban comes: its SQLite file, or a dump as CSV or as lines of JSON.

use std::ops::ControlFlow;
use std::path::Path;

use jobmesh_store::{ForeignCell, SQLITE_MAGIC, read_foreign_table};
use serde_json::{Map, Value};

use super::csv::{Field, Records};
use super::record::{COLUMNS, Row};
use super::{Options, Reader};
use crate::import::{ImportError, LINE_BYTES_MAX, Plan, check_lines};

/// The table.
const TABLE: &str = "oban_jobs";
/// Columns that a dump can't do without.
const COLUMNS_NEEDED: [&str; 4] = ["id", "state", "worker", "args"];

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A SQLite file.
    Sqlite,
    /// A JSON object on each line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl Form {
    /// Tells the form of a file by how it begins.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        if start.starts_with(SQLITE_MAGIC) {
            return Self::Sqlite;
        }
        match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Self::JsonLines,
            Some(_) | None => Self::Csv,
        }
    }
}

/// Reads a dump that is called `source`.
///
/// # Errors
/// [`ImportError`] says where the dump is not that of Oban's table.
pub fn read(source: &str, text: &str, options: &Options<'_>) -> Result<Plan, ImportError> {
    check_lines(text)?;
    let mut reader = Reader::new(source, *options);
    match Form::of(text.as_bytes()) {
        Form::JsonLines => json_lines(text, &mut reader)?,
        Form::Csv | Form::Sqlite => csv(text, &mut reader)?,
    }
    Ok(reader.finish())
}

/// Reads the table out of a SQLite file, which is called `source`.
///
/// # Errors
/// [`ImportError`] if the file can't be read or its table is not Oban's.
pub fn read_sqlite(source: &str, path: &Path, options: &Options<'_>) -> Result<Plan, ImportError> {
    let mut reader = Reader::new(source, *options);
    let mut failed = None;
    read_foreign_table(path, TABLE, &COLUMNS, &mut |number, cells| {
        let taken = columns(number, cells).and_then(|(place, columns)| Row::parse(&place, &columns));
        match taken.and_then(|row| reader.take(&row)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or_else(|| Ok(reader.finish()), Err)
}

fn columns(number: u64, cells: Vec<ForeignCell>) -> Result<(String, Map<String, Value>), ImportError> {
    let place = format!("row {number}");
    let mut columns = Map::new();
    for (name, cell) in COLUMNS.iter().zip(cells) {
        let value = match cell {
            ForeignCell::Null => Value::Null,
            ForeignCell::Integer(number) => Value::from(number),
            ForeignCell::Real(number) => Value::from(number),
            ForeignCell::Text(text) => Value::String(text),
            ForeignCell::Blob(bytes) => {
                // `jsonb` of SQLite has no text form that other programs could rely on.
                let problem = format!("its {name} is {} bytes of no text", bytes.len());
                return Err(ImportError::Form { place, problem });
            }
        };
        columns.insert((*name).to_owned(), value);
    }
    Ok((place, columns))
}

fn json_lines(text: &str, reader: &mut Reader<'_>) -> Result<(), ImportError> {
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        let place = format!("line {line}");
        let parsed = serde_json::from_str::<Map<String, Value>>(content);
        let columns = parsed.map_err(|source| ImportError::Json { what: format!("JSON on {place}"), source })?;
        reader.take(&Row::parse(&place, &columns)?)?;
    }
    Ok(())
}

fn csv(text: &str, reader: &mut Reader<'_>) -> Result<(), ImportError> {
    let mut records = Records::new(text.trim_start_matches('\u{feff}'));
    let header = records.record()?.map(|(_, fields)| fields).unwrap_or_default();
    let names: Vec<String> = header.into_iter().map(Option::unwrap_or_default).collect();
    if let Some(missing) = COLUMNS_NEEDED.into_iter().find(|needed| !names.iter().any(|name| name == needed)) {
        return Err(ImportError::Header { missing });
    }
    while let Some((line, fields)) = records.record()? {
        if fields.len() != names.len() {
            return Err(ImportError::Record { line, found: fields.len(), wanted: names.len() });
        }
        if fields.iter().flatten().map(String::len).sum::<usize>() > LINE_BYTES_MAX {
            return Err(ImportError::LineTooLong { line });
        }
        let value = |field: Field| field.map_or(Value::Null, Value::String);
        let columns = names.iter().cloned().zip(fields.into_iter().map(value)).collect();
        reader.take(&Row::parse(&format!("line {line}"), &columns)?)?;
    }
    Ok(())
}
