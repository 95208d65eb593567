-- Each day's frames are a partition of their own, dropped whole when it is too old; the days to come are made ahead by the
-- program. What was kept so far is one partition up to the end of tomorrow.
--
-- A charger's frames lie together within 4096 ids. In an index by charger alone the frames of a batch lie far apart: nearly
-- each has a page of it to write; here they share the pages of the newest ids. Ids come from one sequence, so this index
-- finds them, too.
-- Of many frames the index takes minutes.
SET LOCAL statement_timeout = 0;
DROP INDEX frames_by_charger;
ALTER TABLE frames RENAME TO frames_before;
ALTER TABLE frames_before ALTER COLUMN id DROP IDENTITY;
ALTER TABLE frames_before DROP CONSTRAINT frames_pkey;
CREATE SEQUENCE frames_ids;
CREATE TABLE frames (
    id BIGINT NOT NULL DEFAULT nextval('frames_ids'),
    charger_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    incoming BOOLEAN NOT NULL,
    message_id TEXT NOT NULL,
    action TEXT NOT NULL,
    payload TEXT NOT NULL,
    answer TEXT,
    problem TEXT,
    at BIGINT NOT NULL,
    answered_at BIGINT
) PARTITION BY RANGE (at);
CREATE INDEX frames_by_charger ON frames ((id / 4096), charger_id, id);
ALTER SEQUENCE frames_ids OWNED BY frames.id;
SELECT setval('frames_ids', COALESCE((SELECT MAX(id) FROM frames_before), 0) + 1, false);
DO $$
DECLARE
    day BIGINT := 86400000;
    newest BIGINT := GREATEST((SELECT MAX(at) FROM frames_before), (EXTRACT(EPOCH FROM now()) * 1000)::BIGINT + day);
BEGIN
    EXECUTE format('ALTER TABLE frames ATTACH PARTITION frames_before FOR VALUES FROM (MINVALUE) TO (%s)', (newest / day + 1) * day);
END $$;
