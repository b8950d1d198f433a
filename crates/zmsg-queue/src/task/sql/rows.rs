//! Rows of the queue's table, read back.

use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, Row, TaskId, UnixMillis, Value};

use crate::task::lane::LanePlace;
use crate::task::record::{DeadTask, LeasedTask, QueueStats, TaskState};

/// A leased task and its due time, by which a batch is ordered.
pub(super) fn leased(row: &Row) -> Result<(UnixMillis, LeasedTask)> {
    let attempt = small(row, 4)?;
    let task = LeasedTask {
        id: id(row, 0)?,
        queue: row.text(1)?.to_owned(),
        kind: row.text(2)?.to_owned(),
        payload: row.bytes(3)?.clone(),
        attempt,
        attempts_max: small(row, 5)?,
        attempts_spared: small(row, 6)?,
        lease_until: millis(row, 7)?,
        created: millis(row, 8)?,
        timeout: optional(row, 10)?.map(Duration::from_millis),
        deadline: optional(row, 11)?,
        lane: lane(row, attempt)?,
        retention: None,
    };
    Ok((millis(row, 9)?, task))
}

fn lane(row: &Row, attempt: u32) -> Result<Option<LanePlace>> {
    if row.at(12)?.is_null() {
        return Ok(None);
    }
    Ok(Some(LanePlace::new(row.text(12)?.to_owned(), row.int(13)?, attempt)))
}

/// A dead letter, whatever its row holds: it is what people look at to see what is wrong. Only
/// its id must be one.
pub(super) fn dead(row: &Row) -> Result<DeadTask> {
    let text = |index| row.at(index).ok().and_then(Value::to_bytes).unwrap_or_default();
    let text = |index| String::from_utf8_lossy(&text(index)).into_owned();
    Ok(DeadTask {
        id: id(row, 0)?,
        queue: text(1),
        kind: text(2),
        payload: row.bytes(3).cloned().unwrap_or_default(),
        attempts: u32::try_from(clamped(row, 4)?).unwrap_or(u32::MAX),
        cause: text(5),
        created: clamped(row, 6)?,
        died: clamped(row, 7)?,
    })
}

pub(super) fn state(row: &Row) -> Result<TaskState> {
    match row.text(0)? {
        "pending" => Ok(TaskState::Pending { due: clamped(row, 1)? }),
        "leased" => Ok(TaskState::Leased),
        "dead" => {
            Ok(TaskState::Dead { cause: row.at(2)?.as_text().unwrap_or_default().to_owned() })
        }
        _ => Err(damaged(row, 0)),
    }
}

/// How far off the earliest moment of a queue is.
pub(super) enum NextDue {
    In(u64),
    Since(u64),
}

pub(super) fn next_due(row: &Row) -> Result<Option<NextDue>> {
    if row.at(0)?.is_null() {
        return Ok(None);
    }
    let (moment, now) = (clamped(row, 0)?, clamped(row, 1)?);
    Ok(Some(match moment.checked_sub(now) {
        Some(pause) => NextDue::In(pause),
        None => NextDue::Since(now - moment),
    }))
}

pub(super) fn stats(row: &Row) -> Result<QueueStats> {
    let now = clamped(row, 6)?;
    let known = |index: &usize| row.at(*index).is_ok_and(|value| !value.is_null());
    let firsts = [4, 5].into_iter().filter(known).map(|index| clamped(row, index));
    let oldest = firsts.collect::<Result<Vec<_>>>()?.into_iter().min();
    Ok(QueueStats {
        due: clamped(row, 0)?,
        pending: clamped(row, 1)?,
        leased: clamped(row, 2)?,
        dead: clamped(row, 3)?,
        oldest_due_age: oldest.and_then(|at| now.checked_sub(at)).map(Duration::from_millis),
        dead_dropped: 0,
    })
}

/// An id. Where a UUID has no type of its own, it is read back as its 16 bytes.
pub(super) fn id(row: &Row, index: usize) -> Result<TaskId> {
    match row.at(index)? {
        Value::Uuid(id) => Ok(TaskId(*id)),
        Value::Bytes(bytes) => Uuid::from_slice(bytes).map(TaskId).map_err(|_| damaged(row, index)),
        _ => Err(damaged(row, index)),
    }
}

/// What stands where an id should, for people.
pub(super) fn shown(id: &Value) -> String {
    id.to_bytes().map_or_else(String::new, |bytes| format!("{bytes:x}"))
}

/// A number for people and for waiting: what zmsg never wrote counts as 0.
pub(super) fn clamped(row: &Row, index: usize) -> Result<u64> {
    Ok(u64::try_from(row.at(index)?.as_int().unwrap_or_default()).unwrap_or_default())
}

fn millis(row: &Row, index: usize) -> Result<u64> {
    u64::try_from(row.int(index)?).map_err(|_| damaged(row, index))
}

fn optional(row: &Row, index: usize) -> Result<Option<u64>> {
    if row.at(index)?.is_null() { Ok(None) } else { millis(row, index).map(Some) }
}

fn small(row: &Row, index: usize) -> Result<u32> {
    u32::try_from(row.int(index)?).map_err(|_| damaged(row, index))
}

fn damaged(row: &Row, index: usize) -> Error {
    Error::new(ErrorKind::Corrupted, "a column of the task table holds what zmsg never wrote")
        .with_context("column", row.columns().get(index).map_or("?", String::as_str))
}
