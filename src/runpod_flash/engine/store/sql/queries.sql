-- Every hot statement, named, with one line of English.

-- name: put
-- A new job: ready, delayed, or already claimed by a worker that is free.
INSERT INTO jobs (id, pool_id, fn, state, priority, worker, created_ms, timeout_ms, max_retries, awaited, args, args_head,
                  ready_ms, expires_ms, instance, parent, parent_attempt, sent, epoch, attempt, assigned_ms)
VALUES (?1, ?2, ?3, ?4, ?5, nullif(?6, ''), ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?6 <> '', ?6 <> '',
        CASE WHEN ?6 <> '' THEN ?7 END);

-- name: put_at_worker
-- The same for most jobs: claimed at once, due at once, never expiring. (Each NULL costs Python's sqlite3 half a
-- microsecond, and so do bytes, but not a bytearray.)
INSERT INTO jobs (id, pool_id, fn, state, priority, epoch, attempt, worker, created_ms, assigned_ms, timeout_ms,
                  max_retries, awaited, args, sent)
VALUES (?1, ?2, ?3, ?4, ?5, 1, 1, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12);

-- name: put_at_worker_with_head
-- The same with arguments of which there is more to say, such as that they are JSON.
INSERT INTO jobs (id, pool_id, fn, state, priority, epoch, attempt, worker, created_ms, assigned_ms, timeout_ms,
                  max_retries, awaited, args, args_head, sent)
VALUES (?1, ?2, ?3, ?4, ?5, 1, 1, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13);

-- name: claim
-- The next ready job of a pool goes to a worker: highest priority first, then the oldest.
UPDATE jobs SET state = 3, epoch = epoch + 1, attempt = attempt + 1, worker = ?1, assigned_ms = ?2, sent = ?3
WHERE seq = (SELECT seq FROM jobs WHERE pool_id = ?4 AND state = 0 ORDER BY priority DESC, seq LIMIT 1)
RETURNING seq, priority, id, fn, epoch, attempt, failures, losses, timeout_ms, max_retries, created_ms, args, args_head,
          instance, awaited;

-- name: claim_apart
-- The same in a pool with jobs of instances: those that live in another worker are left to it.
UPDATE jobs SET state = 3, epoch = epoch + 1, attempt = attempt + 1, worker = ?1, assigned_ms = ?2, sent = ?3
WHERE seq = (SELECT seq FROM jobs WHERE pool_id = ?4 AND state = 0
             AND (instance IS NULL OR instance IN (SELECT value FROM json_each(?5))
                  OR (?7 AND instance NOT IN (SELECT value FROM json_each(?6))))
             ORDER BY priority DESC, seq LIMIT 1)
RETURNING seq, priority, id, fn, epoch, attempt, failures, losses, timeout_ms, max_retries, created_ms, args, args_head,
          instance, awaited;

-- name: claim_ahead
-- Jobs of one function among the next few go ahead to a worker that is busy with that function.
UPDATE jobs SET state = 2, epoch = epoch + 1, attempt = attempt + 1, worker = ?1, assigned_ms = ?2, sent = ?3
WHERE seq IN (SELECT seq FROM (SELECT seq, fn, max_retries FROM jobs WHERE pool_id = ?4 AND state = 0
                               ORDER BY priority DESC, seq LIMIT ?5)
              WHERE fn = ?6 AND max_retries > 0)
RETURNING seq, priority, id, fn, epoch, attempt, failures, losses, timeout_ms, max_retries, created_ms, args, args_head,
          instance, awaited;

-- name: finish
-- How a job ended, unless another epoch or another end is on record.
UPDATE jobs SET ended_ms = ?3, started_ms = ?4, out = ?5, out_head = ?6, state = ?7, out_json = ?8, timing = ?9,
                error = ?10, failures = ?11, losses = ?12,
                keep_until_ms = ?3 + CASE awaited WHEN 1 THEN ?13 ELSE ?14 END
WHERE seq = ?1 AND epoch = ?2 AND state IN (2, 3);

-- name: complete
-- The same for most jobs: they completed, with a value and nothing else to tell.
UPDATE jobs SET ended_ms = ?3, started_ms = ?4, out = ?5, out_head = ?6, state = 4,
                keep_until_ms = ?3 + CASE awaited WHEN 1 THEN ?7 ELSE ?8 END
WHERE seq = ?1 AND epoch = ?2 AND state IN (2, 3);

-- name: finish_waiting
-- A job ends without having been at a worker (cancelled, expired, no environment).
UPDATE jobs SET state = ?2, ended_ms = ?3, keep_until_ms = ?3 + CASE awaited WHEN 1 THEN ?4 ELSE ?5 END, error = ?6
WHERE id = ?1 AND state IN (0, 1);

-- name: back
-- A live job returns to the queue, at once (state 0) or at a time (state 1).
UPDATE jobs SET state = ?3, ready_ms = ?4, attempt = ?5, failures = ?6, losses = ?7, worker = NULL
WHERE id = ?1 AND epoch = ?2 AND state IN (2, 3);

