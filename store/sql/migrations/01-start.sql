-- Facts about this database itself, one row each: its incarnation (16 random bytes made with the file), the
-- node's membership, the ports it listens on.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- Every job this node has taken on, its own and those awarded to it. `number` is what people type. `epoch` is the
-- fence: it grows with every attempt and never goes back. `failures` counts attempts that were spent, `crashes`
-- those that vanished. Times are milliseconds since 1970 UTC. `spec` is the CBOR as it was submitted or awarded.
CREATE TABLE job (
    id            BLOB PRIMARY KEY CHECK (length(id) = 16),
    number        INTEGER NOT NULL UNIQUE,
    state         TEXT NOT NULL,
    state_since   INTEGER NOT NULL,
    spec          BLOB NOT NULL,
    job_type      TEXT NOT NULL,
    queue         TEXT NOT NULL,
    priority      INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    crashes       INTEGER NOT NULL,
    run_at        INTEGER,
    cancel_reason TEXT,
    finish_reason TEXT,
    origin        BLOB,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER
) STRICT;

-- The jobs that have not ended: all that a restart has to read.
CREATE INDEX job_live ON job (state, number) WHERE state NOT IN ('completed', 'discarded', 'cancelled', 'skipped');

-- One row per execution. `node` ran it; `boot` is the life of the daemon that runs it when that is this node;
-- `process_id` and `process_started` name its process. `award` is the id of the award message and `award_envelope`
-- its bytes; `spec_hash` is what the receipt must repeat. `stdout`/`stderr` are BLAKE3 hashes with sizes in bytes.
CREATE TABLE attempt (
    job             BLOB NOT NULL REFERENCES job (id),
    epoch           INTEGER NOT NULL,
    state           TEXT NOT NULL,
    node            BLOB NOT NULL,
    boot            BLOB,
    process_id      INTEGER,
    process_started INTEGER,
    award           BLOB,
    spec_hash       BLOB,
    receipt         BLOB,
    outcome         TEXT,
    message         TEXT,
    exit_code       INTEGER,
    exit_signal     INTEGER,
    stdout_hash     BLOB,
    stdout_size     INTEGER,
    stderr_hash     BLOB,
    stderr_size     INTEGER,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER,
    PRIMARY KEY (job, epoch)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_stdout ON attempt (stdout_hash) WHERE stdout_hash IS NOT NULL;
CREATE INDEX attempt_stderr ON attempt (stderr_hash) WHERE stderr_hash IS NOT NULL;

-- What happened to every job, in order. Append-only: it drives watchers, `show` and audit.
CREATE TABLE event (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    job   BLOB NOT NULL REFERENCES job (id),
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    cause TEXT NOT NULL,
    node  BLOB,
    note  TEXT,
    at    INTEGER NOT NULL
) STRICT;

CREATE INDEX event_job ON event (job, id);

-- What this node holds from others: the award under which a job of another origin runs here. `phase` is held while
-- the attempt is open, reported once its account is in the outbox, settled once the origin has answered with
-- `verdict`. `spec_hash` is of the spec as awarded; `lease_ms` is from the award.
CREATE TABLE lease (
    job        BLOB PRIMARY KEY REFERENCES job (id),
    origin     BLOB NOT NULL,
    ticket     BLOB NOT NULL,
    epoch      INTEGER NOT NULL,
    award      BLOB NOT NULL,
    spec_hash  BLOB NOT NULL,
    lease_ms   INTEGER NOT NULL,
    phase      TEXT NOT NULL,
    verdict    TEXT,
    UNIQUE (origin, ticket, epoch)
) STRICT;

CREATE INDEX lease_held ON lease (origin) WHERE phase = 'held';

-- Receipts that came in, whatever became of them: accepted, superseded or rejected. `id` is the message id.
CREATE TABLE receipt (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    job         BLOB NOT NULL REFERENCES job (id),
    epoch       INTEGER NOT NULL,
    node        BLOB NOT NULL,
    verdict     TEXT,
    envelope    BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX receipt_job ON receipt (job, epoch);

-- Small bytes that came with a receipt, by BLAKE3 hash. Larger ones are files.
CREATE TABLE blob (
    hash  BLOB PRIMARY KEY CHECK (length(hash) = 32),
    bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Messages that a peer has not acknowledged, numbered per peer from 1. `attachments` is CBOR.
CREATE TABLE outbox (
    peer        BLOB NOT NULL,
    number      INTEGER NOT NULL,
    envelope    BLOB NOT NULL,
    attachments BLOB NOT NULL,
    PRIMARY KEY (peer, number)
) STRICT, WITHOUT ROWID;

-- Both directions of the session with a peer: the last number given to a message for it, and the last number
-- received in order from its database of that incarnation.
CREATE TABLE session (
    peer        BLOB PRIMARY KEY,
    sent        INTEGER NOT NULL,
    incarnation BLOB,
    received    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Members this node has met. `addresses` holds multiaddresses, one a line, newest first.
CREATE TABLE peer (
    node      BLOB PRIMARY KEY,
    name      TEXT NOT NULL,
    addresses TEXT NOT NULL,
    seen_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest capability record of every member, in its author's envelope.
CREATE TABLE capability (
    node      BLOB PRIMARY KEY,
    envelope  BLOB NOT NULL,
    heard_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a person added to the detected capabilities or took away from them.
CREATE TABLE capability_choice (
    tag    TEXT PRIMARY KEY,
    choice TEXT NOT NULL CHECK (choice IN ('add', 'remove'))
) STRICT, WITHOUT ROWID;

-- Invites that were given out, by the hash of their secret.
CREATE TABLE invite (
    secret_hash BLOB PRIMARY KEY,
    role        TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    used_by     BLOB,
    membership  BLOB
) STRICT, WITHOUT ROWID;

-- This node's own observations, one row per day (since 1970), job type, executor and node. `durations` is CBOR.
CREATE TABLE cell (
    day       INTEGER NOT NULL,
    job_type  TEXT NOT NULL,
    executor  TEXT NOT NULL,
    node      BLOB NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    lost      INTEGER NOT NULL,
    durations BLOB NOT NULL,
    PRIMARY KEY (day, job_type, executor, node)
) STRICT, WITHOUT ROWID;

-- The newest summary of every author and day, this node's own included, in its author's envelope.
CREATE TABLE summary (
    author   BLOB NOT NULL,
    day      INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (author, day)
) STRICT, WITHOUT ROWID;
