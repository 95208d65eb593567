-- What a remoteStartId began, once that was told: stations name it again with later transactions, which are not the card's.
ALTER TABLE remote_starts ADD COLUMN session_id TEXT;
