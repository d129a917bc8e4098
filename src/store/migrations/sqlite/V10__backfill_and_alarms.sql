-- Readings of the Pass API, pass events counted by hour, and the alarms raised over them.

-- The last reading of each tenant's passes.
CREATE TABLE backfill (
    tenant      TEXT    NOT NULL PRIMARY KEY, -- whose passes
    number      INTEGER NOT NULL, -- of this reading among the tenant's, from 1
    started_at  INTEGER NOT NULL, -- when it began
    round       INTEGER NOT NULL, -- which time the pages are gone through, from 1
    page        INTEGER,          -- the page read last in that round; NULL: none yet
    in_order    INTEGER NOT NULL CHECK (in_order IN (0, 1)), -- 1: the pages came in the order asked for so far
    read_at     INTEGER,          -- when all pages had been read; NULL: not yet
    ended_at    INTEGER,          -- when it ended; NULL: it can be gone on with
    tally       TEXT    NOT NULL  -- what it counted: JSON of domain::backfill::Tally
) STRICT, WITHOUT ROWID;

-- Passes that the reading has seen. Nothing is left of them when it has ended.
CREATE TABLE backfill_seen (
    tenant TEXT    NOT NULL, -- whose pass
    pass   TEXT    NOT NULL, -- its id
    number INTEGER NOT NULL, -- the reading that saw it last
    PRIMARY KEY (tenant, pass)
) STRICT, WITHOUT ROWID;

-- Pass events by hour, as far as they were counted.
CREATE TABLE pass_event_hour (
    tenant     TEXT    NOT NULL, -- whose passes
    hour       INTEGER NOT NULL, -- the hour they came in: whole hours since 1970
    installs   INTEGER NOT NULL, -- passes added to a wallet
    uninstalls INTEGER NOT NULL, -- passes removed from one
    PRIMARY KEY (tenant, hour)
) STRICT, WITHOUT ROWID;

-- How far each tenant's events were counted.
CREATE TABLE pass_event_counted (
    tenant       TEXT    NOT NULL PRIMARY KEY, -- whose passes
    received_at  INTEGER NOT NULL, -- all that came in up to then was counted
    first_hour   INTEGER NOT NULL, -- the hour of the first event ever counted
    last_install INTEGER           -- when the last install came in; NULL: none yet
) STRICT, WITHOUT ROWID;

-- Alarms: one row for each time that a tenant's passes were worth a look.
CREATE TABLE alarm (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- UUID version 7
    tenant    TEXT    NOT NULL, -- whose passes
    kind      TEXT    NOT NULL CHECK (kind IN ('silence', 'uninstalls')), -- what is worth a look
    seen      INTEGER NOT NULL, -- how many there were when it was raised
    usual     REAL    NOT NULL, -- how many would have been usual
    opened_at INTEGER NOT NULL, -- since when
    closed_at INTEGER           -- when it ended; NULL while it is open
) STRICT, WITHOUT ROWID;

-- One of a kind is open at a time.
CREATE UNIQUE INDEX alarm_open ON alarm (tenant, kind) WHERE closed_at IS NULL;
