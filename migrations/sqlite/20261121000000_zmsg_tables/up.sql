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
-- The id is made before the row is written, so that a flush can look for it.
CREATE TABLE zmsg_dead_letters (
  id         BLOB    PRIMARY KEY,
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
CREATE INDEX zmsg_dead_letters_seq ON zmsg_dead_letters (stream, shard, seq_to);

-- The task queue of the delayed route. `attempt` only grows: it is the fencing token.
CREATE TABLE zmsg_tasks (
  id              BLOB    PRIMARY KEY,
  queue           TEXT    NOT NULL,
  kind            TEXT    NOT NULL,
  payload         BLOB    NOT NULL,
  state           TEXT    NOT NULL CHECK (state IN ('pending', 'leased', 'dead')),
  due_ms          INTEGER NOT NULL,
  attempt         INTEGER NOT NULL,
  attempts_max    INTEGER NOT NULL,
  attempts_spared INTEGER NOT NULL,
  lease_until_ms  INTEGER NOT NULL,
  last_error      TEXT,
  created_ms      INTEGER NOT NULL,
  dead_ms         INTEGER
) STRICT;
CREATE INDEX zmsg_tasks_pending ON zmsg_tasks (queue, due_ms, id) WHERE state = 'pending';
CREATE INDEX zmsg_tasks_leased ON zmsg_tasks (queue, lease_until_ms, id) WHERE state = 'leased';
CREATE INDEX zmsg_tasks_dead ON zmsg_tasks (id) WHERE state = 'dead';

-- How many tasks there are, in one row, so that the bounds need no counting.
CREATE TABLE zmsg_task_counts (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  live     INTEGER NOT NULL,
  dead     INTEGER NOT NULL
) STRICT;
INSERT INTO zmsg_task_counts (only_row, live, dead) VALUES (1, 0, 0);
CREATE TRIGGER zmsg_tasks_inserted AFTER INSERT ON zmsg_tasks BEGIN
  UPDATE zmsg_task_counts
  SET live = live + (NEW.state <> 'dead'), dead = dead + (NEW.state = 'dead');
END;
CREATE TRIGGER zmsg_tasks_deleted AFTER DELETE ON zmsg_tasks BEGIN
  UPDATE zmsg_task_counts
  SET live = live - (OLD.state <> 'dead'), dead = dead - (OLD.state = 'dead');
END;
CREATE TRIGGER zmsg_tasks_moved AFTER UPDATE OF state ON zmsg_tasks
WHEN (OLD.state = 'dead') <> (NEW.state = 'dead') BEGIN
  UPDATE zmsg_task_counts
  SET live = live + (NEW.state <> 'dead') - (OLD.state <> 'dead'),
      dead = dead + (NEW.state = 'dead') - (OLD.state = 'dead');
END;

-- Which delayed tasks have taken effect, written in the transaction of their effect.
CREATE TABLE zmsg_inbox (
  id      BLOB    PRIMARY KEY,
  done_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX zmsg_inbox_done ON zmsg_inbox (done_ms);
