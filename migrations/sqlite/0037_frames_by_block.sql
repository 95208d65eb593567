-- A charger's frames lie together within 4096 ids. In an index by charger alone the frames of a batch lie far apart: nearly
-- each has a page of it to write; here they share the pages of the newest ids.
DROP INDEX frames_by_charger;
CREATE INDEX frames_by_charger ON frames (id / 4096, charger_id, id);
