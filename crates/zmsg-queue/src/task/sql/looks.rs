//! The statements by which people look at a SQL queue and act on it, and their rows, read back.

use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Result, Row, Statement, TaskId, Value};
use zmsg_sqlbuilder::Dialect;

use super::rows::{clamped, id};
use crate::task::inspect::{Place, QueueSummary, Stage, TaskInfo};

/// Makes the statements of one moment. In their texts `{now}` is that moment, with one bind.
#[derive(Debug)]
pub(super) struct Looks {
    pub(super) dialect: Dialect,
    pub(super) now: Value,
}

pub(super) const QUEUES: &str = "\
SELECT queue FROM zmsg_tasks UNION SELECT queue FROM zmsg_paused_queues ORDER BY 1 LIMIT ?";

/// When a task is due, also while others of its lane are before it.
const DUE: &str = "coalesce(lane_due_ms, due_ms)";

/// `{now}` is its first bind.
const COLUMNS: &str = "\
{now}, id, queue, kind, length(payload), state, coalesce(lane_due_ms, due_ms), attempt, attempts_max, attempts_spared, \
lease_until_ms, last_error, created_ms, dead_ms";

const SUMMARY: &str = "\
SELECT
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ? AND coalesce(lane_due_ms, due_ms) <= {now}),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ? AND coalesce(lane_due_ms, due_ms) > {now}
    AND attempt <= attempts_spared),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'pending' AND queue = ? AND coalesce(lane_due_ms, due_ms) > {now}
    AND attempt > attempts_spared),
  {now},
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  (SELECT count(*) FROM zmsg_tasks WHERE state = 'dead' AND queue = ?),
  (SELECT created_ms FROM zmsg_tasks WHERE state = 'pending' AND queue = ?
    ORDER BY due_ms, id LIMIT 1),
  (SELECT nullif(min(due_ms), 9223372036854775807) FROM zmsg_tasks WHERE state = 'pending' AND queue = ?),
  (SELECT min(lease_until_ms) FROM zmsg_tasks WHERE state = 'leased' AND queue = ?),
  (SELECT count(*) FROM zmsg_paused_queues WHERE queue = ?)";

const RUN: &str = "\
UPDATE zmsg_tasks SET state = 'pending', lease_until_ms = 0,
  due_ms = CASE WHEN lane_due_ms IS NULL THEN {now} ELSE due_ms END,
  lane_due_ms = CASE WHEN lane_due_ms IS NOT NULL THEN {now} END
WHERE id = ? AND ((state = 'pending' AND coalesce(lane_due_ms, due_ms) > {now})
  OR (state = 'leased' AND lease_until_ms <= {now}))";

const ARCHIVE: &str = "\
UPDATE zmsg_tasks
SET state = 'dead', lease_until_ms = 0, last_error = coalesce(last_error, ?), dead_ms = {now}
WHERE id = ? AND (state = 'pending' OR (state = 'leased' AND lease_until_ms <= {now}))";

const DELETE: &str = "\
DELETE FROM zmsg_tasks WHERE id = ? AND (state <> 'leased' OR lease_until_ms <= {now})";

impl Looks {
    fn text(&self, template: &str) -> String {
        let now = match self.dialect {
            Dialect::Sqlite => "?",
            Dialect::Postgres => {
                "coalesce(?::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
            }
        };
        template.replace("{now}", now)
    }

    fn now(&self) -> Value {
        self.now.clone()
    }

    pub(super) fn summary(&self, queue: &str) -> Statement {
        let waiting = [(); 3].map(|()| [queue.into(), self.now()]).into_iter().flatten();
        let rest = [(); 6].map(|()| queue.into());
        let binds = waiting.chain([self.now()]).chain(rest).collect();
        Statement::query(self.text(SUMMARY), binds)
    }

