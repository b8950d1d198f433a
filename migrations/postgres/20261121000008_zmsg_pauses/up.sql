-- Queues that rest: they accept tasks and hand out none. `paused_ms` is for people.
CREATE TABLE zmsg_paused_queues (
  queue     text   PRIMARY KEY,
  paused_ms bigint NOT NULL
);
