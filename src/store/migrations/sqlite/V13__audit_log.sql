-- The audit's tree: its hashes, and what was signed of it.

-- The tree over the leaves, as far as a checkpoint covers it: each row 256 neighbouring hashes of one level, as C2SP
-- tlog-tiles cuts them; the last of a level may have fewer, and grows.
CREATE TABLE audit_tile (
    level  INTEGER NOT NULL, -- 0: hashes of leaves; each further one: of 256 hashes below
    number INTEGER NOT NULL, -- which of its level, from 0
    hashes BLOB    NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0), -- SHA-256, one behind the other
    PRIMARY KEY (level, number)
) STRICT;

-- Each checkpoint that was signed.
CREATE TABLE audit_checkpoint (
    size INTEGER NOT NULL PRIMARY KEY, -- how many leaves it covers
    at   INTEGER NOT NULL, -- when it was signed
    note TEXT    NOT NULL  -- the signed note (C2SP tlog-checkpoint)
) STRICT;
