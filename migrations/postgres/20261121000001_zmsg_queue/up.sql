-- The task queue of the delayed route. `attempt` only grows: it is the fencing token. Moments
-- are milliseconds since the Unix epoch by the clock of this server.
--
-- A task is written three times, when it is enqueued, leased and completed, so dead rows come
-- fast: they are cleared away after a thousand and a fiftieth, not after a fifth of the table.
CREATE TABLE zmsg_tasks (
  id              uuid   PRIMARY KEY,
  queue           text   NOT NULL,
  kind            text   NOT NULL,
  payload         bytea  NOT NULL,
  state           text   NOT NULL CHECK (state IN ('pending', 'leased', 'dead')),
  due_ms          bigint NOT NULL,
  attempt         bigint NOT NULL,
  attempts_max    bigint NOT NULL,
  attempts_spared bigint NOT NULL,
  lease_until_ms  bigint NOT NULL,
  last_error      text,
  created_ms      bigint NOT NULL,
  dead_ms         bigint
) WITH (
  fillfactor = 85,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX zmsg_tasks_pending ON zmsg_tasks (queue, due_ms, id) WHERE state = 'pending';
CREATE INDEX zmsg_tasks_leased ON zmsg_tasks (queue, lease_until_ms, id) WHERE state = 'leased';
CREATE INDEX zmsg_tasks_dead ON zmsg_tasks (id) WHERE state = 'dead';

-- Which delayed tasks have taken effect, written in the transaction of their effect.
CREATE TABLE zmsg_inbox (
  id      uuid   PRIMARY KEY,
  done_ms bigint NOT NULL
);
CREATE INDEX zmsg_inbox_done ON zmsg_inbox (done_ms);
