//! Forward steps from every released schema to the newest one, each in a transaction of its own.

mod spec;

use rusqlite::Connection;

/// "jmsh": marks the file as ours (SQLite's `PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x6a6d_7368;

/// What takes a database from one schema to the next.
struct Step {
    sql: &'static str,
    /// What SQL can't do: bytes that are encoded otherwise from now on.
    recode: fn(&Connection) -> rusqlite::Result<()>,
}

/// Step N takes a database from schema N to N + 1.
const STEPS: &[Step] = &[
    Step { sql: include_str!("../sql/migrations/01-start.sql"), recode: |_| Ok(()) },
    Step { sql: include_str!("../sql/migrations/02-engine.sql"), recode: spec::recode },
];

/// The schema that this build writes.
pub(crate) fn newest() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Reads the schema number of an open database.
pub(crate) fn schema_of(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Runs every step that the database has not seen.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let from = schema_of(connection)?;
    // A table that others refer to can only be rebuilt while nobody checks; the setting ignores open transactions.
    connection.pragma_update(None, "foreign_keys", false)?;
    for (number, step) in (1..).zip(STEPS).skip(from as usize) {
        let txn = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        txn.execute_batch(step.sql)?;
        (step.recode)(&txn)?;
        txn.pragma_update(None, "application_id", APPLICATION_ID)?;
        txn.pragma_update(None, "user_version", number)?;
        txn.commit()?;
    }
    connection.pragma_update(None, "foreign_keys", true)
}
