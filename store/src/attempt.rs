//! The attempt table: every execution of every job, here or on a peer.

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::{BootId, Hash};
use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs, Usage};
use jobmesh_protocol::{
    AttemptState, AwardId, BlobRef, DurationMillis, Epoch, Isolation, JobId, JobState, Outcome, ReceiptId, RunId,
    UnixMillis, cbor,
};
use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Which attempt.
    pub epoch: Epoch,
    /// Where it is.
    pub state: AttemptState,
    /// Which node runs it.
    pub node: NodeId,
    /// Under which boot of this daemon, if it runs here.
    pub boot: Option<BootId>,
    /// Its process number and start, if it runs here and has started.
    pub process: Option<(u32, u64)>,
    /// The award, if it runs on a peer.
    pub award: Option<AwardId>,
    /// The hash of the spec that was awarded.
    pub spec_hash: Option<Hash>,
    /// The receipt that ended it or is about to.
    pub receipt: Option<ReceiptId>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// What it took.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of its machine, once that is known.
    pub isolation: Option<Isolation>,
    /// The resources that were given to it here, in the engine's encoding.
    pub allocation: Option<Vec<u8>>,
    /// When it was decided.
    pub created_at: UnixMillis,
    /// When it started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct EndedAttempt<'a> {
    /// Its last state.
    pub state: AttemptState,
    /// What the executor said.
    pub outcome: &'a Outcome,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// What it took.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    pub model: Option<&'a ModelUse>,
    /// How it was kept apart from the rest of its machine; none if that is not known.
    pub isolation: Option<Isolation>,
    /// When it started, if nobody said so before.
    pub started_at: Option<UnixMillis>,
}

/// An attempt to insert.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// The job and epoch.
    pub run: RunId,
    /// Its first state.
    pub state: AttemptState,
    /// Which node runs it.
    pub node: NodeId,
    /// The boot, if it runs here.
    pub boot: Option<BootId>,
    /// The award and the hash of the awarded spec, if it runs on a peer.
    pub award: Option<(AwardId, Hash)>,
    /// The resources that were given to it here, in the engine's encoding.
    pub allocation: Option<Vec<u8>>,
    /// When.
    pub at: UnixMillis,
}

const COLUMNS: &str = "job, epoch, state, node, boot, process_id, process_started, award, spec_hash, receipt, outcome, \
                       message, exit_code, exit_signal, stdout_hash, stdout_size, stderr_hash, stderr_size, \
                       result_hash, result_size, files_hash, files_size, cpu_ms, memory_peak, fuel, model, isolation, \
                       allocation, created_at, started_at, finished_at";

/// Largest encoded account of a model's use.
const MODEL_BYTES_MAX: usize = 4096;

fn read_model(bytes: &[u8]) -> Result<ModelUse, StoreError> {
    cbor::decode(bytes, MODEL_BYTES_MAX).map_err(|_| StoreError::Damaged { what: "model use" })
}

fn read(row: &Row<'_>) -> Result<Attempt, StoreError> {
    let pid: Option<u32> = row.column("process_id")?;
    Ok(Attempt {
        job: row.job_id("job")?,
        epoch: Epoch(row.column("epoch")?),
        state: row.word("state", "attempt state", AttemptState::from_word)?,
        node: row.node("node")?,
        boot: row.column::<Option<[u8; 16]>>("boot")?.map(BootId::from_bytes),
        process: pid.zip(row.column::<Option<u64>>("process_started")?),
        award: row.message_or_none("award")?,
        spec_hash: row.hash_or_none("spec_hash")?,
        receipt: row.message_or_none("receipt")?,
        outcome: row.column("outcome")?,
        message: row.column("message")?,
        exit: Exit { code: row.column("exit_code")?, signal: row.column("exit_signal")? },
        outputs: Outputs {
            stdout: row.blob("stdout_hash", "stdout_size")?,
            stderr: row.blob("stderr_hash", "stderr_size")?,
            result: row.blob("result_hash", "result_size")?,
            files: row.blob("files_hash", "files_size")?,
        },
        usage: Usage {
            cpu_ms: row.column::<Option<u64>>("cpu_ms")?.map(DurationMillis),
            memory_peak_bytes: row.column("memory_peak")?,
            fuel: row.column("fuel")?,
        },
        model: row.column::<Option<Vec<u8>>>("model")?.map(|bytes| read_model(&bytes)).transpose()?,
        isolation: row.word_or_none("isolation", "isolation level", Isolation::from_word)?,
        allocation: row.column("allocation")?,
        created_at: row.time("created_at")?,
        started_at: row.time_or_none("started_at")?,
        finished_at: row.time_or_none("finished_at")?,
    })
}

