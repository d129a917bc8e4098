-- Evidence: mails in doubt, to look for what became of them.

-- Live mails that may have been sent. A row only for such a mail: no other pays for it.
CREATE INDEX message_in_doubt ON message (accepted_at, id)
    WHERE may_have_been_sent = 1 AND status IN ('queued', 'deferred', 'held', 'unknown');
