-- How long the register's last step took: one that counts in steps stands still between them, and that is no waiting.
ALTER TABLE sessions ADD COLUMN step_ms BIGINT NOT NULL DEFAULT 0;
