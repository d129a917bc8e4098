-- Suppressions that end by themselves.

ALTER TABLE suppression ADD COLUMN expires_at INTEGER; -- until when it stands; NULL: for good

-- What is over, for the sweep. A row only for one that ends: no other pays for it.
CREATE INDEX suppression_expires ON suppression (expires_at) WHERE expires_at IS NOT NULL;
