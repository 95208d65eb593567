-- A charge that its customer finished before the charger told its begin is found by its tag too, not only one that failed:
-- what the charger tells late is billed by a correction.
DROP INDEX sessions_failed_by_tag;
CREATE INDEX sessions_never_begun_by_tag ON sessions (id_tag) WHERE transaction_ref IS NULL;
