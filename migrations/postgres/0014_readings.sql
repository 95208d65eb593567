-- When a reading was received, and what is known of its date (0 or NULL: the station's word, 1: of a time when it was out of
-- touch, 2: none, it is the time of receipt). A station's clock is held against it.
ALTER TABLE readings ADD COLUMN received_at BIGINT;
ALTER TABLE readings ADD COLUMN dated SMALLINT;

-- Since when a station had been out of touch as it connected last; NULL: it had never been heard.
ALTER TABLE chargers ADD COLUMN away_since BIGINT;

-- What a session's figures need besides and no query asks for; what is doubtful, each with two figures; and energy that no
-- register told. `doubt` is written no more.
ALTER TABLE sessions ADD COLUMN meter_rest TEXT;
ALTER TABLE sessions ADD COLUMN doubts TEXT;
ALTER TABLE sessions ADD COLUMN unmetered_wh BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET doubts = doubt || '=0,0' WHERE doubt IS NOT NULL;

-- The figures of a session up to a moment, where it has more readings than are kept: those up to there are gone.
CREATE TABLE reading_bases (
    session_id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    figures TEXT NOT NULL
);
