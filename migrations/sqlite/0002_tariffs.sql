-- A tariff's further terms. VAT is in all prices; `vat_bp` is its rate in hundredths of a percent. `bands` are parts of
-- the local day with prices of their own, `from-to=energy price[/waiting price]` in minutes of the day and möngö, one a
-- line; NULL: one price all day.
ALTER TABLE tariff_versions ADD COLUMN start_fee BIGINT NOT NULL DEFAULT 0 CHECK (start_fee BETWEEN 0 AND 10000000000);
ALTER TABLE tariff_versions ADD COLUMN minimum BIGINT NOT NULL DEFAULT 0 CHECK (minimum BETWEEN 0 AND 10000000000);
ALTER TABLE tariff_versions ADD COLUMN cap BIGINT CHECK (cap BETWEEN minimum AND 10000000000000);
ALTER TABLE tariff_versions ADD COLUMN vat_bp BIGINT NOT NULL DEFAULT 0 CHECK (vat_bp BETWEEN 0 AND 10000);
ALTER TABLE tariff_versions ADD COLUMN bands TEXT;

-- Where the station stands, for its tariffs' bands: a name of the IANA database.
ALTER TABLE chargers ADD COLUMN time_zone TEXT NOT NULL DEFAULT 'Asia/Ulaanbaatar';

-- When the highest register was last read; the clock of the station as it was at the start, minutes ahead of UTC; the
-- figures apart by band, only where the tariff has bands; and when the charger was last asked to stop because the balance
-- was reached.
ALTER TABLE sessions ADD COLUMN level_at BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET level_at = last_at;
ALTER TABLE sessions ADD COLUMN utc_offset_min SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN band_figures TEXT;
ALTER TABLE sessions ADD COLUMN stop_asked_at BIGINT;

-- The lines of a purchase. What stood in the two amounts so far were the parts that energy and waiting have in the total,
-- VAT included; they go on as that. The lines add up to the same total, adjusted to a minimum or a cap.
ALTER TABLE purchases RENAME COLUMN energy_amount TO energy_part;
ALTER TABLE purchases RENAME COLUMN waiting_amount TO waiting_part;
ALTER TABLE purchases ADD COLUMN start_amount BIGINT NOT NULL DEFAULT 0 CHECK (start_amount >= 0);
ALTER TABLE purchases ADD COLUMN energy_amount BIGINT NOT NULL DEFAULT 0 CHECK (energy_amount >= 0);
ALTER TABLE purchases ADD COLUMN waiting_amount BIGINT NOT NULL DEFAULT 0 CHECK (waiting_amount >= 0);
UPDATE purchases SET energy_amount = energy_part, waiting_amount = waiting_part;
ALTER TABLE purchases ADD COLUMN adjustment_amount BIGINT NOT NULL DEFAULT 0
    CHECK (amount = start_amount + energy_amount + waiting_amount + adjustment_amount);
ALTER TABLE purchases ADD COLUMN vat_amount BIGINT NOT NULL DEFAULT 0 CHECK (vat_amount BETWEEN 0 AND amount);
