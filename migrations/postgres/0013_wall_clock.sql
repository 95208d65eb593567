-- The clock that a charge's bands go by: the zone of its station at the start, a name of the IANA database. NULL: it began
-- before zones were kept, and goes by `utc_offset_min`, which is written no more.
ALTER TABLE sessions ADD COLUMN time_zone TEXT;
