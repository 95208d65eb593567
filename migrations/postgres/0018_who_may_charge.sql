-- Whether whoever comes may charge here without a card and for free (2.0.1 idToken NoAuthorization).
ALTER TABLE chargers ADD COLUMN free_charging BOOLEAN NOT NULL DEFAULT FALSE;

-- When card numbers were last guessed at this charger.
ALTER TABLE chargers ADD COLUMN guessed_at BIGINT;
