-- content.mime: new rows hold LZ4 (src/store/sqlite/content.rs says how) instead of a zstd frame. Older rows stay as they
-- are. Nothing else changes; the version keeps programs away that cannot read the new rows.
SELECT 1;
