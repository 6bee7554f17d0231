//! Reading a table out of another program's SQLite file, which is not changed by it.
//!
//! The file is not ours and may be hostile: only a real table is read, because a view could run for ever; nothing in
//! its schema may call functions; and a value larger than [`CELL_BYTES_MAX`] ends the reading.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

/// Largest value that is read: 1 MiB.
pub const CELL_BYTES_MAX: usize = 1024 * 1024;

/// How a SQLite file begins (<https://www.sqlite.org/fileformat.html> §1.3).
pub const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// A value of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum ForeignCell {
    /// No value, or no such column.
    Null,
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes that are no text.
    Blob(Vec<u8>),
}

/// Why a table can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// SQLite says no.
    #[error("failed to read the SQLite file {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// There is no such table.
    #[error("the SQLite file {} has no table {table:?}; is it the right one?", path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// A value that is larger than any that is read.
    #[error("row {row} of {} has a {column:?} of more than {CELL_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: u64,
        /// Its column.
        column: String,
    },
}

/// Gives each row of a table to `take`, in the order of its row ids, until that breaks.
///
/// A row has a cell for each of `columns`; one that the table lacks is null.
///
/// # Errors
/// [`ForeignError`] if there is no such table, a value is too large, or SQLite can't read the file.
pub fn read_foreign_table(
    path: &Path,
    table: &str,
    columns: &[&str],
    take: &mut dyn FnMut(u64, Vec<ForeignCell>) -> ControlFlow<()>,
) -> Result<(), ForeignError> {
    let sqlite = |source| ForeignError::Sqlite { path: path.to_owned(), source };
    let connection = open(path).map_err(sqlite)?;
    if !has_table(&connection, table).map_err(sqlite)? {
        return Err(ForeignError::NoTable { path: path.to_owned(), table: table.to_owned() });
    }
    let present = columns_of(&connection, table).map_err(sqlite)?;
    let wanted = columns.iter().map(|column| match present.iter().any(|name| name == column) {
        true => quoted(column),
        false => "NULL".to_owned(),
    });
    let list = wanted.collect::<Vec<_>>().join(", ");
    let mut statement =
        connection.prepare(&format!("SELECT {list} FROM {} ORDER BY rowid", quoted(table))).map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let mut number = 0;
    while let Some(row) = rows.next().map_err(sqlite)? {
        number += 1;
        let mut cells = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let value = row.get_ref(place).map_err(sqlite)?;
            let too_large =
                || ForeignError::TooLarge { path: path.to_owned(), row: number, column: (*column).to_owned() };
            cells.push(cell(value).ok_or_else(too_large)?);
        }
        if take(number, cells).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

fn has_table(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql NOT LIKE '%VIRTUAL%TABLE%'";
    connection.query_row(sql, [table], |_| Ok(())).optional().map(|found| found.is_some())
}

/// The stored columns of a table: a generated one is computed when it is read, and could take for ever.
fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The value, unless it is too large. Text that is no UTF-8 comes as bytes.
fn cell(value: ValueRef<'_>) -> Option<ForeignCell> {
    let is_small = |bytes: &[u8]| bytes.len() <= CELL_BYTES_MAX;
    match value {
        ValueRef::Null => Some(ForeignCell::Null),
        ValueRef::Integer(number) => Some(ForeignCell::Integer(number)),
        ValueRef::Real(number) => Some(ForeignCell::Real(number)),
        ValueRef::Text(bytes) if is_small(bytes) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => ForeignCell::Text(text.to_owned()),
            Err(_) => ForeignCell::Blob(bytes.to_owned()),
        }),
        ValueRef::Blob(bytes) if is_small(bytes) => Some(ForeignCell::Blob(bytes.to_owned())),
        ValueRef::Text(_) | ValueRef::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn file(directory: &Path, sql: &str) -> PathBuf {
        let path = directory.join("other.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    }

    fn read(path: &Path, columns: &[&str]) -> Result<Vec<Vec<ForeignCell>>, ForeignError> {
        let mut found = Vec::new();
        read_foreign_table(path, "jobs", columns, &mut |_, row| {
            found.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    #[test]
    fn rows_come_in_order_and_a_missing_column_is_null() {
        let directory = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE jobs (id INTEGER PRIMARY KEY, args TEXT); INSERT INTO jobs VALUES (2, 'b'), (1, 'a')";
        let path = file(directory.path(), sql);
        let rows = read(&path, &["id", "meta", "args"]).unwrap();
        let row =
            |id, args: &str| vec![ForeignCell::Integer(id), ForeignCell::Null, ForeignCell::Text(args.to_owned())];
        assert_eq!(rows, [row(1, "a"), row(2, "b")]);
    }

    #[test]
    fn what_is_no_table_of_a_sqlite_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let endless =
            "CREATE VIEW jobs AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n";
        let path = file(directory.path(), endless);
        assert!(matches!(read(&path, &["id"]), Err(ForeignError::NoTable { .. })));
        let none = directory.path().join("none.db");
        assert!(matches!(read(&none, &["id"]), Err(ForeignError::Sqlite { .. })));
        assert!(!none.exists(), "reading makes no file");
        let text = directory.path().join("text.db");
        std::fs::write(&text, "id\n1\n").unwrap();
        assert!(matches!(read(&text, &["id"]), Err(ForeignError::Sqlite { .. })));
    }

    #[test]
    fn a_value_beyond_the_limit_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE jobs (args TEXT); INSERT INTO jobs VALUES (zeroblob(1048577))";
        let path = file(directory.path(), sql);
        assert!(matches!(read(&path, &["args"]), Err(ForeignError::TooLarge { row: 1, .. })));
    }
}
