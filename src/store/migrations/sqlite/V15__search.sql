-- Lists of mails: by what else they are looked for. Each list by one filter walks an index of its own, newest first.

-- By the relay's queue id, the key a mail was handed in with, the journey that sent it, the recipient's domain, and why it
-- stands where it stands.
CREATE INDEX message_by_queue_id ON message (tenant, relay_queue_id, accepted_at, id) WHERE relay_queue_id IS NOT NULL;
CREATE INDEX message_by_key ON message (tenant, api_key, accepted_at, id) WHERE api_key IS NOT NULL;
CREATE INDEX message_by_journey ON message (tenant, journey, accepted_at, id) WHERE journey IS NOT NULL;
CREATE INDEX message_by_domain ON message (tenant, domain, accepted_at, id);
CREATE INDEX message_by_reason ON message (tenant, reason, accepted_at, id) WHERE reason IS NOT NULL;

-- All of a tenant: those by lane and state, merged. An index less to keep for each mail.
DROP INDEX message_listed;
