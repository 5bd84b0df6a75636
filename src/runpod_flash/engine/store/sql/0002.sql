-- What generators yield, kept for those who read it; and what jobs say of their progress.

CREATE TABLE chunks (                   -- the n-th item, from 0, that the last attempt of a job yielded
    job TEXT NOT NULL,
    n INTEGER NOT NULL,
    head TEXT,                          -- ChunkHead: blobs, defs; NULL for most
    body BLOB NOT NULL,                 -- frame.pack_parts
    PRIMARY KEY (job, n)
);

ALTER TABLE jobs ADD COLUMN progress TEXT;  -- JSON: the last that a job which has ended said
