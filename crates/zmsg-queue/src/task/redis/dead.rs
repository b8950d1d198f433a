//! Dead letters, and where a task stands: what people ask for, by the id alone.

use std::sync::atomic::Ordering::Relaxed;

use zmsg_core::{Result, TaskId, UnixMillis};
use zmsg_redis::redis::{Pipeline, cmd, pipe};

use super::keys::{Keys, QUEUES};
use super::message::TaskMessage;
use super::names::id_of;
use super::{RedisTaskQueue, scripts};
use crate::task::record::{DeadTask, TaskState};

/// What is asked of a dead letter: its message, attempts, and moments, where zmsg wrote them.
type Fields = (Option<Vec<u8>>, Option<u32>, Option<UnixMillis>, Option<UnixMillis>);

/// A task's state and message.
type Standing = (Option<String>, Option<Vec<u8>>);

/// Dead letters that are asked for in one round trip.
const CHUNK: usize = 500;

impl RedisTaskQueue {
    /// All queues that anybody has told the names of.
    pub(super) async fn named_queues(&self) -> Result<Vec<String>> {
        let mut queues: Vec<String> = self.redis.query(cmd("SMEMBERS").arg(QUEUES)).await?;
        queues.sort_unstable();
        Ok(queues)
    }

    /// The ids of all dead letters of a queue are read, which are bounded, and put in order: asynq keeps
    /// them by the second in which they died.
    pub(super) async fn list_dead(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        let queues = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.named_queues().await?,
        };
        let mut found = Vec::new();
        for (at, queue) in queues.iter().enumerate() {
            let ids = self.archived(&Keys::of(queue)).await?;
            found.extend(ids.into_iter().map(|(text, died_s)| (id_of(&text), at, text, died_s)));
        }
        found.retain(|(id, ..)| after.is_none_or(|after| *id > after));
        found.sort_unstable();
        found.truncate(limit);
        let mut dead = Vec::with_capacity(found.len());
        for (id, at, text, died_s) in found {
            let queue = &queues[at];
            // Retried or dropped since, if it is not there.
            if let Some(fields) = self.fields(&Keys::of(queue), &text).await? {
                dead.push(shown(id, queue, died_s, fields));
            }
        }
        Ok(dead)
    }

    /// The dead letters of a queue, with the second in which each died.
    pub(super) async fn archived(&self, keys: &Keys) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        loop {
            let mut ask = cmd("ZRANGE");
            ask.arg(keys.archived()).arg(found.len()).arg(found.len() + CHUNK - 1);
            let page: Vec<(String, u64)> = self.redis.query(ask.arg("WITHSCORES")).await?;
            let is_last = page.len() < CHUNK;
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }

    async fn fields(&self, keys: &Keys, text: &str) -> Result<Option<Fields>> {
        let mut ask = cmd("HMGET");
        ask.arg(keys.task(text)).arg("state");
        ask.arg(&["msg", "zmsg_attempt", "zmsg_created", "zmsg_died"]);
        let (state, message, attempt, created, died): (Option<String>, _, _, _, _) =
            self.redis.query(&ask).await?;
        let is_dead = state.as_deref() == Some("archived");
        Ok(is_dead.then_some((message, attempt, created, died)))
    }

    /// Drops the oldest of so many dead letters if they are too many.
    pub(super) async fn keep_dead_bounded(&self, keys: &Keys, dead: u64) -> Result<()> {
        let over = dead.saturating_sub(self.options.dead_max.into());
        if over > 0 {
            let dropped = self.trim(keys, over).await?;
            self.dead_dropped.fetch_add(dropped, Relaxed);
        }
        Ok(())
    }

    /// Drops the oldest dead letters; how many it did.
    pub(super) async fn trim(&self, keys: &Keys, over: u64) -> Result<u64> {
        let mut ask = cmd("ZRANGE");
        ask.arg(keys.archived()).arg(0).arg(over.min(CHUNK as u64) - 1);
        let oldest: Vec<String> = self.redis.query(&ask).await?;
        tracing::warn!(ids = ?oldest, "dropped dead letters: too many");
        self.drop_all(keys, &oldest).await
    }

    async fn drop_all(&self, keys: &Keys, texts: &[String]) -> Result<u64> {
        if texts.is_empty() {
            return Ok(0);
        }
        let lanes = self.lanes_of(keys, texts).await?;
        let mut all = vec![keys.archived(), keys.names(), keys.behind(), keys.due(), keys.lanes()];
        let mut args = Vec::with_capacity(texts.len() * 3);
        for (text, lane) in texts.iter().zip(lanes) {
            all.extend([keys.task(text), keys.lane(lane.as_deref().unwrap_or_default())]);
            let in_lane = u8::from(lane.is_some()).to_string();
            args.extend([text.clone(), id_of(text).0.to_string(), in_lane]);
        }
        self.redis.script(&scripts::DROP_DEAD, &all, &args).await
    }

    pub(super) async fn drop_one(&self, id: TaskId) -> Result<bool> {
        let Some((keys, text)) = self.find(id).await? else { return Ok(false) };
        Ok(self.drop_all(&keys, &[text]).await? == 1)
    }

    pub(super) async fn bring_back(&self, id: TaskId) -> Result<bool> {
        let Some((keys, text)) = self.find(id).await? else { return Ok(false) };
        let Some(mut message) = self.message(&keys, &text).await? else { return Ok(false) };
        message.retried = 0;
        let mut all = vec![
            keys.task(&text),
            keys.archived(),
            keys.pending(),
            keys.active(),
            keys.scheduled(),
            keys.retry(),
            keys.due(),
            keys.grouped(),
        ];
        let mut ask = cmd("HGET");
        ask.arg(keys.task(&text)).arg("zmsg_lane");
        if let Some(lane) = self.redis.query::<Option<String>>(&ask).await? {
            all.extend([keys.lane(&lane), keys.behind(), keys.lanes(), keys.numbers()]);
        }
        let args = (self.now(), &text, message.write(), self.options.tasks_max);
        let mut answer: i8 = self.redis.script(&scripts::RETRY_DEAD, &all, &args).await?;
        if answer == -1 && self.sweep_grouped(&keys).await? > 0 {
            answer = self.redis.script(&scripts::RETRY_DEAD, &all, &args).await?;
        }
        match answer {
            -1 => Err(self.full()),
            brought_back => Ok(brought_back == 1),
        }
    }

    /// The queue of a task, and what it is called there.
    async fn find(&self, id: TaskId) -> Result<Option<(Keys, String)>> {
        for queue in self.named_queues().await? {
            let keys = Keys::of(&queue);
            let text = self.text_of(&keys, id).await?;
            if self.redis.query(cmd("EXISTS").arg(keys.task(&text))).await? {
                return Ok(Some((keys, text)));
            }
        }
        Ok(None)
    }

    pub(super) async fn state_of(&self, id: TaskId) -> Result<Option<TaskState>> {
        let Some((keys, text)) = self.find(id).await? else { return Ok(None) };
        let mut ask: Pipeline = pipe();
        ask.cmd("HMGET").arg(keys.task(&text)).arg(&["state", "msg"]);
        ask.zscore(keys.due(), &text);
        ask.zscore(keys.behind(), &text);
        ask.zscore(keys.grouped(), &text);
        let (fields, due, behind, joined): (Standing, Option<u64>, Option<u64>, Option<u64>) =
            self.redis.pipeline(&ask).await?;
        let (state, message) = fields;
        Ok(match state.as_deref() {
            Some("active") => Some(TaskState::Leased),
            Some("archived") => {
                let message = TaskMessage::read(&message.unwrap_or_default());
                let cause = message.map_or_else(|error| error.to_string(), |it| it.error);
                Some(TaskState::Dead { cause })
            }
            Some("pending" | "scheduled" | "retry" | "aggregating") => {
                Some(TaskState::Pending { due: due.or(behind).or(joined).unwrap_or(0) })
            }
            // Kept for those who ask for its result; or gone meanwhile.
            _ => None,
        })
    }
}

/// A dead letter, whatever its message holds: it is what people look at to see what is wrong.
fn shown(id: TaskId, queue: &str, died_s: u64, fields: Fields) -> DeadTask {
    let (bytes, attempts, created, died) = fields;
    let bytes = bytes.unwrap_or_default();
    let message = TaskMessage::read(&bytes).unwrap_or_else(|error| {
        TaskMessage::unreadable("", queue, bytes.clone(), error.to_string())
    });
    DeadTask {
        id,
        queue: queue.to_owned(),
        attempts: attempts.unwrap_or_else(|| message.failures().saturating_add(1)),
        kind: message.kind,
        payload: message.payload,
        cause: message.error,
        created: created.unwrap_or(0),
        died: died.unwrap_or(died_s * 1_000),
    }
}
