-- The readings of a charge that is long over, in one text: a row each takes some two hundred bytes, here it is a dozen.
CREATE TABLE packed_readings (
    session_id TEXT PRIMARY KEY,
    points TEXT NOT NULL
);
