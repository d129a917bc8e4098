-- Suppressions: whom a tenant no longer mails; and the links by which somebody says so themselves.

-- Who is not mailed, and what that stops.
CREATE TABLE suppression (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- in the order in which they were added; never given twice
    tenant   TEXT    NOT NULL, -- who does not mail them
    lookup   BLOB    NOT NULL CHECK (length(lookup) = 32), -- who: as in subject, so that it outlives their address
    scope    TEXT    NOT NULL, -- what it stops: domain::suppression::SuppressionScope
    source   TEXT    NOT NULL, -- who said so: a word of domain::suppression::Source
    because  TEXT,             -- an operator's own words; NULL: none
    address  TEXT,             -- the address as it is shown; NULL: nobody knows it (any more)
    token    BLOB,             -- the link by which they said so; NULL: another way
    actor    TEXT    NOT NULL, -- who added it, as in its leaf
    added_at INTEGER NOT NULL  -- when
) STRICT;

-- A recipient's, for each mail to them; and whether a tenant has any.
CREATE UNIQUE INDEX suppression_of ON suppression (tenant, lookup, scope);
-- Lists of a tenant by number.
CREATE INDEX suppression_listed ON suppression (tenant);
CREATE INDEX suppression_by_scope ON suppression (tenant, scope);
-- What a link has added, to take it back.
CREATE INDEX suppression_by_token ON suppression (token) WHERE token IS NOT NULL;

-- Links in mails that were accepted: they work for ever, so nothing here expires.
CREATE TABLE unsubscribe_token (
    token     BLOB    NOT NULL PRIMARY KEY CHECK (length(token) = 24), -- HMAC-SHA-256 of the rest under the store's secret, cut
    tenant    TEXT    NOT NULL, -- whose mails
    scope     TEXT    NOT NULL, -- what it stops: domain::suppression::SuppressionScope
    lookup    BLOB    NOT NULL CHECK (length(lookup) = 32), -- whose link: as in subject
    recipient BLOB    NOT NULL CHECK (length(recipient) = 32), -- the same as leaves name them: an HMAC under the subject's key
    message   BLOB,             -- the last mail that carried it; NULL: the person was erased since
    first_at  INTEGER NOT NULL  -- when a mail that carries it was accepted first
) STRICT, WITHOUT ROWID;

-- A person's, when they are erased.
CREATE INDEX unsubscribe_token_of ON unsubscribe_token (tenant, lookup);