impl View<'_> {
    /// One attempt.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn attempt(&self, run: RunId) -> Result<Option<Attempt>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM attempt WHERE job = ?1 AND epoch = ?2");
        self.one(&sql, params![run.job.as_bytes(), run.epoch.0], read)
    }

    /// Every attempt of a job, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn attempts(&self, job: JobId) -> Result<Vec<Attempt>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM attempt WHERE job = ?1 ORDER BY epoch");
        self.all(&sql, [job.as_bytes().as_slice()], read)
    }

    /// The attempt that tells how a job at this epoch and in this state stands: its last one, unless an earlier one
    /// succeeded after all.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn telling_attempt(&self, run: RunId, state: JobState) -> Result<Option<Attempt>, StoreError> {
        let last = self.attempt(run)?;
        let tells = |attempt: &Attempt| attempt.state == AttemptState::Succeeded;
        if state != JobState::Completed || last.as_ref().is_none_or(tells) {
            return Ok(last);
        }
        Ok(self.attempts(run.job)?.into_iter().rev().find(tells).or(last))
    }

    /// The attempts that wrote these bytes, newest job first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn attempts_that_wrote(&self, hash: Hash) -> Result<Vec<Attempt>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM attempt WHERE stdout_hash = ?1 OR stderr_hash = ?1 OR result_hash = ?1 \
             OR files_hash = ?1 ORDER BY job DESC LIMIT 64"
        );
        self.all(&sql, [hash.as_bytes().as_slice()], read)
    }

    /// The jobs that a peer was awarded and has not answered for, by id.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn jobs_awarded_to(&self, node: NodeId) -> Result<Vec<JobId>, StoreError> {
        let sql = "SELECT job FROM attempt WHERE node = ?1 AND award IS NOT NULL AND finished_at IS NULL ORDER BY job";
        self.all(sql, [node.as_bytes().as_slice()], |row| row.job_id("job"))
    }
}

