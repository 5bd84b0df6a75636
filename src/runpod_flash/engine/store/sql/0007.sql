-- A ttl is over for jobs that run as well.

DROP INDEX jobs_ttl;
CREATE INDEX jobs_ttl ON jobs (expires_ms) WHERE expires_ms IS NOT NULL AND cancel_ms IS NULL AND state < 4;
