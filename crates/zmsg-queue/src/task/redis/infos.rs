//! What is known of tasks in Redis, read for many at once.

use std::time::Duration;

use zmsg_core::{Result, UnixMillis};
use zmsg_redis::redis::cmd;

use super::keys::Keys;
use super::message::TaskMessage;
use super::names::{id_of, may_be_named};
use super::{RedisTaskQueue, scripts};
use crate::task::inspect::{Stage, TaskInfo, held};

/// Tasks that one script looks at: each brings its payload along.
const CHUNK: usize = 100;

/// A lease of a worker in Go counts for so much longer, as it does for asynq.
const GRACE_MS: u64 = 30_000;

/// A task's state, message, attempt, leases that ran out, when it was enqueued, when it died, since when it
/// is pending, in nanoseconds, its lane, and its group.
type Fields = (
    Option<String>,
    Option<Vec<u8>>,
    Option<u32>,
    Option<u32>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<String>,
    Option<String>,
);

/// Where it stands: among those due, held, by the end of its lease in milliseconds, in seconds, scheduled,
/// to be retried, behind others of its lane, and since when in its group.
type Places = (
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
);

/// A task that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) info: TaskInfo,
    /// What it is called in Redis.
    pub(super) text: String,
    /// What asynq calls its state.
    pub(super) state: String,
    pub(super) message: TaskMessage,
    pub(super) lane: Option<String>,
    /// Whether that is its message, and not one for people in place of it.
    pub(super) is_readable: bool,
}

impl RedisTaskQueue {
    /// Those of some tasks that are there, in their order.
    pub(super) async fn look_at(
        &self,
        queue: &str,
        keys: &Keys,
        texts: &[String],
    ) -> Result<Vec<Seen>> {
        let mut found = Vec::with_capacity(texts.len());
        for texts in texts.chunks(CHUNK) {
            let mut all = vec![keys.due(), keys.held(), keys.until()];
            all.extend([
                keys.lease(),
                keys.scheduled(),
                keys.retry(),
                keys.behind(),
                keys.grouped(),
            ]);
            all.extend(texts.iter().map(|text| keys.task(text)));
            let answer = self.redis.script(&scripts::LOOK, &all, &(self.now(), texts)).await?;
            let (now, tasks): (u64, Vec<(Fields, Places)>) = answer;
            let seen = texts.iter().zip(tasks);
            found.extend(seen.filter_map(|(text, (fields, places))| {
                see(queue, text.clone(), fields, places, now)
            }));
        }
        self.name_all(keys, &found).await?;
        Ok(found)
    }

    /// What was shown can be acted upon by its id: the names of tasks of others are kept.
    async fn name_all(&self, keys: &Keys, seen: &[Seen]) -> Result<()> {
        let mut note = cmd("HSET");
        note.arg(keys.names());
        let mut any = false;
        for seen in seen.iter().filter(|seen| may_be_named(seen.info.id)) {
            note.arg(seen.info.id.0.to_string()).arg(&seen.text);
            any = true;
        }
        if any {
            let _: u64 = self.redis.query(&note).await?;
        }
        Ok(())
    }
}

impl Seen {
    /// Refuses to act on what somebody else has.
    pub(super) fn check_free(&self) -> Result<()> {
        if self.info.is_held() {
            return Err(held(&self.info));
        }
        Ok(())
    }

    /// The group in which it stands.
    pub(super) fn waiting_in(&self) -> Option<&str> {
        self.info.group.as_deref().filter(|_| self.info.stage == Stage::Aggregating)
    }
}

/// A task, whatever its message holds: it is what people look at to see what is wrong.
fn see(queue: &str, text: String, fields: Fields, places: Places, now: UnixMillis) -> Option<Seen> {
    let (state, bytes, attempt, lost, created, died, pending_since, lane, group) = fields;
    let (state, bytes) = (state?, bytes.unwrap_or_default());
    let stage = stage_of(&state)?;
    let (message, is_readable) = match TaskMessage::read(&bytes) {
        Ok(message) => (message, true),
        Err(error) => (TaskMessage::unreadable(&text, queue, bytes, error.to_string()), false),
    };
    let is_active = stage == Stage::Active;
    let spent = message.failures().saturating_add(lost.unwrap_or(0));
    let spent = spent.saturating_add(u32::from(is_active));
    let (due, held, until, lease_s, scheduled_s, retry_s, behind, joined) = places;
    let joined = joined.filter(|_| stage == Stage::Aggregating);
    let ms_of = |seconds: f64| seconds * 1_000.0;
    let due = joined
        .or(due)
        .or(held)
        .or(behind)
        .or(scheduled_s.map(ms_of))
        .or(retry_s.map(ms_of))
        .map(whole);
    let lease_until = until.or(lease_s.map(ms_of)).map(whole).filter(|_| is_active);
    let grace = if until.is_some() { 0 } else { GRACE_MS };
    let left = lease_until.map(|ends| ends.saturating_add(grace).saturating_sub(now));
    let id = id_of(&text);
    let failed_at = u64::try_from(message.last_failed_at).ok().filter(|seconds| *seconds > 0);
    let info = TaskInfo {
        id,
        name: (id.0.to_string() != text).then(|| text.clone()),
        queue: queue.to_owned(),
        kind: message.kind.clone(),
        payload_bytes: message.payload.len() as u64,
        stage,
        attempts: attempt.unwrap_or(0).max(spent),
        attempts_spent: spent,
        attempts_max: message.attempts_max(),
        group: group.filter(|group| !group.is_empty()),
        due: due.unwrap_or_else(|| pending_since.unwrap_or(0) / 1_000_000),
        lease_until,
        lease_left: left.map(Duration::from_millis),
        last_error: Some(message.error.clone()).filter(|error| !error.is_empty()),
        created,
        died: died.or(failed_at.map(|at| at * 1_000)).filter(|_| stage == Stage::Dead),
    };
    Some(Seen { info, text, state, message, lane, is_readable })
}

/// `None` for a state that this version does not know.
fn stage_of(state: &str) -> Option<Stage> {
    match state {
        "pending" => Some(Stage::Pending),
        "scheduled" => Some(Stage::Scheduled),
        "aggregating" => Some(Stage::Aggregating),
        "retry" => Some(Stage::Retry),
        "active" => Some(Stage::Active),
        "archived" => Some(Stage::Dead),
        "completed" => Some(Stage::Completed),
        _ => None,
    }
}

/// Whole milliseconds of a score, which is below 2^53.
fn whole(score: f64) -> u64 {
    score.max(0.0) as u64
}
