-- The last charge of a connector: a stop that names no transaction may be its end.
CREATE INDEX sessions_by_place ON sessions (charger_id, connector);
