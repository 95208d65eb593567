-- Counts the changes of a session: whoever computed from an older one finds out when writing.
ALTER TABLE sessions ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
