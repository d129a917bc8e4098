-- Journeys: what was drawn, who is on the way through it, and which mails came of it.

-- Each content of a journey that anybody ever entered: who has begun ends with it.
CREATE TABLE journey_version (
    tenant  TEXT    NOT NULL, -- whose journey
    journey TEXT    NOT NULL, -- its name
    version TEXT    NOT NULL, -- the name of this content
    drawing TEXT    NOT NULL, -- JSON of domain::journey::Journey
    first_at INTEGER NOT NULL, -- when somebody entered it first
    PRIMARY KEY (tenant, journey, version)
) STRICT, WITHOUT ROWID;

-- What an operator said of a journey; without a row it runs.
CREATE TABLE journey_mode (
    tenant     TEXT    NOT NULL, -- whose journey
    journey    TEXT    NOT NULL, -- its name
    mode       TEXT    NOT NULL CHECK (mode IN ('running', 'paused', 'draining')), -- what was said
    changed_at INTEGER NOT NULL, -- when
    PRIMARY KEY (tenant, journey)
) STRICT, WITHOUT ROWID;

-- Who entered which journey: once is for ever, so nothing here expires.
CREATE TABLE journey_entry (
    tenant     TEXT    NOT NULL, -- whose journey
    journey    TEXT    NOT NULL, -- its name
    who        TEXT    NOT NULL, -- p, U+0001 and a pass's key; or c, U+0001, identifier's name, U+0001 and its value
    entered_at INTEGER NOT NULL, -- when they entered last
    PRIMARY KEY (tenant, who, journey)
) STRICT, WITHOUT ROWID;

-- One customer's way through one version of a journey.
CREATE TABLE enrollment (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- UUID version 7
    tenant     TEXT    NOT NULL, -- whose customer
    journey    TEXT    NOT NULL, -- which journey
    version    TEXT    NOT NULL, -- which content of it
    customer   TEXT    NOT NULL, -- who: as in wallet_pass
    known_by   TEXT    NOT NULL, -- the identifier's name, or passId
    pass_key   TEXT    NOT NULL, -- with which pass: as in wallet_pass
    pass       TEXT,             -- the pass's id; NULL: the event named none
    begun_by   TEXT    NOT NULL, -- what began it: a word of domain::journey::Trigger
    occasion   TEXT    NOT NULL, -- what is known of that: JSON of domain::journey::rule::Occasion
    exit_on    TEXT    NOT NULL, -- what ends it early: words of domain::journey::Trigger, one space between them
    status     TEXT    NOT NULL, -- where it stands: a word of domain::journey::enrollment::Status
    step       INTEGER NOT NULL, -- the step it stands at, from 0
    due_at     INTEGER,          -- when it goes on, or stops waiting for a contact; NULL: it is over
    tries      INTEGER NOT NULL, -- how often the step was tried in vain
    revision   INTEGER NOT NULL, -- grows with each change
    entered_at INTEGER NOT NULL, -- when it began
    contact_by INTEGER,          -- until when an address is waited for; NULL: none is
    seek_at    INTEGER,          -- when the brand's CRM is to be asked for an address; NULL: it is not
    sought_at  INTEGER,          -- when it was asked last; NULL: never
    ended_at   INTEGER,          -- when it ended; NULL: it has not
    exited_at  INTEGER,          -- when an event ended it, or its mails; NULL: none did
    exited_by  TEXT,             -- which: a word of domain::journey::Trigger
    resume_at  INTEGER           -- of one that an event ended: when it would have gone on
) STRICT, WITHOUT ROWID;

-- What is due, by journey: one that pauses is not walked over.
CREATE INDEX enrollment_due ON enrollment (tenant, journey, due_at, id) WHERE due_at IS NOT NULL;
-- Whose address is to be asked for.
CREATE INDEX enrollment_seek ON enrollment (seek_at, tenant, customer) WHERE seek_at IS NOT NULL;
-- What an event, a contact or an erasure finds.
CREATE INDEX enrollment_of_pass ON enrollment (tenant, pass_key);
CREATE INDEX enrollment_of_customer ON enrollment (tenant, customer, known_by, status);
-- Lists, newest first, and counts.
CREATE INDEX enrollment_listed ON enrollment (tenant, journey, id);
CREATE INDEX enrollment_by_status ON enrollment (tenant, journey, status, id);

-- How often a step went in which way.
CREATE TABLE journey_step (
    tenant  TEXT    NOT NULL, -- whose journey
    journey TEXT    NOT NULL, -- its name
    version TEXT    NOT NULL, -- which content of it
    step    INTEGER NOT NULL, -- which step, from 0
    outcome TEXT    NOT NULL, -- how it went: a word of domain::journey::walk::Outcome
    count   INTEGER NOT NULL, -- how often
    PRIMARY KEY (tenant, journey, version, step, outcome)
) STRICT, WITHOUT ROWID;

-- message.journey: the journey that sent it; NULL: none did.
ALTER TABLE message ADD COLUMN journey TEXT;

-- message.enrollment: whose way through it; NULL as above.
ALTER TABLE message ADD COLUMN enrollment BLOB;

-- What an event ends.
CREATE INDEX message_of_enrollment ON message (enrollment) WHERE enrollment IS NOT NULL;
-- How many of all journeys a recipient had.
CREATE INDEX message_of_journeys ON message (tenant, recipient, accepted_at) WHERE journey IS NOT NULL;
