//! The texts for PostgreSQL.

use super::texts::Texts;

/// The moment of a statement in milliseconds: the bind, or the server's clock where it is NULL.
/// `statement_timestamp` is stable within a statement, so that an index can be searched by it.
macro_rules! now {
    () => {
        "coalesce(?::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
    };
}

/// `SKIP LOCKED` gives concurrent leasers different tasks without waiting. The selects that lock
/// are materialized, because one that a join ran twice would lock twice as many; and the update
/// looks its rows up by an array, which is planned as so many searches of the primary key
/// whatever the planner thinks of the limits.
pub(super) const TEXTS: Texts = Texts {
    insert: concat!(
        "INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms, timeout_ms, deadline_ms, lane, lane_skips)
SELECT task.id, task.queue, task.kind, task.payload, 'pending', greatest(0, ",
        now!(),
        " + task.delay), 0, task.attempts_max, 0, 0, ",
        now!(),
        ", task.timeout_ms, ",
        now!(),
        " + task.deadline, task.lane, task.lane_skips
FROM (
  VALUES (?::uuid, ?::text, ?::text, ?::bytea, ?::bigint, ?::bigint, ?::bigint, ?::bigint,
    ?::text, ?::boolean)
) AS task (id, queue, kind, payload, delay, attempts_max, timeout_ms, deadline, lane, lane_skips)
ON CONFLICT (id) DO NOTHING"
    ),

    // In the order of ids, so that two that share ids wait for each other and do not deadlock; those of
    // lanes as they stand, because they are numbered in this order.
    insert_all: Some(concat!(
        "INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms, timeout_ms, deadline_ms, lane, lane_skips)
SELECT task.id, task.queue, task.kind, task.payload, 'pending', greatest(0, ",
        now!(),
        " + task.delay), 0, task.attempts_max, 0, 0, ",
        now!(),
        ", task.timeout_ms, ",
        now!(),
        " + task.deadline, task.lane, task.lane_skips
FROM unnest(?::uuid[], ?::text[], ?::text[], ?::bytea[], ?::bigint[], ?::bigint[], ?::bigint[],
  ?::bigint[], ?::text[], ?::boolean[])
  WITH ORDINALITY AS task (id, queue, kind, payload, delay, attempts_max, timeout_ms, deadline, lane,
    lane_skips, place)
ORDER BY CASE WHEN task.lane IS NULL THEN task.id END, task.place
ON CONFLICT (id) DO NOTHING
RETURNING id"
    )),

    lock_lanes: Some(
        "\
SELECT pg_advisory_xact_lock(hashtextextended(lane.name, 0)) FROM unnest(?::text[]) AS lane (name)",
    ),

    check_live: "\
SELECT 1 WHERE ?::bigint >= (
  SELECT count(*) FROM (SELECT 1 FROM zmsg_tasks WHERE state <> 'dead' LIMIT ?) AS live)",

    count_live: Some(
        "\
SELECT count(*) FROM (SELECT 1 FROM zmsg_tasks WHERE state <> 'dead' LIMIT ?) AS live",
    ),

    lease: concat!(
        "WITH rests AS MATERIALIZED (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?),
waiting AS MATERIALIZED (
  SELECT id, due_ms FROM zmsg_tasks
  WHERE NOT EXISTS (SELECT 1 FROM rests) AND state = 'pending' AND queue = ? AND due_ms <= ",
        now!(),
        "
  ORDER BY due_ms, id LIMIT ? FOR UPDATE SKIP LOCKED),
overdue AS MATERIALIZED (
  SELECT id, due_ms FROM zmsg_tasks
  WHERE NOT EXISTS (SELECT 1 FROM rests) AND state = 'leased' AND queue = ? AND lease_until_ms <= ",
        now!(),
        "
  ORDER BY due_ms, id LIMIT ? FOR UPDATE SKIP LOCKED)
UPDATE zmsg_tasks AS task
SET state = 'leased', attempt = least(task.attempt, 4294967295) + 1, lease_until_ms = ",
        now!(),
        " + ?::bigint, lease_token = ?
WHERE task.id = ANY (ARRAY(
  SELECT ready.id FROM (SELECT * FROM waiting UNION ALL SELECT * FROM overdue) AS ready
  ORDER BY ready.due_ms, ready.id LIMIT ?))
RETURNING task.id, task.queue, task.kind, task.payload, task.attempt, task.attempts_max,
  task.attempts_spared, task.lease_until_ms, task.created_ms, task.due_ms,
  task.timeout_ms, task.deadline_ms, task.lane, task.lane_number"
    ),

    // The token once more: of two that take over the same rows the second finds them gone.
    lease_again: concat!(
        "UPDATE zmsg_tasks AS task SET lease_until_ms = ",
        now!(),
        " + ?::bigint, lease_token = ?
WHERE task.id = ANY (ARRAY(
  SELECT id FROM zmsg_tasks WHERE state = 'leased' AND queue = ? AND lease_token = ?
  ORDER BY due_ms, id LIMIT ?))
  AND task.state = 'leased' AND task.lease_token = ?
  AND NOT EXISTS (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?)
RETURNING task.id, task.queue, task.kind, task.payload, task.attempt, task.attempts_max,
  task.attempts_spared, task.lease_until_ms, task.created_ms, task.due_ms,
  task.timeout_ms, task.deadline_ms, task.lane, task.lane_number"
    ),

    end_leases: "\
UPDATE zmsg_tasks SET lease_until_ms = 0 WHERE state = 'leased' AND lease_until_ms > 0",

    set_aside: concat!(
        "UPDATE zmsg_tasks
SET id = ?, state = 'dead', lease_until_ms = 0, last_error = ?, dead_ms = ",
        now!(),
        "
WHERE id = ? AND state = 'leased'"
    ),

    extend: concat!(
        "UPDATE zmsg_tasks SET lease_until_ms = ",
        now!(),
        " + ?::bigint
WHERE id = ? AND attempt = ? AND state = 'leased'"
    ),

    complete: "DELETE FROM zmsg_tasks WHERE id = ? AND attempt = ? AND state = 'leased'",

    retry: concat!(
        "UPDATE zmsg_tasks
SET state = 'pending', due_ms = greatest(0, ",
        now!(),
        " + ?::bigint), lease_until_ms = 0, last_error = ?, attempts_spared = attempts_spared + ?
WHERE id = ? AND attempt = ? AND state = 'leased'"
    ),

    bury: concat!(
        "UPDATE zmsg_tasks SET state = 'dead', lease_until_ms = 0, last_error = ?, dead_ms = ",
        now!(),
        "
WHERE id = ? AND attempt = ? AND state = 'leased'"
    ),

    trim_dead: "\
DELETE FROM zmsg_tasks WHERE id = ANY (ARRAY(
  SELECT id FROM zmsg_tasks WHERE state = 'dead' ORDER BY id DESC OFFSET ?))
RETURNING id",

    next_due: concat!(
        "SELECT min(moment), ",
        now!(),
        " FROM (
  SELECT nullif(min(due_ms), 9223372036854775807) AS moment FROM zmsg_tasks WHERE state = 'pending' AND queue = ?
  UNION ALL
  SELECT min(lease_until_ms) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?) AS moments
WHERE NOT EXISTS (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?)"
    ),

    dead_letters: "\
SELECT id, queue, kind, payload, attempt, last_error, created_ms, dead_ms FROM zmsg_tasks
WHERE state = 'dead' AND id > ? ORDER BY id LIMIT ?",

    dead_letters_of: "\
SELECT id, queue, kind, payload, attempt, last_error, created_ms, dead_ms FROM zmsg_tasks
WHERE state = 'dead' AND id > ? AND queue = ? ORDER BY id LIMIT ?",

    retry_dead: concat!(
        "UPDATE zmsg_tasks
SET state = 'pending', due_ms = ",
        now!(),
        ", lease_until_ms = 0, attempts_spared = attempt, dead_ms = NULL
WHERE id = ? AND state = 'dead'"
    ),

    drop_dead: "DELETE FROM zmsg_tasks WHERE id = ? AND state = 'dead'",

    state: "SELECT state, coalesce(lane_due_ms, due_ms), last_error FROM zmsg_tasks WHERE id = ?",

    stats: concat!(
        "SELECT
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ? AND due_ms <= ",
        now!(),
        ") + (SELECT count(*) FROM zmsg_tasks
       WHERE state = 'leased' AND queue = ? AND lease_until_ms <= ",
        now!(),
        "),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'dead' AND queue = ?),
  (SELECT nullif(min(due_ms), 9223372036854775807) FROM zmsg_tasks WHERE state = 'pending' AND queue = ?),
  (SELECT min(lease_until_ms) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  ",
        now!()
    ),
};

/// The channel on which queues of several processes tell each other that something changed.
pub(super) const CHANNEL: &str = "zmsg_tasks";

/// Tells the others; the payload is who says so.
pub(super) const TELL: &str = "SELECT pg_notify(?, ?)";
