-- A phone's codes: one for each who asked, so that no request and no guess of a stranger ends another's. Those of before
-- were good for five minutes.
DROP TABLE phone_codes;
CREATE TABLE phone_codes (
    phone TEXT NOT NULL,
    -- Who asked: a keyed hash of the phone and a network, or a login of that phone.
    asker TEXT NOT NULL,
    code_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (phone, asker)
);
-- How often a code was tried, and by whom; '' are all who neither asked for it nor are known with this phone.
CREATE TABLE phone_code_tries (
    phone TEXT NOT NULL,
    asker TEXT NOT NULL,
    guesser TEXT NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (phone, asker, guesser),
    FOREIGN KEY (phone, asker) REFERENCES phone_codes (phone, asker) ON DELETE CASCADE
);

-- Where a phone's customer was logged in before: keyed hashes of the phone and a network, the newest few.
CREATE TABLE known_networks (
    phone TEXT NOT NULL,
    network TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (phone, network)
);
