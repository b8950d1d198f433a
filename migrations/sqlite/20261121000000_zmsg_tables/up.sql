-- zmsg's own tables. Times are milliseconds since the Unix epoch; ids of 16 bytes are UUIDs.

-- What `put` writes and `get` reads where no source serves the key.
CREATE TABLE zmsg_data (
  id   TEXT PRIMARY KEY,
  data BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the flushes of a stream have come, shard by shard: the compare-and-set of a flush.
CREATE TABLE zmsg_ledger (
  stream     BLOB    NOT NULL,
  shard      INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  PRIMARY KEY (stream, shard)
) STRICT, WITHOUT ROWID;

-- Periodic operations that the database refused, kept until somebody retries or drops them.
CREATE TABLE zmsg_dead_letters (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  stream     BLOB    NOT NULL,
  shard      INTEGER NOT NULL,
  seq_from   INTEGER NOT NULL,
  seq_to     INTEGER NOT NULL,
  batch_key  TEXT    NOT NULL,
  summary    TEXT    NOT NULL,
  cause      TEXT    NOT NULL,
  payload    BLOB    NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;

-- The task queue of the delayed route.
CREATE TABLE zmsg_tasks (
  id             BLOB    PRIMARY KEY,
  queue          TEXT    NOT NULL,
  kind           TEXT    NOT NULL,
  payload        BLOB    NOT NULL,
  state          TEXT    NOT NULL CHECK (state IN ('pending', 'leased', 'dead')),
  due_ms         INTEGER NOT NULL,
  attempt        INTEGER NOT NULL,
  attempts_max   INTEGER NOT NULL,
  lease_until_ms INTEGER NOT NULL,
  last_error     TEXT,
  created_ms     INTEGER NOT NULL,
  dead_ms        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX zmsg_tasks_due ON zmsg_tasks (queue, state, due_ms);

-- Which delayed tasks have taken effect, written in the transaction of their effect.
CREATE TABLE zmsg_inbox (
  id      BLOB    PRIMARY KEY,
  done_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX zmsg_inbox_done ON zmsg_inbox (done_ms);
