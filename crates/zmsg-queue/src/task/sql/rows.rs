//! Rows of the queue's table, read back.

use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, Row, TaskId, UnixMillis, Value};

use crate::task::record::{DeadTask, LeasedTask, QueueStats, TaskState};

/// A leased task and its due time, by which a batch is ordered.
pub(super) fn leased(row: &Row) -> Result<(UnixMillis, LeasedTask)> {
    let task = LeasedTask {
        id: id(row, 0)?,
        queue: row.text(1)?.to_owned(),
        kind: row.text(2)?.to_owned(),
        payload: row.bytes(3)?.clone(),
        attempt: small(row, 4)?,
        attempts_max: small(row, 5)?,
        attempts_spared: small(row, 6)?,
        lease_until: millis(row, 7)?,
        created: millis(row, 8)?,
    };
    Ok((millis(row, 9)?, task))
}

pub(super) fn dead(row: &Row) -> Result<DeadTask> {
    Ok(DeadTask {
        id: id(row, 0)?,
        queue: row.text(1)?.to_owned(),
        kind: row.text(2)?.to_owned(),
        payload: row.bytes(3)?.clone(),
        attempts: small(row, 4)?,
        cause: row.at(5)?.as_text().unwrap_or_default().to_owned(),
        created: millis(row, 6)?,
        died: maybe_millis(row, 7)?.unwrap_or_default(),
    })
}

pub(super) fn state(row: &Row) -> Result<TaskState> {
    match row.text(0)? {
        "pending" => Ok(TaskState::Pending { due: millis(row, 1)? }),
        "leased" => Ok(TaskState::Leased),
        "dead" => {
            Ok(TaskState::Dead { cause: row.at(2)?.as_text().unwrap_or_default().to_owned() })
        }
        _ => Err(damaged(row, 0)),
    }
}

pub(super) fn stats(row: &Row, now: UnixMillis) -> Result<QueueStats> {
    let firsts = [maybe_millis(row, 4)?, maybe_millis(row, 5)?];
    let oldest = firsts.into_iter().flatten().min().and_then(|moment| now.checked_sub(moment));
    Ok(QueueStats {
        due: millis(row, 0)?,
        pending: millis(row, 1)?,
        leased: millis(row, 2)?,
        dead: millis(row, 3)?,
        oldest_due_age: oldest.map(Duration::from_millis),
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

pub(super) fn maybe_millis(row: &Row, index: usize) -> Result<Option<UnixMillis>> {
    if row.at(index)?.is_null() { Ok(None) } else { millis(row, index).map(Some) }
}

fn millis(row: &Row, index: usize) -> Result<u64> {
    u64::try_from(row.int(index)?).map_err(|_| damaged(row, index))
}

fn small(row: &Row, index: usize) -> Result<u32> {
    u32::try_from(row.int(index)?).map_err(|_| damaged(row, index))
}

fn damaged(row: &Row, index: usize) -> Error {
    Error::new(ErrorKind::Corrupted, "a column of the task table holds what zmsg never wrote")
        .with_context("column", row.columns().get(index).map_or("?", String::as_str))
}
