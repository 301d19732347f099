-- One table is the store. A row is one key at one revision; `id` orders all of them, by revision and within
-- a revision by key: id = revision * 16384 + place. So a watch is a scan of the table by id, and a key's
-- newest row, or its row at an older snapshot, is one seek in log_key (every index ends in the row's id).
-- version 0 is a deletion; its value is NULL.
CREATE TABLE log (
    id      INTEGER PRIMARY KEY,
    key     TEXT    NOT NULL,
    version INTEGER NOT NULL,
    value   BLOB,
    lease   TEXT
);
CREATE INDEX log_key ON log (key);
CREATE INDEX log_lease ON log (lease) WHERE lease IS NOT NULL;

-- Leases that are alive. ends_at_us is in the store's own time (docs/decisions/0009), as is numbers.age_us.
CREATE TABLE lease (
    id         TEXT    PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    ttl_us     INTEGER NOT NULL,
    ends_at_us INTEGER NOT NULL
) WITHOUT ROWID;

-- compacted: the oldest revision that can be read. swept_id: compaction has deleted rows up to this id.
-- epoch: the newest lease's. age_us: how long the store was open in all, as last written down.
CREATE TABLE numbers (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO numbers (name, value) VALUES ('compacted', 0), ('swept_id', 0), ('epoch', 0), ('age_us', 0);
