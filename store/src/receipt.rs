//! Receipts that came in, and the small outputs that came with them.

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{Epoch, JobId, ReceiptId, RunId, UnixMillis};

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// A receipt as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Its message id.
    pub id: ReceiptId,
    /// The job.
    pub job: JobId,
    /// The epoch it answers.
    pub epoch: Epoch,
    /// Who signed it.
    pub node: NodeId,
    /// Its number in the chain of that node.
    pub number: u64,
    /// What became of it; `None` while its outputs are on the way.
    pub verdict: Option<Verdict>,
    /// The envelope's bytes.
    pub envelope: Vec<u8>,
    /// When it came.
    pub received_at: UnixMillis,
}

fn verdict_from_word(word: &str) -> Option<Verdict> {
    [Verdict::Accepted, Verdict::Superseded, Verdict::Rejected].into_iter().find(|verdict| verdict.word() == word)
}

fn read(row: &rusqlite::Row<'_>) -> Result<ReceiptRow, StoreError> {
    Ok(ReceiptRow {
        id: row.message_or_none("id")?.ok_or(StoreError::Damaged { what: "receipt id" })?,
        job: row.job_id("job")?,
        epoch: Epoch(row.column("epoch")?),
        node: row.node("node")?,
        number: row.column("number")?,
        verdict: row.word_or_none("verdict", "verdict", verdict_from_word)?,
        envelope: row.column("envelope")?,
        received_at: row.time("received_at")?,
    })
}

const COLUMNS: &str = "id, job, epoch, node, number, verdict, envelope, received_at";

impl View<'_> {
    /// One receipt.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn receipt(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM receipt WHERE id = ?1"), [id.as_bytes().as_slice()], read)
    }

    /// Every receipt of a job, oldest epoch first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn receipts(&self, job: JobId) -> Result<Vec<ReceiptRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM receipt WHERE job = ?1 ORDER BY epoch, received_at");
        self.all(&sql, [job.as_bytes().as_slice()], read)
    }

    /// The attempts whose receipts have no verdict yet, by job and epoch.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn open_receipts(&self) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT DISTINCT job, epoch FROM receipt WHERE verdict IS NULL ORDER BY job, epoch";
        self.all(sql, [], |row| Ok(RunId { job: row.job_id("job")?, epoch: Epoch(row.column("epoch")?) }))
    }

    /// How many receipts are kept for an attempt.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn receipt_count(&self, run: RunId) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS receipts FROM receipt WHERE job = ?1 AND epoch = ?2";
        let count = self.one(sql, params![run.job.as_bytes(), run.epoch.0], |row| row.column("receipts"))?;
        Ok(count.unwrap_or(0))
    }

    /// Small bytes by their hash.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn blob(&self, hash: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("SELECT bytes FROM blob WHERE hash = ?1", [hash.as_bytes().as_slice()], |row| row.column("bytes"))
    }
}

impl Txn<'_> {
    /// Keeps a receipt; one that is kept already gets the new verdict.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_receipt(&self, receipt: &ReceiptRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO receipt (id, job, epoch, node, number, verdict, envelope, received_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET verdict = excluded.verdict";
        let values = params![
            receipt.id.as_bytes(),
            receipt.job.as_bytes(),
            receipt.epoch.0,
            receipt.node.as_bytes(),
            receipt.number,
            receipt.verdict.map(Verdict::word),
            receipt.envelope,
            receipt.received_at.0,
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Keeps small bytes under their hash, which the caller has computed.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_blob(&self, hash: Hash, bytes: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO blob (hash, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.run(sql, params![hash.as_bytes(), bytes])?;
        Ok(())
    }
}