impl Txn<'_> {
    /// Inserts an attempt.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; also if the epoch was used before.
    pub fn insert_attempt(&self, new: &NewAttempt) -> Result<(), StoreError> {
        let sql = "INSERT INTO attempt (job, epoch, state, node, boot, award, spec_hash, allocation, created_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let boot = new.boot.map(|boot| *boot.as_bytes());
        let award = new.award.map(|(award, _)| *award.as_bytes());
        let spec_hash = new.award.map(|(_, hash)| *hash.as_bytes());
        let values = params![
            new.run.job.as_bytes(),
            new.run.epoch.0,
            new.state.word(),
            new.node.as_bytes(),
            boot,
            award,
            spec_hash,
            new.allocation,
            new.at.0,
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Writes down that an attempt runs, and as which process if it runs here.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn start_attempt(&self, run: RunId, process: Option<(u32, u64)>, at: UnixMillis) -> Result<(), StoreError> {
        let sql = "UPDATE attempt SET state = 'running', process_id = ?3, process_started = ?4, \
                   started_at = coalesce(started_at, ?5) WHERE job = ?1 AND epoch = ?2";
        let (pid, started) = process.unzip();
        self.run(sql, params![run.job.as_bytes(), run.epoch.0, pid, started, at.0])?;
        Ok(())
    }

    /// Gives an open attempt of an earlier daemon to this one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn adopt_attempt(&self, run: RunId, boot: BootId) -> Result<(), StoreError> {
        let sql = "UPDATE attempt SET boot = ?3 WHERE job = ?1 AND epoch = ?2";
        self.run(sql, params![run.job.as_bytes(), run.epoch.0, boot.as_bytes()])?;
        Ok(())
    }

    /// Writes down that a receipt came and its outputs are on the way.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn upload_attempt(&self, run: RunId, receipt: ReceiptId) -> Result<(), StoreError> {
        let sql = "UPDATE attempt SET state = 'uploading', receipt = ?3 WHERE job = ?1 AND epoch = ?2";
        self.run(sql, params![run.job.as_bytes(), run.epoch.0, receipt.as_bytes()])?;
        Ok(())
    }

    /// Writes down which receipt of an attempt that is over may still count.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn name_receipt(&self, run: RunId, receipt: ReceiptId) -> Result<(), StoreError> {
        let sql = "UPDATE attempt SET receipt = ?3 WHERE job = ?1 AND epoch = ?2";
        self.run(sql, params![run.job.as_bytes(), run.epoch.0, receipt.as_bytes()])?;
        Ok(())
    }

    /// Writes down how an attempt ended.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn finish_attempt(&self, run: RunId, ended: &EndedAttempt<'_>, at: UnixMillis) -> Result<(), StoreError> {
        let EndedAttempt { state, outcome, exit, outputs, usage, model, isolation, started_at } = *ended;
        let model = model.map(cbor::encode);
        // Most attempts leave nothing, and then neither of the indexes on what they wrote is touched.
        if outputs.blobs().next().is_none() {
            let sql = "UPDATE attempt SET state = ?3, outcome = ?4, message = ?5, exit_code = ?6, exit_signal = ?7, \
                       cpu_ms = ?8, memory_peak = ?9, finished_at = ?10, \
                       started_at = coalesce(started_at, ?11), fuel = ?12, model = ?13, isolation = ?14 WHERE job = ?1 AND epoch = ?2";
            let values = params![
                run.job.as_bytes(),
                run.epoch.0,
                state.word(),
                outcome.word(),
                outcome.message(),
                exit.code,
                exit.signal,
                usage.cpu_ms.map(|time| time.0),
                usage.memory_peak_bytes,
                at.0,
                started_at.map(|at| at.0),
                usage.fuel,
                model,
                isolation.map(Isolation::word),
            ];
            self.run(sql, values)?;
            return Ok(());
        }
        let sql = "UPDATE attempt SET state = ?3, outcome = ?4, message = ?5, exit_code = ?6, exit_signal = ?7, \
                   stdout_hash = ?8, stdout_size = ?9, stderr_hash = ?10, stderr_size = ?11, finished_at = ?12, \
                   result_hash = ?13, result_size = ?14, cpu_ms = ?15, memory_peak = ?16, \
                   started_at = coalesce(started_at, ?17), files_hash = ?18, files_size = ?19, fuel = ?20, \
                   model = ?21, isolation = ?22 \
                   WHERE job = ?1 AND epoch = ?2";
        let hash = |blob: Option<BlobRef>| blob.map(|blob| *blob.hash.as_bytes());
        let size = |blob: Option<BlobRef>| blob.map(|blob| blob.size);
        let values = params![
            run.job.as_bytes(),
            run.epoch.0,
            state.word(),
            outcome.word(),
            outcome.message(),
            exit.code,
            exit.signal,
            hash(outputs.stdout),
            size(outputs.stdout),
            hash(outputs.stderr),
            size(outputs.stderr),
            at.0,
            hash(outputs.result),
            size(outputs.result),
            usage.cpu_ms.map(|time| time.0),
            usage.memory_peak_bytes,
            started_at.map(|at| at.0),
            hash(outputs.files),
            size(outputs.files),
            usage.fuel,
            model,
            isolation.map(Isolation::word),
        ];
        self.run(sql, values)?;
        Ok(())
    }
}
