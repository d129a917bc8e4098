-- Facts and the messages that took them; metadata, to find messages by one pair of it.

-- Which message took a fact (dedupe), and what it was answered. The answer outlives the message.
CREATE TABLE dedupe (
    tenant     TEXT    NOT NULL, -- whose fact it is
    fact       TEXT    NOT NULL, -- the tenant's own key, as given
    recipient  BLOB    NOT NULL CHECK (length(recipient) = 32), -- the recipient as in subject.lookup: no address is kept
    message    BLOB    NOT NULL, -- the answer: the message; its row may be gone
    status     TEXT    NOT NULL, -- the answer: its first state
    lane       TEXT    NOT NULL, -- the answer: its lane
    deliver_by INTEGER NOT NULL, -- the answer: its deadline
    message_id TEXT    NOT NULL, -- the answer: its Message-ID header
    expires_at INTEGER,          -- when the fact is free again; NULL: never
    PRIMARY KEY (tenant, fact)
) STRICT, WITHOUT ROWID;

CREATE INDEX dedupe_expires ON dedupe (expires_at) WHERE expires_at IS NOT NULL;

-- message.fact: the fact the message was submitted under, if any; another message may have taken it since.
ALTER TABLE message ADD COLUMN fact TEXT;

-- The metadata of messages, to find messages by one pair.
CREATE TABLE message_metadata (
    tenant      TEXT    NOT NULL, -- whose message it is
    key         TEXT    NOT NULL, -- the pair's key
    value       TEXT    NOT NULL, -- the pair's value
    accepted_at INTEGER NOT NULL, -- the message's time of acceptance
    message     BLOB    NOT NULL, -- the message
    PRIMARY KEY (tenant, key, value, accepted_at, message)
) STRICT, WITHOUT ROWID;

-- Messages accepted before there was this table. A row whose metadata cannot be read stops nobody.
INSERT OR IGNORE INTO message_metadata (tenant, key, value, accepted_at, message)
SELECT message.tenant, pair.key, pair.value, message.accepted_at, message.id
FROM message, json_each(CASE WHEN json_valid(message.metadata) THEN message.metadata ELSE '{}' END) AS pair
WHERE pair.type = 'text';
