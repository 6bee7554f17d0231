//! The lease table: what this node holds from other origins.

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::ticket::{LeaseKey, Verdict};
use jobmesh_protocol::{AwardId, DurationMillis, Epoch, JobId, TicketId};
use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// The award under which a job of another origin runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job in this node's queue.
    pub job: JobId,
    /// Whose job it is.
    pub origin: NodeId,
    /// The ticket.
    pub ticket: TicketId,
    /// The origin's epoch.
    pub epoch: Epoch,
    /// The award.
    pub award: AwardId,
    /// The hash of the spec as it was awarded: the receipt repeats it.
    pub spec_hash: Hash,
    /// How long a grant lasts.
    pub lease_ms: DurationMillis,
    /// How far it is.
    pub phase: LeasePhase,
    /// The number of the receipt that tells how it ended, once there is one.
    pub receipt: Option<u64>,
}

impl Lease {
    /// How messages name it.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { ticket: self.ticket, epoch: self.epoch }
    }
}

/// How far a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeasePhase {
    /// The attempt is open.
    Held,
    /// The receipt or release is on its way to the origin.
    Reported,
    /// The origin has answered.
    Settled,
}

impl LeasePhase {
    /// The word for it in the database.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Reported => "reported",
            Self::Settled => "settled",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Held, Self::Reported, Self::Settled].into_iter().find(|phase| phase.word() == word)
    }
}

fn read(row: &Row<'_>) -> Result<Lease, StoreError> {
    let ticket: [u8; 16] = row.column("ticket")?;
    Ok(Lease {
        job: row.job_id("job")?,
        origin: row.node("origin")?,
        ticket: TicketId::from_bytes(ticket),
        epoch: Epoch(row.column("epoch")?),
        award: row.message_or_none("award")?.ok_or(StoreError::Damaged { what: "award id" })?,
        spec_hash: row.hash_or_none("spec_hash")?.ok_or(StoreError::Damaged { what: "spec hash" })?,
        lease_ms: DurationMillis(row.column("lease_ms")?),
        phase: row.word("phase", "lease phase", LeasePhase::from_word)?,
        receipt: row.column("receipt")?,
    })
}

const COLUMNS: &str = "job, origin, ticket, epoch, award, spec_hash, lease_ms, phase, receipt";

impl View<'_> {
    /// The lease under which a job runs here.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn lease(&self, job: JobId) -> Result<Option<Lease>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM lease WHERE job = ?1"), [job.as_bytes().as_slice()], read)
    }

    /// The lease that an origin knows by this key.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn lease_of(&self, origin: NodeId, key: LeaseKey) -> Result<Option<Lease>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM lease WHERE origin = ?1 AND ticket = ?2 AND epoch = ?3");
        self.one(&sql, params![origin.as_bytes(), key.ticket.as_bytes(), key.epoch.0], read)
    }

    /// The leases of a ticket that an origin awarded up to this epoch.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn leases_up_to(&self, origin: NodeId, key: LeaseKey) -> Result<Vec<Lease>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM lease WHERE origin = ?1 AND ticket = ?2 AND epoch <= ?3 ORDER BY epoch");
        self.all(&sql, params![origin.as_bytes(), key.ticket.as_bytes(), key.epoch.0], read)
    }

    /// The leases from an origin that are not settled and whose receipts, if they were reported, may be asked for; oldest
    /// jobs first, at most `limit`. What was given back needs no settlement.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn leases_open(&self, origin: NodeId, limit: u32) -> Result<Vec<Lease>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM lease WHERE origin = ?1 AND phase != 'settled' \
             AND (phase = 'held' OR receipt IS NOT NULL) ORDER BY job LIMIT ?2"
        );
        self.all(&sql, params![origin.as_bytes(), limit], read)
    }
}

impl Txn<'_> {
    /// Inserts a lease.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; also if the key was used before.
    pub fn insert_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let sql = "INSERT INTO lease (job, origin, ticket, epoch, award, spec_hash, lease_ms, phase) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let values = params![
            lease.job.as_bytes(),
            lease.origin.as_bytes(),
            lease.ticket.as_bytes(),
            lease.epoch.0,
            lease.award.as_bytes(),
            lease.spec_hash.as_bytes(),
            lease.lease_ms.0,
            lease.phase.word(),
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Says which receipt tells how a lease ended.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_lease_receipt(&self, job: JobId, number: u64) -> Result<(), StoreError> {
        self.run("UPDATE lease SET receipt = ?2 WHERE job = ?1", params![job.as_bytes(), number])?;
        Ok(())
    }

    /// Moves a lease to its next phase.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_lease_phase(&self, job: JobId, phase: LeasePhase, verdict: Option<Verdict>) -> Result<(), StoreError> {
        let sql = "UPDATE lease SET phase = ?2, verdict = ?3 WHERE job = ?1";
        self.run(sql, params![job.as_bytes(), phase.word(), verdict.map(Verdict::word)])?;
        Ok(())
    }
}
