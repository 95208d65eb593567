-- Limits that all nodes share, e.g. codes by SMS: what is counted, one row a phone, an address or all of them, which
-- whoever counts locks; and when it was done, one row a time.
CREATE TABLE limit_keys (
    key TEXT PRIMARY KEY,
    at BIGINT NOT NULL
);
CREATE TABLE limit_hits (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX limit_hits_by_key ON limit_hits (key, at);

-- When a login was last used, kept to the hour.
ALTER TABLE login_sessions ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;
UPDATE login_sessions SET seen_at = created_at;

-- The login that gave the push token; the token goes when the login does.
ALTER TABLE customers ADD COLUMN fcm_login TEXT;
-- A token belongs to its newest customer, so the one before is looked for.
CREATE INDEX customers_by_fcm_token ON customers (fcm_token) WHERE fcm_token IS NOT NULL;

-- Push messages go out from the outbox, with a progress of their own: `pushed_at` also where nothing is to be pushed, or
-- it was given up. What is in the outbox already is not pushed any more.
ALTER TABLE outbox ADD COLUMN pushed_at BIGINT;
ALTER TABLE outbox ADD COLUMN push_tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN push_next_at BIGINT NOT NULL DEFAULT 0;
UPDATE outbox SET pushed_at = created_at;
CREATE INDEX outbox_to_push ON outbox (id) WHERE pushed_at IS NULL;
-- Streams read the newest events of one customer.
CREATE INDEX outbox_by_customer ON outbox (customer_id, id);
