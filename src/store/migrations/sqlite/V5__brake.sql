-- The blast brake: what is usual for a stream of mails, where a brake is on, and what it holds.

-- message.api_key: the key it was handed in with; NULL: by a command, or accepted before there was this column.
ALTER TABLE message ADD COLUMN api_key BLOB;

-- message.brake: the brake that last held it, if any did.
ALTER TABLE message ADD COLUMN brake BLOB;

-- What each brake holds. No row for a mail that none ever held.
CREATE INDEX message_braked ON message (brake, status, reason, id) WHERE brake IS NOT NULL;

-- Brakes: one row for each time that a stream was out of line.
CREATE TABLE brake (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- UUID version 7
    tenant      TEXT    NOT NULL, -- the stream: whose mails
    api_key     BLOB    NOT NULL CHECK (length(api_key) = 16), -- the stream: handed in with this key
    template    TEXT,             -- the stream: of this template; NULL: of none
    cause       TEXT    NOT NULL, -- why: a word of domain::brake::Cause
    seen        INTEGER NOT NULL, -- how much there was: mails, or refused ones of a thousand
    allowed     INTEGER NOT NULL, -- how much there might have been
    holds       INTEGER NOT NULL CHECK (holds IN (0, 1)), -- 1: the stream's mails are held; 0: it only raises an alarm
    engaged_at  INTEGER NOT NULL, -- since when
    decision    TEXT    CHECK (decision IN ('release', 'cancel')), -- what was decided; NULL while it is on
    decided_at  INTEGER,          -- when
    decided_by  TEXT,             -- by whom, as in the audit
    because     TEXT,             -- why, in their own words
    done        INTEGER NOT NULL DEFAULT 0, -- held mails with which the decision was carried out so far
    finished_at INTEGER           -- when it was carried out with all of them
) STRICT, WITHOUT ROWID;

-- What is on, or not carried out to its end.
CREATE INDEX brake_open ON brake (id) WHERE finished_at IS NULL;

-- What is usual for a stream, where that says more than the settings.
CREATE TABLE stream_usual (
    tenant     TEXT    NOT NULL, -- whose mails
    api_key    BLOB    NOT NULL, -- handed in with this key
    template   TEXT    NOT NULL, -- of this template; empty: of none
    mails      REAL    NOT NULL, -- mails in one window
    refused    REAL    NOT NULL, -- the share that relays refuse for good, 0 to 1
    learned_at INTEGER NOT NULL, -- when this was so; from then on mails fade
    PRIMARY KEY (tenant, api_key, template)
) STRICT, WITHOUT ROWID;

CREATE INDEX stream_usual_learned ON stream_usual (learned_at);
