-- A boot forgets what the station told before and does not repeat. `charged`: the car that is plugged in has had its charge,
-- so the place is not free before it is unplugged.
ALTER TABLE connectors ADD COLUMN forgotten BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE connectors ADD COLUMN charged BOOLEAN NOT NULL DEFAULT FALSE;

-- The station as a whole was taken out of service by a command of ours. Without one, the state of connector 0 says nothing
-- of the others (1.6 section 4.9).
ALTER TABLE chargers ADD COLUMN inoperative BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE chargers SET inoperative = TRUE
    WHERE id IN (SELECT charger_id FROM connectors WHERE connector = 0 AND state = 'unavailable');

-- A refused start is kept and holds nothing: neither its place nor its customer. `lost_at`: since when the station's own words
-- say that it knows nothing of the transaction any more.
ALTER TABLE sessions ADD COLUMN refused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE sessions ADD COLUMN lost_at BIGINT;
UPDATE sessions SET refused = TRUE WHERE status = 'active' AND customer_id IS NULL AND id_tag IS NOT NULL
    AND review IN ('unknown_tag', 'concurrent_tx');
DROP INDEX sessions_one_live_per_device;
DROP INDEX sessions_one_live_per_customer;
CREATE UNIQUE INDEX sessions_one_live_per_device ON sessions (device_id) WHERE status IN ('requested', 'active') AND NOT refused;
CREATE UNIQUE INDEX sessions_one_live_per_customer ON sessions (customer_id) WHERE status IN ('requested', 'active') AND NOT refused;
