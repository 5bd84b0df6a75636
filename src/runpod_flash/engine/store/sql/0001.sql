-- The store, version 1. Times are engine wall clock milliseconds. A job's state is a number of model/job.py:
-- 0 ready 1 delayed 2 assigned 3 running 4 completed 5 failed 6 cancelled 7 timed out.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,                 -- EndpointSpec
    created_ms INTEGER NOT NULL,
    declared_ms INTEGER NOT NULL
);

CREATE TABLE pools (
    id INTEGER PRIMARY KEY,
    endpoint_id INTEGER NOT NULL REFERENCES endpoints(id),
    key TEXT NOT NULL,
    spec TEXT NOT NULL,                 -- PoolSpec, values of variables included: the file is private to the user
    created_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    UNIQUE (endpoint_id, key)
);

CREATE TABLE functions (                -- one row for each version of a remote function in a pool
    id INTEGER PRIMARY KEY,
    pool_id INTEGER NOT NULL REFERENCES pools(id),
    spec TEXT NOT NULL,                 -- FunctionSpec
    digest TEXT NOT NULL,
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    used_ms INTEGER NOT NULL,
    UNIQUE (pool_id, name, version, digest)
);

CREATE TABLE definitions (digest TEXT PRIMARY KEY, name TEXT NOT NULL, body BLOB NOT NULL, used_ms INTEGER NOT NULL)
WITHOUT ROWID;

CREATE TABLE jobs (                     -- the last attempt lives in these columns, earlier ones in attempts
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    pool_id INTEGER NOT NULL,
    fn INTEGER NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    epoch INTEGER NOT NULL,             -- raised at every claim: the fencing token
    attempt INTEGER NOT NULL,
    worker TEXT,
    created_ms INTEGER NOT NULL,
    assigned_ms INTEGER,
    sent INTEGER,                       -- raised at every claim: the order in which a worker was sent its jobs
    timeout_ms INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    awaited INTEGER NOT NULL,           -- 1: kept as long as results of awaited calls, 0: of spawned jobs
    args BLOB,                          -- frame.pack_parts
    args_head TEXT,                     -- ArgsHead: encoding, blobs, defs
    ready_ms INTEGER,
    expires_ms INTEGER,
    started_ms INTEGER,
    ended_ms INTEGER,
    keep_until_ms INTEGER,
    cancel_ms INTEGER,                  -- somebody asked for it; the worker has not confirmed yet
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    out BLOB,
    out_head TEXT,                      -- OutHead; of a completed job the DONE as it came, which has these fields
    out_json BLOB,
    error TEXT,                         -- ErrorInfo
    timing TEXT                         -- where the waiting went, if there was any
);
-- No index on jobs at workers or on ended ones: each would cost every call two more pages to write. Both are looked for
-- seldom, by reading through the table: the first at start, the others by the sweep, in the reading thread.
CREATE INDEX jobs_ready ON jobs (pool_id, priority DESC, seq) WHERE state = 0;
CREATE INDEX jobs_delayed ON jobs (ready_ms) WHERE state = 1;
CREATE INDEX jobs_ttl ON jobs (expires_ms) WHERE state IN (0, 1) AND attempt = 0 AND expires_ms IS NOT NULL;

CREATE TABLE attempts (                 -- every attempt that did not complete its job
    job TEXT NOT NULL,
    n INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker TEXT,
    assigned_ms INTEGER,
    started_ms INTEGER,
    ended_ms INTEGER NOT NULL,
    end TEXT NOT NULL,                  -- failed | timeout | lost | cancelled | stopped
    error TEXT,
    PRIMARY KEY (job, epoch)
) WITHOUT ROWID;

CREATE TABLE events (                   -- what columns cannot tell: retries, losses, scaling, builds, crashes
    seq INTEGER PRIMARY KEY,
    job TEXT,
    endpoint_id INTEGER,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX events_job ON events (job) WHERE job IS NOT NULL;
CREATE INDEX events_at ON events (at_ms);

CREATE TABLE idempotency (
    endpoint_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_job ON idempotency (job);

CREATE TABLE blobs (                    -- who needs which file; equal arguments of several jobs share one
    id TEXT NOT NULL,
    job TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (id, job)
) WITHOUT ROWID;
CREATE INDEX blobs_job ON blobs (job);

CREATE TABLE hosts (id TEXT PRIMARY KEY, key_hash TEXT NOT NULL, pid INTEGER NOT NULL, machine TEXT NOT NULL,
                    started_ms INTEGER NOT NULL, ended_ms INTEGER) WITHOUT ROWID;

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    pool_id INTEGER NOT NULL,
    host TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    gpus TEXT NOT NULL,
    launched_ms INTEGER NOT NULL,
    ready_ms INTEGER,
    ended_ms INTEGER,
    end TEXT
) WITHOUT ROWID;
CREATE INDEX workers_open ON workers (pool_id) WHERE ended_ms IS NULL;
CREATE INDEX workers_ended ON workers (ended_ms) WHERE ended_ms IS NOT NULL;

CREATE TABLE log_spans (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    segment TEXT NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, segment, start)
) WITHOUT ROWID;
