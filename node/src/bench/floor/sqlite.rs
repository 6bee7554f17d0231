//! How fast SQLite commits, with the settings of the job database and a table like its job table.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::Commits;
use crate::bench::error::BenchError;
use crate::bench::plan::Sizes;
use crate::bench::report::Figure;
use crate::bench::statistics::Samples;
use crate::bench::stop::Stop;

/// Rows of one large commit.
const BULK: usize = 1000;
/// Large commits: enough for the log to be written back a few times.
const BULK_COMMITS: usize = 50;
/// Threads that wait for their own row each.
const WAITING: usize = 64;
/// Jobs that one commit completes, claiming as many.
const PAIRS: usize = 50;
/// Commits of that kind at most: the rows of all large commits.
const PAIR_COMMITS_MAX: usize = BULK * BULK_COMMITS / PAIRS;
/// What a small job takes in the job table.
const SPEC: [u8; 300] = [0x5a; 300];

/// Commits everything there is to commit, in a new database in `folder`.
pub(super) fn commits(folder: &Path, sizes: &Sizes, stop: &Stop) -> Result<Commits, BenchError> {
    let folder = folder.join("floor");
    let cant = |action| {
        let path = folder.clone();
        move |source| BenchError::File { action, path, source }
    };
    fs::create_dir_all(&folder).map_err(cant("make"))?;
    let found = in_new_table(folder.join("floor.db"), sizes, stop);
    // Also after a failure: the next part measures its own floors in the same place.
    fs::remove_dir_all(&folder).map_err(cant("remove"))?;
    found
}

fn in_new_table(path: PathBuf, sizes: &Sizes, stop: &Stop) -> Result<Commits, BenchError> {
    let mut table = Table::open(path)?;
    let singles = table.singles(sizes.commits, stop)?;
    let group = table.group(sizes.group_commit, stop)?;
    let bulk = table.bulk(stop)?;
    let pairs = table.pairs(sizes.commits.min(PAIR_COMMITS_MAX), stop)?;
    Ok(Commits { single: Figure::rate(singles.len(), singles.total()), median: singles.median(), bulk, group, pairs })
}

/// The table of the floor.
struct Table {
    connection: Connection,
    next: u64,
}

