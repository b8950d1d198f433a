-- Queues that rest: they accept tasks and hand out none. `paused_ms` is for people.
CREATE TABLE zmsg_paused_queues (
  queue     TEXT    PRIMARY KEY,
  paused_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
