-- Signed events that the ledger knows nothing to do with; mails that a wallet's status ends.

-- What came in by a webhook and is no pass event: a bounded number of each tenant, to be looked at.
CREATE TABLE webhook_unknown (
    tenant      TEXT    NOT NULL, -- whose it is
    id          BLOB    NOT NULL CHECK (length(id) = 16), -- UUID version 7: in the order of arrival
    received_at INTEGER NOT NULL, -- when it came in
    name        TEXT,             -- what it calls itself
    keys        TEXT    NOT NULL, -- the names of its members: JSON list of texts
    digest      BLOB    NOT NULL CHECK (length(digest) = 32), -- SHA-256 of its body: by it a repeat is known
    bytes       INTEGER NOT NULL, -- how long its body is
    kept_bytes  INTEGER NOT NULL, -- how much of that is kept: all of it or nothing
    body        TEXT,             -- the whole of it as JSON; NULL: too long to be kept
    PRIMARY KEY (tenant, id)
) STRICT;

-- Repeats.
CREATE UNIQUE INDEX webhook_unknown_digest ON webhook_unknown (tenant, digest);
-- What there is of each tenant, without its bodies.
CREATE INDEX webhook_unknown_kept ON webhook_unknown (tenant, id, kept_bytes);

-- message.unless_wallet: in which of these states of its customer it is not sent: words of domain::wallet::WalletStatus,
-- one space between them; NULL: it is sent whatever the state.
ALTER TABLE message ADD COLUMN unless_wallet TEXT;

-- message.customer: whose wallets that asks for, as an identifier's value; NULL: the recipient's.
ALTER TABLE message ADD COLUMN customer TEXT;
