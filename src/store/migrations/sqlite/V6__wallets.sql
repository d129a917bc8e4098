-- Pass events: the ledger, and what it adds up to for each pass and each customer.

-- The ledger: every event that said something. Never changed; the order of its key is the order of events.
CREATE TABLE pass_event (
    id          BLOB    NOT NULL CHECK (length(id) = 16), -- UUID version 7: in the order of coming in
    tenant      TEXT    NOT NULL, -- whose customers
    pass_key    TEXT    NOT NULL, -- the pass's id; or, for events that named none, U+0001, identifier's name, U+0001, value
    at          INTEGER NOT NULL, -- when it happened: the sender's word, else when it came in
    kind        TEXT    NOT NULL CHECK (kind IN ('installed', 'uninstalled')), -- what happened
    wallet      TEXT    NOT NULL CHECK (wallet IN ('apple', 'google')), -- in which wallet
    tie         TEXT    NOT NULL, -- tells two events of one time and kind apart: the sender's key, our id, or nothing
    event_key   TEXT,             -- by what a repeat is known: a hash of the sender's key, the pass, the kind and the wallet; NULL: by nothing
    since       INTEGER,          -- since when it is installed, if the sender knew that better than from its time
    active      INTEGER,          -- registrations active, as the sender said
    total       INTEGER,          -- registrations ever, as the sender said
    change      TEXT    NOT NULL, -- what it turned out to be when it came in: a word of domain::pass_event::Change
    flapped     INTEGER NOT NULL CHECK (flapped IN (0, 1)), -- 1: it undid a removal so soon that nothing follows from it
    way         TEXT    NOT NULL, -- which way it came in: a word of domain::pass_event::Way
    received_at INTEGER NOT NULL, -- when it came in
    pass_type   TEXT,             -- the pass's type, as the sender said
    tags        TEXT    NOT NULL, -- the source's tags: JSON list of texts
    medium      TEXT,             -- the source's medium
    origin      TEXT,             -- the source's page
    user_agent  TEXT,             -- the source's browser
    PRIMARY KEY (tenant, pass_key, at, kind, wallet, tie)
) STRICT, WITHOUT ROWID;

-- Repeats.
CREATE UNIQUE INDEX pass_event_key ON pass_event (tenant, event_key) WHERE event_key IS NOT NULL;
-- What came in when; holds everything that is counted by day, device, type and medium.
CREATE INDEX pass_event_received ON pass_event (tenant, received_at, change, wallet, at, since, pass_type, medium, way);

-- What the events of a pass add up to.
CREATE TABLE wallet_pass (
    tenant      TEXT    NOT NULL, -- whose customers
    pass_key    TEXT    NOT NULL, -- as in pass_event
    customer    TEXT    NOT NULL, -- whose it is: the identifier's value, or the pass's id while none is known
    known_by    TEXT    NOT NULL, -- the identifier's name, or passId
    pass_type   TEXT,             -- its type, as said last
    identifiers TEXT    NOT NULL, -- JSON object of {at (milliseconds), value}: the latest word on each
    standings   TEXT    NOT NULL, -- JSON: how it stands in each wallet, as domain::wallet::history adds it up
    apple_since  INTEGER,         -- since when it is in Apple Wallet; NULL: it is not
    google_since INTEGER,         -- since when it is in Google Wallet; NULL: it is not
    changed_at  INTEGER NOT NULL, -- when anything of it changed last
    last_event  TEXT    NOT NULL CHECK (last_event IN ('installed', 'uninstalled')), -- what that was
    PRIMARY KEY (tenant, pass_key)
) STRICT, WITHOUT ROWID;

-- A customer's passes; each of these gives what they add up to by its first or last entry.
CREATE INDEX wallet_pass_of_customer ON wallet_pass (tenant, customer, known_by, changed_at, last_event);
CREATE INDEX wallet_pass_apple ON wallet_pass (tenant, customer, known_by, apple_since) WHERE apple_since IS NOT NULL;
CREATE INDEX wallet_pass_google ON wallet_pass (tenant, customer, known_by, google_since) WHERE google_since IS NOT NULL;

-- Identifiers of passes by which their customer is found besides: those the tenant knows customers by, and addresses.
CREATE TABLE pass_alias (
    tenant   TEXT    NOT NULL, -- whose customers
    value    TEXT    NOT NULL, -- the identifier's value
    pass_key TEXT    NOT NULL, -- the pass that has it, as in wallet_pass
    rank     INTEGER NOT NULL, -- how good the identifier is: its place among the tenant's, from 0
    PRIMARY KEY (tenant, value, pass_key),
    FOREIGN KEY (tenant, pass_key) REFERENCES wallet_pass (tenant, pass_key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What goes with a pass.
CREATE INDEX pass_alias_of_pass ON pass_alias (tenant, pass_key);

-- What the passes of a customer add up to.
CREATE TABLE wallet_customer (
    tenant              TEXT    NOT NULL, -- whose customer
    customer            TEXT    NOT NULL, -- who: the identifier's value, or a pass's id while none is known
    known_by            TEXT    NOT NULL, -- the identifier's name, or passId
    rank                INTEGER NOT NULL, -- how good the identifier is: its place among the tenant's, from 0
    status              TEXT    NOT NULL CHECK (status IN ('none', 'apple', 'google', 'both')), -- in which wallets
    apple_installed_at  INTEGER,          -- since when in Apple Wallet; NULL: not there
    google_installed_at INTEGER,          -- since when in Google Wallet; NULL: not there
    changed_at          INTEGER NOT NULL, -- when anything of it changed last
    last_event          TEXT    NOT NULL CHECK (last_event IN ('installed', 'uninstalled')), -- what that was
    changed_seq         INTEGER NOT NULL, -- the audit's leaf of that change: the order in which changes are read
    joined              TEXT,             -- no pass is left here: whose the last one turned out to be
    pushed_status       TEXT,             -- the status that receivers know, or would if there were any; NULL: none
    push_due_at         INTEGER,          -- when the status is to be pushed; NULL: receivers know it, or there are none
    PRIMARY KEY (tenant, customer, known_by)
) STRICT, WITHOUT ROWID;

CREATE INDEX wallet_customer_changed ON wallet_customer (tenant, changed_seq, customer, known_by);
CREATE INDEX wallet_customer_push_due ON wallet_customer (push_due_at) WHERE push_due_at IS NOT NULL;