impl Table {
    fn open(path: PathBuf) -> Result<Self, BenchError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE job (id BLOB PRIMARY KEY, number INTEGER NOT NULL, priority INTEGER NOT NULL, \
             state TEXT NOT NULL, spec BLOB NOT NULL) STRICT; \
             CREATE INDEX job_ready ON job (priority DESC, number) WHERE state = 'available'; \
             CREATE INDEX job_running ON job (number) WHERE state = 'running';",
        )?;
        Ok(Self { connection, next: 1 })
    }

    /// Inserts `count` rows in one commit.
    fn insert(&mut self, count: usize) -> Result<(), BenchError> {
        let txn = self.connection.transaction()?;
        {
            let mut insert = txn.prepare_cached("INSERT INTO job VALUES (?1, ?2, 0, 'available', ?3)")?;
            for _ in 0..count {
                let id = u128::from(self.next).to_be_bytes();
                insert.execute(params![id, self.next, SPEC])?;
                self.next += 1;
            }
        }
        Ok(txn.commit()?)
    }

    fn singles(&mut self, count: usize, stop: &Stop) -> Result<Samples, BenchError> {
        let mut samples = Samples::default();
        for _ in 0..count {
            stop.check()?;
            let start = Instant::now();
            self.insert(1)?;
            samples.add(start.elapsed());
        }
        Ok(samples)
    }

    fn bulk(&mut self, stop: &Stop) -> Result<Figure, BenchError> {
        let start = Instant::now();
        for _ in 0..BULK_COMMITS {
            stop.check()?;
            self.insert(BULK)?;
        }
        Ok(Figure::rate(BULK * BULK_COMMITS, start.elapsed()))
    }

    /// Commits for `length` whatever has come together meanwhile; each row's thread hears of its commit before it
    /// asks for the next.
    fn group(&mut self, length: Duration, stop: &Stop) -> Result<Figure, BenchError> {
        let is_over = AtomicBool::new(false);
        // One question a thread can be open, so no thread ever waits to ask.
        let (ask, asked) = sync_channel(WAITING);
        thread::scope(|scope| {
            for _ in 0..WAITING {
                let ask = ask.clone();
                let is_over = &is_over;
                scope.spawn(move || await_rows(&ask, is_over));
            }
            drop(ask);
            let start = Instant::now();
            let mut rows = 0;
            let counted = loop {
                if start.elapsed() >= length {
                    break Ok(Figure::rate(rows, start.elapsed()));
                }
                match stop.check().and_then(|()| self.commit_waiting(&asked)) {
                    Ok(count) => rows += count,
                    Err(error) => break Err(error),
                }
            };
            is_over.store(true, Ordering::Relaxed);
            // Whoever still waits is let go when the channel is closed.
            drop(asked);
            counted
        })
    }

    fn commit_waiting(&mut self, asked: &Receiver<SyncSender<()>>) -> Result<usize, BenchError> {
        let Ok(first) = asked.recv() else { return Ok(0) };
        let mut waiting = vec![first];
        waiting.extend(asked.try_iter());
        self.insert(waiting.len())?;
        for answer in &waiting {
            // The thread may have seen the end in between.
            let _ = answer.try_send(());
        }
        Ok(waiting.len())
    }

    /// Completes what the last commit claimed and claims the next, so often.
    fn pairs(&mut self, count: usize, stop: &Stop) -> Result<Figure, BenchError> {
        let mut claimed: Vec<Vec<u8>> = Vec::new();
        let (start, mut completed) = (Instant::now(), 0);
        for _ in 0..count {
            stop.check()?;
            let txn = self.connection.transaction()?;
            {
                let mut complete = txn.prepare_cached("UPDATE job SET state = 'completed' WHERE id = ?1")?;
                for id in &claimed {
                    completed += complete.execute([id])?;
                }
                let sql = "SELECT id FROM job WHERE state = 'available' ORDER BY priority DESC, number LIMIT ?1";
                let mut next = txn.prepare_cached(sql)?;
                claimed = next.query_map([PAIRS], |row| row.get(0))?.collect::<Result<_, _>>()?;
                let mut claim = txn.prepare_cached("UPDATE job SET state = 'running' WHERE id = ?1")?;
                for id in &claimed {
                    claim.execute([id])?;
                }
            }
            txn.commit()?;
        }
        Ok(Figure::rate(completed, start.elapsed()))
    }
}

/// Asks for a row and waits until it is on disk, until it is over.
fn await_rows(ask: &SyncSender<SyncSender<()>>, is_over: &AtomicBool) {
    let (answer, answered) = sync_channel(1);
    while !is_over.load(Ordering::Relaxed) {
        if ask.send(answer.clone()).is_err() {
            return;
        }
        loop {
            match answered.recv_timeout(Duration::from_millis(50)) {
                Ok(()) => break,
                Err(_) if is_over.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn every_kind_of_commit_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        let mut table = Table::open(folder.path().join("floor.db")).unwrap();
        assert_eq!(table.singles(3, &stop).unwrap().len(), 3);
        let Figure::PerSecond(group) = table.group(Duration::from_millis(50), &stop).unwrap() else { panic!() };
        assert!(group > 0.0);
        table.insert(200).unwrap();
        let Figure::PerSecond(pairs) = table.pairs(3, &stop).unwrap() else { panic!() };
        assert!(pairs > 0.0);
        let count = |state: &str| -> usize {
            let sql = "SELECT count(*) FROM job WHERE state = ?1";
            table.connection.query_row(sql, [state], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("completed"), count("running")), (2 * PAIRS, PAIRS));
        stop.stop();
        assert!(matches!(table.group(Duration::from_secs(60), &stop), Err(BenchError::Interrupted)));
    }
}
