-- Units everywhere: money BIGINT möngö (1/100 MNT), energy BIGINT Wh, time BIGINT milliseconds since
-- 1970-01-01T00:00:00Z, coordinates BIGINT in 1e-7 degrees, ids TEXT of 24 lower-case hexadecimal digits.

-- Secrets and marks of the installation itself, made at the first start.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- One holder at a time for the work that only one node may do (sweeper, live ticks, outbox relay).
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- People who charge and pay. The balance repeats the sum of the customer's ledger entries; the audit compares.
CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    phone TEXT NOT NULL CONSTRAINT customers_phone_unique UNIQUE,
    name TEXT NOT NULL DEFAULT '',
    email TEXT NOT NULL DEFAULT '',
    balance BIGINT NOT NULL DEFAULT 0 CONSTRAINT customers_balance_not_negative CHECK (balance >= 0),
    topic TEXT NOT NULL UNIQUE,
    fcm_token TEXT,
    created_at BIGINT NOT NULL
);

-- The newest code of a phone. A code is stored as a keyed hash and dies after its tries or its time.
CREATE TABLE phone_codes (
    phone TEXT PRIMARY KEY,
    code_hash TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Logins. Tokens and event passwords are stored as hashes only.
CREATE TABLE login_sessions (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    token_hash TEXT NOT NULL UNIQUE,
    events_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX login_sessions_by_customer ON login_sessions (customer_id);

-- Cards that start a charge at the charger. Tags of started sessions stand in the sessions themselves.
CREATE TABLE cards (
    id_tag TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    blocked BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL
);

-- Charging stations. `epoch` counts connections: whatever carries an older one changes nothing. `node` holds the
-- socket and renews a lease of its name; when that runs out, its chargers are offline.
CREATE TABLE chargers (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL CONSTRAINT chargers_identity_unique UNIQUE,
    password_hash TEXT,
    security_profile SMALLINT NOT NULL DEFAULT 0,
    without_subprotocol TEXT,
    version TEXT,
    vendor TEXT,
    model TEXT,
    serial TEXT,
    firmware TEXT,
    epoch BIGINT NOT NULL DEFAULT 0,
    online BOOLEAN NOT NULL DEFAULT FALSE,
    node TEXT,
    connected_at BIGINT,
    booted_at BIGINT,
    last_seen_at BIGINT,
    created_at BIGINT NOT NULL
);

-- The newest state of each connector as the station told it; connector 0 is the station as a whole.
CREATE TABLE connectors (
    charger_id TEXT NOT NULL REFERENCES chargers (id),
    connector INTEGER NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (charger_id, connector)
);

-- Immutable: a changed price is a new version, and a session keeps the one it began with.
CREATE TABLE tariff_versions (
    id TEXT PRIMARY KEY,
    energy_price BIGINT NOT NULL CHECK (energy_price BETWEEN 0 AND 10000000000),
    waiting_price BIGINT NOT NULL CHECK (waiting_price BETWEEN 0 AND 10000000000),
    waiting_grace_s BIGINT NOT NULL DEFAULT 0 CHECK (waiting_grace_s >= 0),
    created_at BIGINT NOT NULL
);

-- Where one car can plug in, as the customer sees it.
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    charger_id TEXT NOT NULL REFERENCES chargers (id),
    connector INTEGER NOT NULL CHECK (connector > 0),
    device_number TEXT NOT NULL CONSTRAINT devices_number_unique UNIQUE,
    longitude BIGINT NOT NULL,
    latitude BIGINT NOT NULL,
    tariff_id TEXT NOT NULL REFERENCES tariff_versions (id),
    max_power_w BIGINT,
    out_of_service BOOLEAN NOT NULL DEFAULT FALSE,
    removed BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT devices_connector_unique UNIQUE (charger_id, connector)
);
CREATE INDEX devices_by_place ON devices (latitude, longitude);

-- Gives OCPP 1.6 its transaction ids: positive, 32 bits, unique in the whole system.
CREATE TABLE transaction_numbers (
    id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id TEXT NOT NULL
);

-- One charge each. The figures from `baseline_wh` to `doubt` are the fold over `readings`.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    purchase_id TEXT NOT NULL UNIQUE,
    charger_id TEXT NOT NULL REFERENCES chargers (id),
    connector INTEGER NOT NULL,
    device_id TEXT REFERENCES devices (id),
    customer_id TEXT REFERENCES customers (id),
    tariff_id TEXT REFERENCES tariff_versions (id),
    status TEXT NOT NULL CHECK (status IN ('requested', 'active', 'finished', 'failed')),
    id_tag TEXT,
    remote_start_id BIGINT,
    transaction_ref TEXT,
    start_key TEXT,
    fail_reason TEXT,
    stop_reason TEXT,
    review TEXT,
    requested_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    settled_at BIGINT,
    heard_at BIGINT NOT NULL,
    baseline_wh BIGINT,
    register_wh BIGINT,
    register_at BIGINT NOT NULL DEFAULT 0,
    last_at BIGINT NOT NULL DEFAULT 0,
    last_kind SMALLINT NOT NULL DEFAULT 0,
    waiting_ms BIGINT NOT NULL DEFAULT 0,
    quiet_ms BIGINT NOT NULL DEFAULT 0,
    charging_state SMALLINT NOT NULL DEFAULT 0,
    power_w BIGINT,
    soc BIGINT,
    doubt SMALLINT
);
-- One car at a device, one charge a customer: two starts at the same moment meet here, and one loses.
CREATE UNIQUE INDEX sessions_one_live_per_device ON sessions (device_id) WHERE status IN ('requested', 'active');
CREATE UNIQUE INDEX sessions_one_live_per_customer ON sessions (customer_id) WHERE status IN ('requested', 'active');
CREATE UNIQUE INDEX sessions_transaction_unique ON sessions (transaction_ref, charger_id);
CREATE UNIQUE INDEX sessions_start_unique ON sessions (start_key, charger_id);
CREATE UNIQUE INDEX sessions_remote_start_unique ON sessions (remote_start_id);
-- What the live events, the sweeper and the writers look for again and again.
CREATE INDEX sessions_running ON sessions (id) WHERE status = 'active';
CREATE INDEX sessions_requested ON sessions (requested_at) WHERE status = 'requested';
CREATE INDEX sessions_live ON sessions (charger_id) WHERE status IN ('requested', 'active');
-- A charge that began after its request had run out is found by its tag.
CREATE INDEX sessions_failed_by_tag ON sessions (id_tag) WHERE status = 'failed';
CREATE INDEX sessions_by_customer ON sessions (customer_id, id);

