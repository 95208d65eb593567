-- When the charger agreed to end the charge for its customer, and did not end the transaction at once: some end it when the
-- car is unplugged. The purchase shows from then on.
ALTER TABLE sessions ADD COLUMN finish_asked_at BIGINT;
