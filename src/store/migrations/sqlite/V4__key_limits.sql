-- API keys with a limit of their own.

-- api_key.request_limit: what its requests are limited to, as in a configuration ("50/s,burst=50", "none"); NULL: as all.
ALTER TABLE api_key ADD COLUMN request_limit TEXT;