-- The evidence of a bill: every register, power and state of a session, once.
CREATE TABLE readings (
    session_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (session_id, at, kind)
);

-- What went over the sockets, a CALL and its answer in one row. Heartbeats are not kept.
CREATE TABLE frames (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
);
CREATE INDEX frames_by_charger ON frames (charger_id, id);

-- What a charge costs. `paid` never exceeds `amount`; a correction after payment raises or gives back.
CREATE TABLE purchases (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL UNIQUE REFERENCES sessions (id),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    energy_wh BIGINT NOT NULL CHECK (energy_wh >= 0),
    waiting_s BIGINT NOT NULL CHECK (waiting_s >= 0),
    energy_amount BIGINT NOT NULL CHECK (energy_amount >= 0),
    waiting_amount BIGINT NOT NULL CHECK (waiting_amount >= 0),
    amount BIGINT NOT NULL CHECK (amount = energy_amount + waiting_amount),
    paid BIGINT NOT NULL DEFAULT 0 CONSTRAINT purchases_paid_within_amount CHECK (paid >= 0 AND paid <= amount),
    status TEXT NOT NULL CHECK (status IN ('unpaid', 'pending', 'paid', 'refunded')),
    option TEXT,
    feedback_score SMALLINT CHECK (feedback_score BETWEEN 1 AND 5),
    feedback_text TEXT,
    created_at BIGINT NOT NULL,
    paid_at BIGINT
);
CREATE INDEX purchases_by_customer ON purchases (customer_id, id);
CREATE INDEX purchases_unpaid ON purchases (customer_id) WHERE status IN ('unpaid', 'pending');

-- Attempts to pay a purchase, with their outcome.
CREATE TABLE payments (
    id TEXT PRIMARY KEY,
    purchase_id TEXT NOT NULL REFERENCES purchases (id),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    option TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    status TEXT NOT NULL CHECK (status IN ('pending', 'success', 'error', 'canceled')),
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX payments_by_purchase ON payments (purchase_id);

-- Double entry, append only. `key` names what is booked, so that it is booked once.
CREATE TABLE ledger_transactions (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL CONSTRAINT ledger_key_unique UNIQUE,
    kind TEXT NOT NULL,
    customer_id TEXT,
    note TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX ledger_transactions_by_customer ON ledger_transactions (customer_id, id);
CREATE TABLE ledger_entries (
    transaction_id TEXT NOT NULL REFERENCES ledger_transactions (id),
    account TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (transaction_id, account, customer_id)
);
CREATE INDEX ledger_entries_by_customer ON ledger_entries (customer_id, account);

-- Events that must go out whatever dies: written with the money, published afterwards, at least once.
CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    customer_id TEXT NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    published_at BIGINT
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_at IS NULL;

-- The answer once given to a request that may come twice.
CREATE TABLE idempotency_keys (
    customer_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status INTEGER,
    response TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (customer_id, key)
);
