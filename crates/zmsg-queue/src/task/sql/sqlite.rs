//! The texts for SQLite.

use super::texts::Texts;

/// SQLite has one writer at a time, so a statement that selects and updates needs no row locks.
/// The first inner select of `lease` walks its partial index in order and stops at its limit; the
/// second sorts the leases that ran out, which are few: what workers held when they stopped.
/// Triggers keep the numbers of live and dead tasks in the one row of `zmsg_task_counts`.
pub(super) const TEXTS: Texts = Texts {
    insert: "\
INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms, timeout_ms, deadline_ms, lane, lane_skips)
SELECT id, queue, kind, payload, 'pending', max(0, due_from + delay), 0, attempts_max, 0, 0, now,
  timeout_ms, deadline_from + deadline, lane, lane_skips
FROM (
  SELECT ? AS due_from, ? AS now, ? AS deadline_from, ? AS id, ? AS queue, ? AS kind, ? AS payload,
    ? AS delay, ? AS attempts_max, ? AS timeout_ms, ? AS deadline, ? AS lane, ? AS lane_skips)
WHERE true
ON CONFLICT (id) DO NOTHING",

    insert_all: None,

    lock_lanes: None,

    check_live: "SELECT 1 FROM zmsg_task_counts WHERE live <= ?",

    count_live: None,

    lease: "\
WITH rests AS (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?),
ready (id, due_ms) AS (
  SELECT id, due_ms FROM (
    SELECT id, due_ms FROM zmsg_tasks
    WHERE NOT EXISTS (SELECT 1 FROM rests) AND state = 'pending' AND queue = ? AND due_ms <= ? ORDER BY due_ms, id LIMIT ?)
  UNION ALL
  SELECT id, due_ms FROM (
    SELECT id, due_ms FROM zmsg_tasks
    WHERE NOT EXISTS (SELECT 1 FROM rests) AND state = 'leased' AND queue = ? AND lease_until_ms <= ?
    ORDER BY due_ms, id LIMIT ?))
UPDATE zmsg_tasks
SET state = 'leased', attempt = min(attempt, 4294967295) + 1, lease_until_ms = ? + ?, lease_token = ?
WHERE id IN (SELECT id FROM ready ORDER BY due_ms, id LIMIT ?)
RETURNING id, queue, kind, payload, attempt, attempts_max, attempts_spared, lease_until_ms,
  created_ms, due_ms, timeout_ms, deadline_ms, lane, lane_number",

    lease_again: "\
UPDATE zmsg_tasks SET lease_until_ms = ? + ?, lease_token = ?
WHERE id IN (
  SELECT id FROM zmsg_tasks WHERE state = 'leased' AND queue = ? AND lease_token = ?
  ORDER BY due_ms, id LIMIT ?)
  AND state = 'leased' AND lease_token = ?
  AND NOT EXISTS (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?)
RETURNING id, queue, kind, payload, attempt, attempts_max, attempts_spared, lease_until_ms,
  created_ms, due_ms, timeout_ms, deadline_ms, lane, lane_number",

    end_leases: "\
UPDATE zmsg_tasks SET lease_until_ms = 0 WHERE state = 'leased' AND lease_until_ms > 0",

    set_aside: "\
UPDATE zmsg_tasks
SET id = ?, state = 'dead', lease_until_ms = 0, last_error = ?, dead_ms = ?
WHERE id = ? AND state = 'leased'",

    extend: "\
UPDATE zmsg_tasks SET lease_until_ms = ? + ? WHERE id = ? AND attempt = ? AND state = 'leased'",

    complete: "DELETE FROM zmsg_tasks WHERE id = ? AND attempt = ? AND state = 'leased'",

    retry: "\
UPDATE zmsg_tasks
SET state = 'pending', due_ms = max(0, ? + ?), lease_until_ms = 0, last_error = ?,
  attempts_spared = attempts_spared + ?
WHERE id = ? AND attempt = ? AND state = 'leased'",

    bury: "\
UPDATE zmsg_tasks SET state = 'dead', lease_until_ms = 0, last_error = ?, dead_ms = ?
WHERE id = ? AND attempt = ? AND state = 'leased'",

    trim_dead: "\
DELETE FROM zmsg_tasks WHERE id IN (
  SELECT id FROM zmsg_tasks WHERE state = 'dead' ORDER BY id
  LIMIT (SELECT max(0, dead - ?) FROM zmsg_task_counts))
RETURNING id",

    next_due: "\
SELECT min(moment), ? FROM (
  SELECT nullif(min(due_ms), 9223372036854775807) AS moment FROM zmsg_tasks WHERE state = 'pending' AND queue = ?
  UNION ALL
  SELECT min(lease_until_ms) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?)
WHERE NOT EXISTS (SELECT 1 FROM zmsg_paused_queues WHERE queue = ?)",

    dead_letters: "\
SELECT id, queue, kind, payload, attempt, last_error, created_ms, dead_ms FROM zmsg_tasks
WHERE state = 'dead' AND id > ? ORDER BY id LIMIT ?",

    dead_letters_of: "\
SELECT id, queue, kind, payload, attempt, last_error, created_ms, dead_ms FROM zmsg_tasks
WHERE state = 'dead' AND id > ? AND queue = ? ORDER BY id LIMIT ?",

    retry_dead: "\
UPDATE zmsg_tasks
SET state = 'pending', due_ms = ?, lease_until_ms = 0, attempts_spared = attempt, dead_ms = NULL
WHERE id = ? AND state = 'dead'",

    drop_dead: "DELETE FROM zmsg_tasks WHERE id = ? AND state = 'dead'",

    state: "SELECT state, coalesce(lane_due_ms, due_ms), last_error FROM zmsg_tasks WHERE id = ?",

    stats: "\
SELECT
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ? AND due_ms <= ?)
    + (SELECT count(*) FROM zmsg_tasks
       WHERE state = 'leased' AND queue = ? AND lease_until_ms <= ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'dead' AND queue = ?),
  (SELECT nullif(min(due_ms), 9223372036854775807) FROM zmsg_tasks WHERE state = 'pending' AND queue = ?),
  (SELECT min(lease_until_ms) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  ?",
};
