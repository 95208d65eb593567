-- A station's id of a transaction, where a later charge has it by now as its name (OCPP 2.0.1 stations begin theirs again):
-- what is told late of an older charge is found by it.
ALTER TABLE sessions ADD COLUMN told_ref TEXT;
UPDATE sessions SET told_ref = substr(transaction_ref, 1, length(transaction_ref) - 25) WHERE transaction_ref LIKE '%/' || id;
CREATE INDEX sessions_by_told_ref ON sessions (told_ref, charger_id) WHERE told_ref IS NOT NULL;