    /// `None` for a stage at which no task of a table ever is.
    pub(super) fn list(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Option<Statement> {
        // No task has the nil id, so all are behind it.
        let after = after.unwrap_or(Place { moment: 0, id: TaskId(Uuid::nil()) });
        let (moment, after) = (Value::from(after.moment.cast_signed()), Value::Uuid(after.id.0));
        let limit = Value::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let (state, key, of_stage) = match stage {
            Stage::Pending => ("pending", DUE, "AND coalesce(lane_due_ms, due_ms) <= {now}"),
            Stage::Scheduled => (
                "pending",
                DUE,
                "AND coalesce(lane_due_ms, due_ms) > {now} AND attempt <= attempts_spared",
            ),
            Stage::Retry => (
                "pending",
                DUE,
                "AND coalesce(lane_due_ms, due_ms) > {now} AND attempt > attempts_spared",
            ),
            Stage::Active => ("leased", "lease_until_ms", ""),
            Stage::Dead => {
                let text = format!(
                    "SELECT {COLUMNS} FROM zmsg_tasks WHERE state = 'dead' AND queue = ? AND id > ?
ORDER BY id LIMIT ?"
                );
                let binds = vec![self.now(), queue.into(), after, limit];
                return Some(Statement::query(self.text(&text), binds));
            }
            Stage::Aggregating | Stage::Completed => return None,
        };
        let text = format!(
            "SELECT {COLUMNS} FROM zmsg_tasks WHERE state = '{state}' AND queue = ? {of_stage}
  AND {key} >= ? AND ({key} > ? OR id > ?) ORDER BY {key}, id LIMIT ?"
        );
        let moments = (!of_stage.is_empty()).then(|| self.now());
        let binds = [self.now(), queue.into()].into_iter().chain(moments);
        let binds = binds.chain([moment.clone(), moment, after, limit]).collect();
        Some(Statement::query(self.text(&text), binds))
    }

    pub(super) fn task(&self, queue: Option<&str>, id: TaskId) -> Statement {
        self.one(COLUMNS, vec![self.now()], queue, id)
    }

    pub(super) fn payload(&self, queue: Option<&str>, id: TaskId) -> Statement {
        self.one("payload", vec![], queue, id)
    }

    fn one(
        &self,
        columns: &str,
        mut binds: Vec<Value>,
        queue: Option<&str>,
        id: TaskId,
    ) -> Statement {
        binds.push(Value::Uuid(id.0));
        binds.extend(queue.map(Value::from));
        let of_queue = if queue.is_some() { " AND queue = ?" } else { "" };
        let text = format!("SELECT {columns} FROM zmsg_tasks WHERE id = ?{of_queue}");
        Statement::query(self.text(&text), binds)
    }

    /// What waits for its time or was left by its worker is due now; behind others of its lane it stays there.
    pub(super) fn run(&self, id: TaskId) -> Statement {
        let now = || self.now();
        let binds = vec![now(), now(), Value::Uuid(id.0), now(), now()];
        Statement::new(self.text(RUN), binds)
    }

    pub(super) fn archive(&self, id: TaskId, cause: &str) -> Statement {
        let binds = vec![cause.into(), self.now(), Value::Uuid(id.0), self.now()];
        Statement::new(self.text(ARCHIVE), binds)
    }

    pub(super) fn delete(&self, id: TaskId) -> Statement {
        Statement::new(self.text(DELETE), vec![Value::Uuid(id.0), self.now()])
    }
}

pub(super) fn summary(queue: &str, row: &Row) -> Result<QueueSummary> {
    let now = clamped(row, 3)?;
    let known = |index: usize| row.at(index).is_ok_and(|value| !value.is_null());
    let moment = |index| known(index).then(|| clamped(row, index)).transpose();
    let since = |moment: u64| now.checked_sub(moment).map(Duration::from_millis);
    let first = [moment(7)?, moment(8)?].into_iter().flatten().min();
    Ok(QueueSummary {
        queue: queue.to_owned(),
        paused: clamped(row, 9)? > 0,
        pending: clamped(row, 0)?,
        scheduled: clamped(row, 1)?,
        retry: clamped(row, 2)?,
        active: clamped(row, 4)?,
        dead: clamped(row, 5)?,
        oldest_age: moment(6)?.and_then(since),
        latency: first.and_then(since),
        ..QueueSummary::default()
    })
}

/// A task, whatever its row holds: it is what people look at to see what is wrong. Only its id must be
/// one.
pub(super) fn info(row: &Row) -> Result<TaskInfo> {
    let text = |index| row.at(index).ok().and_then(Value::to_bytes).unwrap_or_default();
    let text = |index| String::from_utf8_lossy(&text(index)).into_owned();
    let small = |index| clamped(row, index).map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    let (now, due, until) = (clamped(row, 0)?, clamped(row, 6)?, clamped(row, 10)?);
    let (attempts, spared, state) = (small(7)?, small(9)?, text(5));
    let stage = match state.as_str() {
        "leased" => Stage::Active,
        "dead" => Stage::Dead,
        _ if due <= now => Stage::Pending,
        _ if attempts > spared => Stage::Retry,
        _ => Stage::Scheduled,
    };
    let is_active = stage == Stage::Active;
    Ok(TaskInfo {
        id: id(row, 1)?,
        name: None,
        queue: text(2),
        kind: text(3),
        payload_bytes: clamped(row, 4)?,
        stage,
        attempts,
        attempts_spent: attempts.saturating_sub(spared),
        attempts_max: small(8)?,
        group: None,
        due,
        lease_until: is_active.then_some(until),
        lease_left: is_active.then(|| Duration::from_millis(until.saturating_sub(now))),
        last_error: row.at(11).is_ok_and(|error| !error.is_null()).then(|| text(11)),
        created: Some(clamped(row, 12)?),
        died: (stage == Stage::Dead).then(|| clamped(row, 13)).transpose()?,
    })
}
