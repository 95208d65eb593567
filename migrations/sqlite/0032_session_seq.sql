-- The order in which sessions were made, whatever the clock showed: ids and times follow a clock that may be moved back.
ALTER TABLE sessions ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET version = version + 1, seq = r.n
    FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY requested_at, id) AS n FROM sessions) AS r WHERE r.id = sessions.id;
CREATE INDEX sessions_by_seq ON sessions (seq);
