-- Which purchase a ledger transaction is about. The audit holds each purchase against its own postings, a refund
-- takes back exactly what was booked, and a statement names the charge.
ALTER TABLE ledger_transactions ADD COLUMN purchase_id TEXT;
UPDATE ledger_transactions SET purchase_id = note WHERE kind = 'payment';
UPDATE ledger_transactions SET purchase_id = (SELECT p.id FROM purchases p WHERE p.session_id = substr(ledger_transactions.key, 8))
    WHERE kind = 'charge';
UPDATE ledger_transactions SET purchase_id = (SELECT p.id FROM purchases p WHERE p.session_id = substr(ledger_transactions.key, 9, 24))
    WHERE kind = 'correction';
CREATE INDEX ledger_transactions_by_purchase ON ledger_transactions (purchase_id);
-- Statements and lists go by time.
CREATE INDEX ledger_transactions_by_time ON ledger_transactions (created_at, id);
CREATE INDEX ledger_transactions_by_customer_time ON ledger_transactions (customer_id, created_at, id);

-- What a payment gateway is asked to collect: for a purchase, or, without one, for the balance. Stored before the gateway
-- is called, and each attempt anew, for the gateway takes an invoice number once; the number is the id. `amount` is exact, the gateway is
-- asked for the next whole tögrög. `credited` is what came in. `callback_token` stands in the callback's path.
-- `claimed_until` lets one node at a time ask the gateway, `checked_at` says when it was last asked, `hints` counts
-- callbacks, so that one that comes during a check is not lost, and `hint_payment_id` is what one named while the
-- gateway's own id of the invoice is not known. `failures` stretches the time to the next try.
-- `next_check_at` is empty where nothing is left to do by itself. `closed_at`: nobody can pay it at the gateway any more.
CREATE TABLE invoices (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    purchase_id TEXT REFERENCES purchases (id),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    amount BIGINT NOT NULL CHECK (amount > 0),
    credited BIGINT NOT NULL DEFAULT 0 CHECK (credited >= 0),
    callback_token TEXT NOT NULL UNIQUE,
    gateway_invoice_id TEXT,
    url TEXT,
    status TEXT NOT NULL CHECK (status IN ('creating', 'pending', 'success', 'error', 'canceled')),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    closed_at BIGINT,
    claimed_until BIGINT NOT NULL,
    checked_at BIGINT,
    hints BIGINT NOT NULL DEFAULT 0,
    hint_payment_id TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    next_check_at BIGINT,
    CHECK ((status IN ('creating', 'pending')) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX invoices_gateway_id_unique ON invoices (provider, gateway_invoice_id);
CREATE UNIQUE INDEX invoices_one_open_per_purchase ON invoices (purchase_id) WHERE status IN ('creating', 'pending');
CREATE INDEX invoices_open_by_customer ON invoices (customer_id) WHERE status IN ('creating', 'pending');
CREATE INDEX invoices_by_purchase ON invoices (purchase_id);
CREATE INDEX invoices_due ON invoices (next_check_at) WHERE next_check_at IS NOT NULL;

-- Money that came in at the gateway, each payment once, whoever heard of it first. `applied` of it paid the purchase, the
-- rest is balance. `fee` is what the gateway keeps. `flag` says why the operator should look. A refund is booked first
-- and asked of the gateway afterwards, again and again until it answers; `balance`: it will not, the money is balance.
CREATE TABLE gateway_payments (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    invoice_id TEXT NOT NULL REFERENCES invoices (id),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    kind TEXT NOT NULL CHECK (kind IN ('P2P', 'CARD', 'OTHER')),
    amount BIGINT NOT NULL CHECK (amount > 0),
    fee BIGINT NOT NULL CHECK (fee >= 0 AND fee <= amount),
    applied BIGINT NOT NULL CHECK (applied >= 0 AND applied <= amount),
    flag TEXT CHECK (flag IN ('surplus', 'late', 'refunded_at_gateway', 'refund_failed')),
    refund TEXT CHECK (refund IN ('requested', 'refunded', 'balance')),
    refund_tries INTEGER NOT NULL DEFAULT 0,
    refund_next_at BIGINT,
    credited_at BIGINT NOT NULL,
    CONSTRAINT gateway_payments_once UNIQUE (provider, payment_id)
);
CREATE INDEX gateway_payments_by_invoice ON gateway_payments (invoice_id);
CREATE INDEX gateway_payments_flagged ON gateway_payments (credited_at) WHERE flag IS NOT NULL;
CREATE INDEX gateway_payments_refunds ON gateway_payments (refund_next_at) WHERE refund = 'requested';
