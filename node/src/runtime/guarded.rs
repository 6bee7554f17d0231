//! Runs that have secrets, and what must be taken out of what they say on the socket of tasks.
//!
//! Logs, results and outcomes pass through the executors, which see to that themselves. What a run says on the socket (its
//! progress, checkpoints, new jobs) does not, and all of it is kept in the database.
//!
//! **The hard case** is a daemon that ends in the middle: what a run has put into its result or its working directory
//! was not searched yet. So each such run has a mark on the disk from before its start until after its end, and the next
//! daemon removes what the marked ones left. Their processes are ended first: see [`super::adoption`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jobmesh_executors::{Redaction, Secrets, discard_unsearched};
use jobmesh_protocol::RunId;
use serde_json::Value;

use crate::home::Home;

/// The runs that have secrets. No more than there are slots and those that stand behind them.
#[derive(Debug)]
pub(super) struct Guarded {
    marks: PathBuf,
    runs: Mutex<BTreeMap<RunId, Redaction>>,
}

impl Guarded {
    pub(super) fn new(home: &Home) -> Self {
        Self { marks: home.guarded(), runs: Mutex::default() }
    }

    /// Looks for these in what a run reports, from before its start on, and marks it. Writes to the disk.
    ///
    /// # Errors
    /// What is wrong with the disk; then the run must not start.
    pub(super) fn watch(&self, run: RunId, secrets: &Secrets) -> io::Result<()> {
        let Some(redaction) = Redaction::of(secrets) else { return Ok(()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.marks)?;
        fs::File::create(self.marks.join(run.to_string()))?.sync_all()?;
        fs::File::open(&self.marks)?.sync_all()?;
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run, redaction);
        Ok(())
    }

    /// A run is over, was searched, and reports no more; or it never started.
    pub(super) fn forget(&self, run: RunId) {
        if self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&run).is_some() {
            self.unmark(run);
        }
    }

    fn unmark(&self, run: RunId) {
        match fs::remove_file(self.marks.join(run.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%run, %error, "failed to remove the mark of a run with secrets");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// What is to be taken out of what a run reports.
    pub(super) fn of(&self, run: RunId) -> Option<Redaction> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Removes what a run of an earlier daemon left that was not searched, if it is marked. Nothing of it may live.
    pub(super) fn discard(&self, home: &Home, run: RunId) {
        if !self.marks.join(run.to_string()).exists() {
            return;
        }
        match discard_unsearched(&home.run(run)) {
            Ok(()) => self.unmark(run),
            Err(error) => {
                let path = home.run(run);
                tracing::error!(path = %path.display(), %error, "what a run with secrets left can't be removed; remove it");
            }
        }
    }

    /// Does that for every marked run that does not go on.
    pub(super) fn discard_all(&self, home: &Home, goes_on: impl Fn(RunId) -> bool) {
        for entry in fs::read_dir(&self.marks).into_iter().flatten().flatten() {
            let run = entry.file_name().to_str().and_then(RunId::parse);
            if let Some(run) = run.filter(|run| self.of(*run).is_none() && !goes_on(*run)) {
                self.discard(home, run);
            }
        }
    }
}

/// Takes the secrets out of every text of a document, names included.
pub(super) fn clean(redaction: &Redaction, document: Value) -> Value {
    match document {
        Value::String(text) => Value::String(redaction.clean(&text)),
        Value::Array(items) => items.into_iter().map(|item| clean(redaction, item)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (redaction.clean(&name), clean(redaction, value))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_executors::{Secret, Stream, log_path, result_path};
    use jobmesh_protocol::{Epoch, JobId};

    use super::*;

    /// Where a run of any kind may have put a value that nobody has looked for yet: a command, one in a sandbox, one in a
    /// container.
    const UNSEARCHED: [&str; 8] = [
        "result",
        "outcome",
        "outcome.clean",
        "work/file",
        "words/result",
        "words/outcome",
        "exchange/result",
        "exchange/outcome",
    ];

    /// What a daemon left that was killed in the middle of a run with secrets.
    #[test]
    fn what_nobody_has_searched_is_removed_and_the_logs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&folder.path().join("home"))).unwrap();
        home.create().unwrap();
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN".to_owned(), "registry".to_owned(), Secret::new("hunter2".to_owned()));
        let [gone, adopted, plain, over] =
            [1, 2, 3, 4].map(|byte| RunId { job: JobId::from_bytes([byte; 16]), epoch: Epoch(1) });
        let earlier = Guarded::new(&home);
        for run in [gone, adopted, plain, over] {
            for place in UNSEARCHED {
                let path = home.run(run).join(place);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "hunter2").unwrap();
            }
            fs::write(log_path(&home.run(run), Stream::Stdout), "[secret registry]").unwrap();
            let none = Secrets::default();
            earlier.watch(run, if run == plain { &none } else { &secrets }).unwrap();
        }
        earlier.forget(over);
        assert!(earlier.of(gone).is_some() && earlier.of(plain).is_none() && earlier.of(over).is_none());
        let later = Guarded::new(&home);
        later.discard_all(&home, |run| run == adopted);
        let has_result = [gone, adopted, plain, over].map(|run| result_path(&home.run(run)).exists());
        assert_eq!(has_result, [false, true, true, true]);
        let left: Vec<_> = fs::read_dir(home.run(gone)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [log_path(&home.run(gone), Stream::Stdout)], "the log alone was searched");
        assert_eq!(fs::read_dir(home.guarded()).unwrap().count(), 1, "the adopted one");
        later.discard(&home, adopted);
        assert!(!result_path(&home.run(adopted)).exists());
    }
}
