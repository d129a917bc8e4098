-- Contacts: what is known of customers besides their passes.

CREATE TABLE contact (
    tenant       TEXT    NOT NULL, -- whose customer
    customer     TEXT    NOT NULL, -- their identifier, normalised as those of passes are
    email        TEXT    NOT NULL, -- their address as given
    address      TEXT    NOT NULL, -- the same, normalised: what they are found by
    name         TEXT,             -- what they are called
    culture      TEXT,             -- their language: BCP 47
    timezone     TEXT,             -- where their clock is: a name of the IANA's
    consent      TEXT    NOT NULL, -- JSON object of {granted, at, source}: what they agreed to
    fields       TEXT    NOT NULL, -- JSON object of texts, numbers, true and false: what else the brand keeps here
    origin       TEXT    NOT NULL CHECK (origin IN ('api', 'import', 'lookup')), -- where it came from
    created_at   INTEGER NOT NULL, -- since when there is a contact of this customer
    changed_at   INTEGER NOT NULL, -- when it became another last
    confirmed_at INTEGER NOT NULL, -- when it was said last
    PRIMARY KEY (tenant, customer)
) STRICT, WITHOUT ROWID;

-- Who has an address.
CREATE INDEX contact_by_address ON contact (tenant, address, customer);

-- Who was known otherwise before: found when they are erased.
CREATE INDEX wallet_customer_joined ON wallet_customer (tenant, joined) WHERE joined IS NOT NULL;
