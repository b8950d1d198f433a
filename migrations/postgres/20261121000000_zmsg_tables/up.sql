-- zmsg's own tables. Times are milliseconds since the Unix epoch.

-- What `put` writes and `get` reads where no source serves the key.
CREATE TABLE zmsg_data (
  id   text  PRIMARY KEY,
  data bytea NOT NULL
);

-- How far the flushes of a stream have come, shard by shard: the compare-and-set of a flush.
-- Every flush updates its row in place, so pages are left half empty for that.
CREATE TABLE zmsg_ledger (
  stream     uuid   NOT NULL,
  shard      bigint NOT NULL,
  seq        bigint NOT NULL,
  updated_ms bigint NOT NULL,
  PRIMARY KEY (stream, shard)
) WITH (fillfactor = 50);

-- Periodic operations that the database refused, kept until somebody retries or drops them.
-- The id is made before the row is written, so that a flush can look for it.
CREATE TABLE zmsg_dead_letters (
  id         uuid   PRIMARY KEY,
  stream     uuid   NOT NULL,
  shard      bigint NOT NULL,
  seq_from   bigint NOT NULL,
  seq_to     bigint NOT NULL,
  batch_key  text   NOT NULL,
  summary    text   NOT NULL,
  cause      text   NOT NULL,
  payload    bytea  NOT NULL,
  created_ms bigint NOT NULL
);
CREATE INDEX zmsg_dead_letters_seq ON zmsg_dead_letters (stream, shard, seq_to);
