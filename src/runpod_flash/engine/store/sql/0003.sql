-- Methods of remote classes: which instance's a job is, by the digest of its constructor's arguments.

ALTER TABLE jobs ADD COLUMN instance TEXT;
