//! Why a source is not what it should be, each time with the place.

use super::{ITEMS_MAX, LINE_BYTES_MAX};

/// Why a source can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// More items than are imported at once.
    #[error("the source has more than {ITEMS_MAX} items; import it in parts, or use --since")]
    TooMany,
    /// A line longer than any item.
    #[error("line {line} has more than {LINE_BYTES_MAX} bytes")]
    LineTooLong {
        /// Its number, from 1.
        line: usize,
    },
    /// A NUL byte, which no text has.
    #[error("line {line} contains a NUL byte; is this the right file?")]
    Nul {
        /// Its number, from 1.
        line: usize,
    },
    /// Bytes that are no text.
    #[error("line {line} is not UTF-8; is this the right file?")]
    NotUtf8 {
        /// Its number, from 1.
        line: usize,
    },
    /// Too few fields in a line of a crontab.
    #[error("line {line} of the crontab has {found} fields; it needs {needed}")]
    Fields {
        /// Its number, from 1.
        line: usize,
        /// How many there are.
        found: usize,
        /// What there should be.
        needed: &'static str,
    },
    /// A line with seconds or years, as other programs have them.
    #[error("line {line} of the crontab has a sixth time field, {text:?}: it was not written for cron")]
    SixFields {
        /// Its number, from 1.
        line: usize,
        /// The sixth field.
        text: String,
    },
    /// A name for a time that cron does not have.
    #[error("line {line} of the crontab: cron knows no {text:?}")]
    TimeName {
        /// Its number, from 1.
        line: usize,
        /// The name.
        text: String,
    },
    /// A document that is no JSON or lacks what it must have.
    #[error("failed to read the {what}")]
    Json {
        /// Which document.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A part of a document that has another form than the program gives it.
    #[error("{place}: {problem}")]
    Form {
        /// Which item.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A table without a line that names its columns.
    #[error(
        "the first line must name the columns, among them {missing}; export with `COPY … TO … WITH (FORMAT csv, HEADER)`"
    )]
    Header {
        /// A column that is not named.
        missing: &'static str,
    },
    /// A record with another number of fields than the header.
    #[error("the record that starts on line {line} has {found} fields where the header has {wanted}")]
    Record {
        /// The number of its first line, from 1.
        line: usize,
        /// How many it has.
        found: usize,
        /// How many the header has.
        wanted: usize,
    },
    /// A quote that is never closed.
    #[error("the quote that opens on line {line} is never closed; is the file cut off?")]
    Quote {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The map of workers can't be read.
    #[error("failed to read the map {}", path.display())]
    Map {
        /// The file.
        path: std::path::PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// An entry of the map that says too little or too much.
    #[error("the map entry {worker:?} {problem}")]
    MapEntry {
        /// The worker.
        worker: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A database of another program can't be read.
    #[error(transparent)]
    Database(#[from] jobmesh_store::ForeignError),
}

/// Refuses texts that no program of these wrote: NUL bytes and endless lines.
pub(super) fn check_lines(text: &str) -> Result<(), ImportError> {
    for (line, content) in (1..).zip(text.split('\n')) {
        if content.contains('\0') {
            return Err(ImportError::Nul { line });
        }
        if content.len() > LINE_BYTES_MAX {
            return Err(ImportError::LineTooLong { line });
        }
    }
    Ok(())
}
