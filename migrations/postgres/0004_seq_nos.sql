-- Which of a transaction's messages have come (OCPP 2.0.1 numbers them), as ranges: `0-4,6`. With a gap, its end waits.
ALTER TABLE sessions ADD COLUMN seq_nos TEXT;
