-- Messages, their contents, attempts, idempotency keys, API keys and the audit.
-- Times are whole milliseconds since 1970-01-01T00:00:00Z. Identifiers are the 16 bytes of a UUID.

-- What the store knows about itself.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY, -- subject-secret, key-pepper or probed-at
    value BLOB NOT NULL              -- 32 random bytes for the first two; a time as 8 bytes, big-endian, and 8 random bytes for the last
) STRICT, WITHOUT ROWID;

-- The hot row of a message.
CREATE TABLE message (
    id                 BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- UUID version 7: in the order of acceptance
    tenant             TEXT    NOT NULL, -- whose it is
    lane               TEXT    NOT NULL CHECK (lane IN ('urgent', 'standard', 'journey')), -- its lane
    status             TEXT    NOT NULL CHECK (status IN ('queued', 'deferred', 'held', 'unknown', 'relayed', 'delivered', 'bounced', 'expired', 'suppressed', 'cancelled')), -- where it stands
    reason             TEXT,             -- why, when the status alone does not say it: a word of domain::message::Reason
    due_at             INTEGER,          -- queued, deferred: when it is tried; unknown: when the lane's policy decides; else NULL
    expires_at         INTEGER,          -- when the sweep must end it; NULL when no deadline can (ended, unknown, held after it may have been sent)
    deliver_by         INTEGER NOT NULL, -- its deadline, as promised at acceptance
    accepted_at        INTEGER NOT NULL, -- when it was accepted
    ended_at           INTEGER,          -- when it reached a state that is not live
    attempts           INTEGER NOT NULL DEFAULT 0, -- attempts spent
    resent             INTEGER NOT NULL DEFAULT 0 CHECK (resent IN (0, 1)), -- 1: an unknown was already sent once more
    may_have_been_sent INTEGER NOT NULL DEFAULT 0 CHECK (may_have_been_sent IN (0, 1)), -- 1: an attempt ended without a definite answer; never taken back
    domain             TEXT    NOT NULL, -- the recipient's domain as A-labels
    recipient          TEXT    NOT NULL, -- the recipient's normalised address, for look-ups
    mailbox            TEXT    NOT NULL, -- the recipient as given: a@b or Name <a@b>
    envelope_sender    TEXT    NOT NULL, -- the return path
    template           TEXT,             -- the platform's template name
    subject            TEXT    NOT NULL, -- the subject, decoded
    tags               TEXT    NOT NULL, -- JSON list of texts
    metadata           TEXT    NOT NULL, -- JSON object of texts
    message_id         TEXT    NOT NULL, -- the Message-ID header with its angle brackets
    relay              TEXT,             -- the relay asked last
    relay_reply        TEXT,             -- what it answered: code and text; may name the recipient
    relay_queue_id     TEXT              -- the relay's own queue id
) STRICT, WITHOUT ROWID;

-- What is due, by lane, tenant and domain; holds everything a claim reads.
CREATE INDEX message_due ON message (lane, tenant, domain, due_at, id, deliver_by, status) WHERE status IN ('queued', 'deferred');
-- Unknowns by the time of their decision.
CREATE INDEX message_unknown ON message (due_at) WHERE status = 'unknown';
-- Deadlines.
CREATE INDEX message_expires ON message (expires_at) WHERE expires_at IS NOT NULL;
-- Lists of a tenant, newest first: all, by recipient, by lane and state (a list by one of them merges), by template.
CREATE INDEX message_listed ON message (tenant, accepted_at, id);
CREATE INDEX message_by_recipient ON message (tenant, recipient, accepted_at, id);
CREATE INDEX message_by_standing ON message (tenant, lane, status, accepted_at, id);
CREATE INDEX message_by_template ON message (tenant, template, accepted_at, id) WHERE template IS NOT NULL;

-- The tags of messages, to find messages by one.
CREATE TABLE message_tag (
    tenant      TEXT    NOT NULL, -- whose message it is
    tag         TEXT    NOT NULL, -- the tag
    accepted_at INTEGER NOT NULL, -- the message's time of acceptance
    message     BLOB    NOT NULL, -- the message
    PRIMARY KEY (tenant, tag, accepted_at, message)
) STRICT, WITHOUT ROWID;

-- The cold row of a message: its content, until it is purged.
CREATE TABLE content (
    message    BLOB    NOT NULL PRIMARY KEY REFERENCES message (id), -- the message
    mime       BLOB    NOT NULL, -- the whole mail (RFC 5322) as one zstd frame with a checksum
    mime_bytes INTEGER NOT NULL  -- its length before compression
) STRICT;

-- Attempts between their commit point and their settlement. A row left by a dead process is an unknown.
CREATE TABLE attempt (
    message      BLOB    NOT NULL PRIMARY KEY REFERENCES message (id), -- the message
    token        BLOB    NOT NULL CHECK (length(token) = 16), -- random; every later write of the attempt repeats it
    relay        TEXT    NOT NULL, -- the relay whose RCPT was accepted
    number       INTEGER NOT NULL, -- which attempt of the message, from 1
    committed_at INTEGER NOT NULL  -- when the commit point was passed
) STRICT, WITHOUT ROWID;

-- Idempotency keys and the answers they were given.
CREATE TABLE idempotency (
    tenant      TEXT    NOT NULL, -- the key's scope
    key         TEXT    NOT NULL, -- the header's value
    fingerprint BLOB    NOT NULL, -- SHA-256 of the parsed submission
    message     BLOB    NOT NULL, -- the answer: the message
    status      TEXT    NOT NULL, -- the answer: its first state
    lane        TEXT    NOT NULL, -- the answer: its lane
    deliver_by  INTEGER NOT NULL, -- the answer: its deadline
    message_id  TEXT    NOT NULL, -- the answer: its Message-ID header
    expires_at  INTEGER NOT NULL, -- when the key is forgotten
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_expires ON idempotency (expires_at);

-- Keys of subjects: a recipient appears in the audit as an HMAC under a key of its own; erasing the row erases the person.
CREATE TABLE subject (
    lookup BLOB NOT NULL PRIMARY KEY, -- HMAC-SHA-256 of tenant and normalised address under the store's secret
    key    BLOB NOT NULL CHECK (length(key) = 32) -- random
) STRICT, WITHOUT ROWID;

-- API keys.
CREATE TABLE api_key (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- UUID version 7
    tenant     TEXT    NOT NULL, -- whose it is
    name       TEXT    NOT NULL, -- what people call it
    scopes     TEXT    NOT NULL, -- words of domain::key::Scope, one space between them
    mac        BLOB    NOT NULL UNIQUE CHECK (length(mac) = 32), -- HMAC-SHA-256 of the secret under the store's pepper
    created_at INTEGER NOT NULL, -- when it was made
    revoked_at INTEGER           -- when it was revoked
) STRICT, WITHOUT ROWID;

-- The audit: one row for every change of state, written in its transaction.
CREATE TABLE audit_leaf (
    seq     INTEGER NOT NULL PRIMARY KEY, -- its place, from 0, without gaps
    at      INTEGER NOT NULL, -- when
    kind    TEXT    NOT NULL, -- what: a word of domain::audit::Kind
    message BLOB,             -- to which message, if to one
    tenant  TEXT    NOT NULL, -- whose
    leaf    BLOB    NOT NULL  -- its canonical bytes (JSON)
) STRICT;

CREATE INDEX audit_leaf_of_message ON audit_leaf (message, seq) WHERE message IS NOT NULL;
