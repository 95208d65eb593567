-- With which tag an operator's command asked a station to begin a transaction: some stations tell only the remoteStartId back
-- (OCPP 2.0.1). The newest of a number counts.
CREATE TABLE remote_starts (
    charger_id TEXT NOT NULL REFERENCES chargers (id),
    remote_start_id BIGINT NOT NULL,
    id_tag TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    PRIMARY KEY (charger_id, remote_start_id)
);
