//! What must be true of the databases and of the work itself once all is over: the guarantees that the README gives.
//!
//! They are read from the files of nodes that are down, and from what the jobs wrote: nothing here asks a node what it
//! thinks.

use std::collections::BTreeMap;
use std::path::Path;

use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::{MeshId, NodeId, Outcome};
use rusqlite::{Connection, OpenFlags, Row};

/// A job that its origin acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) number: u64,
    pub(crate) effects: Effects,
}

/// The jobs of a soak, each under the name that it writes into the marks.
pub(crate) type Jobs = BTreeMap<String, Acknowledged>;

/// The database of a node that is down.
pub(crate) struct Ledger(Connection);

impl Ledger {
    pub(crate) fn open(database: &Path) -> Self {
        // A daemon that was killed leaves a log that the first reader takes in.
        let ledger = Self(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap());
        assert_eq!(ledger.column::<String>("PRAGMA integrity_check", 0), ["ok"], "{}", database.display());
        ledger
    }

    fn rows<T>(&self, sql: &str, number: u64, read: impl Fn(&Row<'_>) -> T) -> Vec<T> {
        let mut statement = self.0.prepare(sql).unwrap();
        statement.query_map([number << 32], |row| Ok(read(row))).unwrap().map(Result::unwrap).collect()
    }

    fn column<T: rusqlite::types::FromSql>(&self, sql: &str, number: u64) -> Vec<T> {
        let mut statement = self.0.prepare(sql).unwrap();
        let parameters = if sql.contains("?1") { vec![number << 32] } else { Vec::new() };
        let found = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    fn state(&self, number: u64) -> Option<String> {
        self.column("SELECT state FROM job WHERE key = ?1 AND origin IS NULL", number).pop()
    }

    /// Why it moved, in order.
    fn causes(&self, number: u64) -> Vec<String> {
        self.column("SELECT cause FROM event WHERE job = (SELECT id FROM job WHERE key = ?1) ORDER BY id", number)
    }

    fn states(&self, number: u64) -> Vec<String> {
        self.column("SELECT state FROM event WHERE job = (SELECT id FROM job WHERE key = ?1) ORDER BY id", number)
    }

    /// The accepted receipts: the epoch, the node that its attempt was awarded to, and the bytes.
    fn accepted(&self, number: u64) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let sql = "SELECT receipt.epoch, attempt.node, receipt.envelope FROM job \
                   JOIN receipt ON receipt.job = job.id \
                   JOIN attempt ON attempt.job = job.id AND attempt.epoch = receipt.epoch \
                   WHERE job.key = ?1 AND receipt.verdict = 'accepted'";
        let read = |row: &Row<'_>| (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        self.rows(sql, number, read)
    }

    /// G1: every job that was acknowledged is there and has ended; one that may run again has completed.
    pub(crate) fn nothing_is_lost(&self, jobs: &Jobs) {
        for (name, job) in jobs {
            let state = self.state(job.number).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
            let may_fail = job.effects == Effects::Once && state == "discarded";
            assert!(state == "completed" || may_fail, "{name} ended as {state}: {:?}", self.causes(job.number));
        }
    }

    /// G2: a job succeeds once, ends once, and has one accepted receipt if it has any success; its receipt is signed by
    /// the node that this very attempt was awarded to.
    pub(crate) fn every_result_counts_once(&self, jobs: &Jobs, mesh: &MeshId) {
        for (name, job) in jobs {
            let (number, causes) = (job.number, self.causes(job.number));
            let ends = self.states(number).iter().filter(|state| is_end(state)).count();
            let successes = causes.iter().filter(|cause| matches!(cause.as_str(), "succeeded" | "late")).count();
            assert!(ends == 1 && successes <= 1, "{name} ended {ends} times: {causes:?}");
            let accepted = self.accepted(number);
            assert!(accepted.len() >= successes, "{name} succeeded without a receipt: {causes:?}");
            let mut succeeded = 0;
            for (epoch, awardee, bytes) in accepted {
                let envelope = Envelope::open(&bytes, mesh).unwrap();
                let receipt: Receipt = envelope.parse().unwrap();
                let signer: &NodeId = &envelope.signer();
                assert_eq!(
                    (envelope.kind(), signer.as_bytes().as_slice()),
                    (Kind::Receipt, awardee.as_slice()),
                    "{name}"
                );
                assert_eq!(receipt.epoch.0, epoch, "{name}");
                succeeded += usize::from(receipt.outcome == Outcome::Ok);
            }
            assert_eq!(succeeded, successes, "{name}: {causes:?}");
        }
    }
}

/// G3: what completed has run to its end, and what must not run twice was started once at most.
pub(crate) fn the_work_was_done(ledger: &Ledger, jobs: &Jobs, marks: &str) {
    let count = |line: String| marks.lines().filter(|mark| *mark == line).count();
    for (name, job) in jobs {
        let (started, ended) = (count(format!("start {name}")), count(format!("end {name}")));
        if ledger.state(job.number).as_deref() == Some("completed") {
            assert!(ended > 0, "{name} is said to be completed and never ran to its end");
        }
        assert!(job.effects != Effects::Once || started <= 1, "{name} may run once and was started {started} times");
    }
}

fn is_end(state: &str) -> bool {
    matches!(state, "completed" | "discarded" | "cancelled" | "skipped")
}
