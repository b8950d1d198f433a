-- The latest firing of each periodic task that was accepted: changed in the transaction that enqueues its
-- task, so that no moment is fired twice. Names that have not fired for 400 days are forgotten.
CREATE TABLE zmsg_periodic (
  queue     text   NOT NULL,
  entry     text   NOT NULL,
  moment_ms bigint NOT NULL,
  PRIMARY KEY (queue, entry)
);
