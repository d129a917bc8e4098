-- Pushes: what the brands' own receivers are still to be told, and how far we have read for it.

-- Endpoints that are, or were, in the configuration.
CREATE TABLE push_endpoint (
    tenant        TEXT    NOT NULL, -- whose
    endpoint      TEXT    NOT NULL, -- its name in the tenant's file
    is_configured INTEGER NOT NULL CHECK (is_configured IN (0, 1)), -- 1: it is in the configuration of the gateway that runs
    from_leaf     INTEGER NOT NULL, -- leaves from this number on make pushes for it
    off_at        INTEGER,          -- when it answered 410 Gone and was switched off; NULL: it is on
    dropped       INTEGER NOT NULL DEFAULT 0, -- pushes that were dropped undelivered, for their age or number
    PRIMARY KEY (tenant, endpoint)
) STRICT, WITHOUT ROWID;

-- How far the audit was read.
CREATE TABLE push_cursor (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 0), -- the one row
    next_leaf INTEGER NOT NULL -- the number of the leaf that is read next
) STRICT;

-- The outbox: one row for each event and endpoint, until the endpoint has taken it or it is dropped.
CREATE TABLE push (
    number   INTEGER NOT NULL PRIMARY KEY, -- the order of making
    id       BLOB    NOT NULL UNIQUE CHECK (length(id) = 16), -- UUID version 7: the receiver's webhook-id
    tenant   TEXT    NOT NULL, -- whose
    endpoint TEXT    NOT NULL, -- for which endpoint
    event    TEXT    NOT NULL, -- the event's name
    subject  TEXT    NOT NULL, -- of what it tells; pushes of one subject are sent one after the other
    state    TEXT    NOT NULL CHECK (state IN ('pending', 'dead')), -- pending: to be sent; dead: given up until an operator replays it
    due_at   INTEGER NOT NULL, -- pending: when it is tried
    made_at  INTEGER NOT NULL, -- when it was made
    attempts INTEGER NOT NULL DEFAULT 0, -- attempts that failed
    failure  TEXT,             -- how the last one failed: a status, or a word of ours
    tried_at INTEGER,          -- when that was
    body     TEXT    NOT NULL  -- what is sent, byte for byte
) STRICT;

-- What is due.
CREATE INDEX push_due ON push (tenant, endpoint, due_at, number) WHERE state = 'pending';
-- What must be sent before.
CREATE INDEX push_of_subject ON push (tenant, endpoint, subject, number) WHERE state = 'pending';
-- What is kept of an endpoint, the dead first ('dead' < 'pending').
CREATE INDEX push_kept ON push (tenant, endpoint, state, number);
-- What is too old.
CREATE INDEX push_made ON push (made_at);
