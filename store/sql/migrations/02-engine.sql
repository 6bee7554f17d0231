-- The job table gets the number as its key: `number << 32`, plus the task's place in its group plus one, so that the
-- order of the rows is the order of submission. `live` is 1 until the job has ended, so that the index of what a
-- restart has to read changes twice in a job's life and not with every state. `spec` is null for a task of an array:
-- it is its group's. `queue` and `priority` are the current ones, whatever the spec said. `waits` counts the
-- dependencies that are not met. `plan` is CBOR: what else was asked for beside the spec. `held` says why, once held.
-- `finish_reason` is set beside `cancel_reason` while a run is being stopped: what the job will be said to have ended of.
-- `keep_until` is for an ended job that said how long it is kept, and 0 for one that is being deleted. `proven` is 1
-- once the receipt of a peer says how it ended.
CREATE TABLE job_by_number (
    key           INTEGER PRIMARY KEY,
    id            BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    live          INTEGER CHECK (live = 1),
    state         TEXT NOT NULL,
    state_since   INTEGER NOT NULL,
    spec          BLOB,
    job_type      TEXT NOT NULL,
    queue         TEXT NOT NULL,
    priority      INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    crashes       INTEGER NOT NULL,
    snoozes       INTEGER NOT NULL DEFAULT 0,
    waits         INTEGER NOT NULL DEFAULT 0,
    run_at        INTEGER,
    expires_at    INTEGER,
    deadline      INTEGER,
    held          TEXT,
    plan          BLOB,
    unique_key    BLOB,
    schedule      TEXT,
    fire_at       INTEGER,
    cancel_reason TEXT,
    finish_reason TEXT,
    origin        BLOB,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    keep_until    INTEGER,
    proven        INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO job_by_number (key, id, live, state, state_since, spec, job_type, queue, priority, epoch, failures, crashes,
                           run_at, cancel_reason, finish_reason, origin, created_at, finished_at, proven)
    SELECT number << 32, id, iif(state IN ('completed', 'discarded', 'cancelled', 'skipped'), NULL, 1), state,
           state_since, spec, job_type, queue, priority, epoch, failures, crashes, run_at, cancel_reason,
           finish_reason, origin, created_at, finished_at,
           EXISTS (SELECT 1 FROM receipt WHERE receipt.job = job.id AND verdict = 'accepted')
    FROM job ORDER BY number;
DROP TABLE job;
ALTER TABLE job_by_number RENAME TO job;

-- All that a restart has to read.
CREATE INDEX job_live ON job (live) WHERE live = 1;
-- What may be deleted, oldest first: by how it ended, or because it has been kept for as long as it said. A task goes
-- with its group.
CREATE INDEX job_ended ON job (proven, state, finished_at)
    WHERE live IS NULL AND keep_until IS NULL AND key & 4294967295 = 0;
CREATE INDEX job_kept ON job (keep_until, finished_at) WHERE live IS NULL AND keep_until IS NOT NULL;
-- One job at a time holds a unique key, and a schedule fires once for an instant.
CREATE UNIQUE INDEX job_unique ON job (unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX job_fire ON job (schedule, fire_at) WHERE schedule IS NOT NULL;

-- What an attempt took and got. `allocation` is CBOR: the resources given to it here. `model` is CBOR: what it asked of a
-- model. `isolation` is how it was kept apart. Times in milliseconds, memory in bytes.
ALTER TABLE attempt ADD COLUMN allocation BLOB;
ALTER TABLE attempt ADD COLUMN cpu_ms INTEGER;
ALTER TABLE attempt ADD COLUMN memory_peak INTEGER;
ALTER TABLE attempt ADD COLUMN result_hash BLOB;
ALTER TABLE attempt ADD COLUMN result_size INTEGER;
ALTER TABLE attempt ADD COLUMN files_hash BLOB;
ALTER TABLE attempt ADD COLUMN files_size INTEGER;
ALTER TABLE attempt ADD COLUMN fuel INTEGER;
ALTER TABLE attempt ADD COLUMN model BLOB;
ALTER TABLE attempt ADD COLUMN isolation TEXT;

-- By what a run said its result is, as by what it wrote: bytes go once nothing has written them any more.
CREATE INDEX attempt_result ON attempt (result_hash) WHERE result_hash IS NOT NULL;
CREATE INDEX attempt_files ON attempt (files_hash) WHERE files_hash IS NOT NULL;

-- What a peer holds of this node: it may ask for the inputs of those jobs.
CREATE INDEX attempt_awarded ON attempt (node, job) WHERE award IS NOT NULL AND finished_at IS NULL;

-- Which of its node's receipts to this one a receipt is; 0 before they were counted.
ALTER TABLE receipt ADD COLUMN number INTEGER NOT NULL DEFAULT 0;

-- The chains of receipts with every peer, in their envelopes: `side` is `given` where this node ran the work and `taken`
-- where the peer did. `settle` is the origin's countersignature. Two rows of one number are the proof that the executor
-- signed two receipts under it. `is_known` is 0 for a receipt taken for no job of this node.
CREATE TABLE link (
    peer     BLOB NOT NULL,
    side     TEXT NOT NULL,
    number   INTEGER NOT NULL,
    id       BLOB NOT NULL,
    is_known INTEGER NOT NULL,
    receipt  BLOB NOT NULL,
    settle   BLOB,
    at       INTEGER NOT NULL,
    PRIMARY KEY (peer, side, number, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX link_at ON link (at);
CREATE INDEX link_unknown ON link (peer) WHERE is_known = 0;

-- What a restart has to take up again: receipts whose outputs are on the way, or that wait for a run here to stop.
CREATE INDEX receipt_open ON receipt (job, epoch) WHERE verdict IS NULL;

-- Groups: arrays, whose tasks are made when they are claimed, and open groups, whose tasks are submitted one by one.
-- `tasks` is CBOR, null for an open group. `made` is how many tasks there are by now, `of` how many there will be, `early`
-- how many beyond those made in turn there are because somebody named them. The counts are of tasks that have ended.
CREATE TABLE job_group (
    job       INTEGER PRIMARY KEY,
    tasks     BLOB,
    is_open   INTEGER NOT NULL,
    at_a_time INTEGER,
    max_fails INTEGER,
    of        INTEGER NOT NULL,
    made      INTEGER NOT NULL,
    early     INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    dropped   INTEGER NOT NULL
) STRICT;

-- The items of an array, 256 in a row, as CBOR.
CREATE TABLE array_item (
    job   INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    items BLOB NOT NULL,
    PRIMARY KEY (job, chunk)
) STRICT, WITHOUT ROWID;

-- What waits for what: `job` for `upstream`, both by key. `condition` is null where the job's rule decides. `met` is 1
-- once upstream has ended as it should. `of_key` is 1 where nobody asked for it but the unique key of both.
CREATE TABLE dependency (
    upstream  INTEGER NOT NULL,
    job       INTEGER NOT NULL,
    condition TEXT,
    met       INTEGER NOT NULL,
    of_key    INTEGER NOT NULL,
    PRIMARY KEY (upstream, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependency_job ON dependency (job);

-- Submissions that named themselves, each with its job.
CREATE TABLE idempotency (
    name TEXT PRIMARY KEY,
    job  INTEGER NOT NULL,
    at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was set for a queue by hand. `limits` is CBOR, null where the configuration file decides.
CREATE TABLE queue (
    name        TEXT PRIMARY KEY,
    limits      BLOB,
    is_paused   INTEGER NOT NULL,
    is_draining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rate limits that are in use. `starts` is CBOR: how many started when, as far back as it counts.
CREATE TABLE rate (
    name   TEXT PRIMARY KEY,
    starts BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Schedules. `body` is CBOR. `last_at` is the newest instant that was dealt with; `is_declared` says that it comes
-- from the configuration file. `passed_at` is the newest instant whose job could not be submitted, `passed_for` why.
CREATE TABLE schedule (
    name        TEXT PRIMARY KEY,
    body        BLOB NOT NULL,
    is_paused   INTEGER NOT NULL,
    is_declared INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    passed_at   INTEGER,
    passed_for  TEXT
) STRICT, WITHOUT ROWID;

-- Instants that fired and whose jobs are deleted, of schedules that there are.
CREATE TABLE fired (
    schedule TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (schedule, at)
) STRICT, WITHOUT ROWID;

-- The newest word of running jobs on how far they are: `done` in ten-thousandths. Written lazily; it is no truth.
CREATE TABLE progress (
    job     INTEGER PRIMARY KEY,
    epoch   INTEGER NOT NULL,
    done    INTEGER,
    message TEXT,
    at      INTEGER NOT NULL
) STRICT;

-- What an attempt left for the next one.
CREATE TABLE checkpoint (
    job   INTEGER NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;

-- How many jobs ended how in an hour (since 1970 UTC), by type: added to as they end, so that nothing is lost when they
-- are deleted.
CREATE TABLE metric (
    hour     INTEGER NOT NULL,
    job_type TEXT NOT NULL,
    state    TEXT NOT NULL,
    jobs     INTEGER NOT NULL,
    run_ms   INTEGER NOT NULL,
    PRIMARY KEY (hour, job_type, state)
) STRICT, WITHOUT ROWID;

INSERT INTO metric (hour, job_type, state, jobs, run_ms)
    SELECT job.finished_at / 3600000, job.job_type, job.state, count(*),
           coalesce(sum(max(attempt.finished_at - attempt.started_at, 0)), 0)
    FROM job LEFT JOIN attempt ON attempt.job = job.id AND attempt.epoch = job.epoch
    WHERE job.live IS NULL AND job.finished_at IS NOT NULL
    GROUP BY 1, 2, 3;

-- Which receipt of this node to its origin tells of a lease; null where none does. What is open with an origin is read
-- after every new connection.
ALTER TABLE lease ADD COLUMN receipt INTEGER;
DROP INDEX lease_held;
CREATE INDEX lease_open ON lease (origin) WHERE phase != 'settled';

-- The incarnation of a peer that was followed by the current one, and is refused.
ALTER TABLE session ADD COLUMN former BLOB;

-- What a person should know of a node, this one included. `kind` is `older` where `node` has seen more of this database
-- than it holds, and `cloned` where `node` speaks from two databases at once.
CREATE TABLE alarm (
    kind     TEXT NOT NULL,
    node     BLOB NOT NULL,
    count    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (kind, node)
) STRICT, WITHOUT ROWID;