-- name: attempt
-- An attempt that did not complete its job.
INSERT OR REPLACE INTO attempts (job, n, epoch, worker, assigned_ms, started_ms, ended_ms, end, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: due
-- Delayed jobs whose time has come become ready.
UPDATE jobs SET state = 0
WHERE seq IN (SELECT seq FROM jobs WHERE state = 1 AND ready_ms <= ? ORDER BY ready_ms LIMIT 200)
RETURNING pool_id, length(args), instance;

-- name: expired
-- Jobs whose ttl is over, but for those that are being ended already.
SELECT id FROM jobs WHERE expires_ms IS NOT NULL AND cancel_ms IS NULL AND state < 4 AND expires_ms <= ? LIMIT 200;

-- name: next_times
-- When the next delayed job is due, and when the next ttl is over.
SELECT (SELECT min(ready_ms) FROM jobs WHERE state = 1),
       (SELECT min(expires_ms) FROM jobs WHERE expires_ms IS NOT NULL AND cancel_ms IS NULL AND state < 4);

-- name: live
-- Jobs that are at workers, in the order in which each worker was sent them.
SELECT seq, priority, id, fn, epoch, attempt, failures, losses, timeout_ms, max_retries, created_ms, args, args_head,
       instance, awaited, worker, assigned_ms, cancel_ms, cancel_ms >= expires_ms FROM jobs WHERE state IN (2, 3)
ORDER BY worker, sent, priority DESC, seq;

-- name: waiting
-- Ready jobs of each pool, and of each instance in it, and the bytes of their arguments.
SELECT pool_id, instance, count(*), total(length(args)) FROM jobs WHERE state = 0 GROUP BY pool_id, instance;

-- name: awaited_below
-- Jobs that have not ended and that another one awaits, and which one that is.
SELECT id, parent FROM jobs WHERE parent IS NOT NULL AND awaited = 1 AND state < 4;

-- name: of_usual_priority
-- How many ready jobs of a pool want workers of their own.
SELECT count(*) FROM (SELECT 1 FROM jobs WHERE pool_id = ? AND state = 0 AND priority > ? LIMIT ?);

-- name: oldest
-- Since when the first ready job of a pool waits.
SELECT coalesce(ready_ms, created_ms) FROM jobs WHERE pool_id = ? AND state = 0 ORDER BY priority DESC, seq LIMIT 1;

-- name: job
-- Everything about one job.
SELECT * FROM jobs WHERE id = ?;

-- name: told
-- How one job stands.
SELECT id, pool_id, fn, state, attempt, failures, worker, created_ms, assigned_ms, started_ms, ended_ms, args_head, out,
       out_head, out_json, error, timing, progress, given FROM jobs WHERE id = ?;

-- name: request_cancel
-- A live job shall end; its worker has yet to confirm.
UPDATE jobs SET cancel_ms = ? WHERE id = ? AND state IN (2, 3);

-- name: waiting_ids
-- The next ready jobs of a pool.
SELECT id FROM jobs WHERE pool_id = ? AND state = 0 ORDER BY priority DESC, seq LIMIT ?;

-- name: again
-- A job that ended without success runs once more.
UPDATE jobs SET state = 0, ended_ms = NULL, started_ms = NULL, keep_until_ms = NULL, cancel_ms = NULL, out = NULL,
                out_head = NULL, out_json = NULL, error = NULL, timing = NULL, worker = NULL, failures = 0, losses = 0,
                expires_ms = NULL, progress = NULL
WHERE id = ? AND state IN (5, 7);

-- name: outdated
-- Ended jobs that were kept long enough, and of awaited ones all but the newest so many, and so many bytes in files.
SELECT id FROM jobs WHERE keep_until_ms <= ?1
    OR (awaited = 1 AND state >= 4 AND seq <= (SELECT max(seq) FROM jobs) - ?2)
    OR seq IN (SELECT seq FROM (SELECT seq, state, sum(size) OVER (ORDER BY seq DESC) AS bytes
                                FROM blobs JOIN jobs ON jobs.id = job WHERE awaited = 1)
               WHERE bytes > ?4 AND state >= 4) LIMIT ?3;

-- name: old_events
-- What happened long ago to no job in particular.
DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE job IS NULL AND at_ms <= ? LIMIT 200);

-- name: event
-- Something happened that no column tells.
INSERT INTO events (job, endpoint_id, at_ms, kind, data) VALUES (?, ?, ?, ?, ?);

-- name: span
-- Where the output of an attempt lies.
INSERT OR REPLACE INTO log_spans (job, attempt, worker, segment, start, length, lines, cut) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: chunk
-- A job has yielded an item.
INSERT OR REPLACE INTO chunks (job, n, head, body) VALUES (?, ?, ?, ?);

-- name: chunks
-- The next items of a job.
SELECT n, head, body FROM chunks WHERE job = ? AND n >= ? ORDER BY n LIMIT ?;

-- name: chunk_count
-- How many items a job has yielded.
SELECT coalesce(max(n) + 1, 0) FROM chunks WHERE job = ?;

-- name: drop_chunks
-- Items that nobody will read any more.
DELETE FROM chunks WHERE job = ? AND n < ? RETURNING head;
