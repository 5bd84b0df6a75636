-- Which job called which.

ALTER TABLE jobs ADD COLUMN parent TEXT;            -- a job, or a load-balanced call, which is on no record
ALTER TABLE jobs ADD COLUMN parent_attempt INTEGER;
CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
