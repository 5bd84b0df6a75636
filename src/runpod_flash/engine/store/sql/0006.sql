-- Jobs over HTTP.

CREATE TABLE webhooks (                 -- who is to be told of the end of a job
    job TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    due_ms INTEGER,                     -- when, or when again; NULL before its end, and when that is over
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''      -- why the last try failed
) WITHOUT ROWID;
CREATE INDEX webhooks_due ON webhooks (due_ms) WHERE due_ms IS NOT NULL;

ALTER TABLE jobs ADD COLUMN given INTEGER;  -- items that were given to readers who keep no position of their own
