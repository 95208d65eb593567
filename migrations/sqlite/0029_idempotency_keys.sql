-- Answers that may hold secrets are forgotten: logins, which are no longer kept under a key, and what chargers answered to
-- commands, of which only remains that it was done.
DELETE FROM idempotency_keys WHERE response LIKE '%"token"%' OR response LIKE '%"pass"%';
UPDATE idempotency_keys SET response = '' WHERE customer_id = 'operator' AND (response LIKE '{"result"%' OR response LIKE '{"error"%');
-- A customer's keys of a day are counted.
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (customer_id, created_at);
