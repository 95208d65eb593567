-- Passwords of chargers that were changed: each lets its charger in until a newer one was used, for nobody knows whether
-- the charger heard of the change.
CREATE TABLE earlier_passwords (
    charger_id TEXT NOT NULL REFERENCES chargers (id),
    hash TEXT NOT NULL,
    replaced_at BIGINT NOT NULL,
    PRIMARY KEY (charger_id, hash)
);

-- Where a charger connected from last: from there its password is looked at however often others tried.
ALTER TABLE chargers ADD COLUMN last_network TEXT;
