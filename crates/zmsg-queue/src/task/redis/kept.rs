//! Tasks that are kept when they are done, what came of them, and what outlives its task.

use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Result, TaskId};
use zmsg_redis::redis::cmd;

use super::keys::Keys;
use super::names::id_of;
use super::{RedisTaskQueue, scripts};
use crate::task::record::LeasedTask;

/// Entries that one sweep looks at.
const SWEEP: usize = 100;

impl RedisTaskQueue {
    /// Keeps what came of a task, for as long as the task is known; for those that have a
    /// [`retention`](crate::NewTask::retention), beyond its end. `false`: it is no longer ours.
    ///
    /// # Errors
    /// Those of Redis.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it kept or not.
    pub async fn set_result(&self, task: &LeasedTask, result: &[u8]) -> Result<bool> {
        self.open()?;
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let args = (task.attempt, result);
        self.redis.script(&scripts::SET_RESULT, &[keys.task(&text)], &args).await
    }

    /// What came of a task. `None`: nothing was said, or nothing is known of the task.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn result(&self, queue: &str, id: TaskId) -> Result<Option<Bytes>> {
        self.open()?;
        let keys = Keys::of(queue);
        let text = self.text_of(&keys, id).await?;
        let mut ask = cmd("HGET");
        ask.arg(keys.task(&text)).arg("result");
        let result: Option<Vec<u8>> = self.redis.query(&ask).await?;
        Ok(result.map(Bytes::from))
    }

    /// The message of a task that is kept, and the second until when; nothing for one that has gone.
    pub(super) async fn kept(
        &self,
        keys: &Keys,
        text: &str,
        retention: Duration,
    ) -> Result<(Vec<u8>, u64)> {
        let Some(mut message) = self.message(keys, text).await? else {
            return Ok(Default::default());
        };
        let now_s = self.clock.wall() / 1_000;
        message.completed(now_s.cast_signed());
        Ok((message.write(), now_s.saturating_add(retention.as_secs().max(1))))
    }

    /// Forgets some of the tasks whose time has come.
    pub(super) async fn sweep_completed(&self, keys: &Keys) -> Result<()> {
        let mut ask = cmd("ZRANGE");
        ask.arg(keys.completed()).arg("-inf").arg(self.clock.wall() / 1_000).arg("BYSCORE");
        let found: Vec<String> = self.redis.query(ask.arg("LIMIT").arg(0).arg(SWEEP)).await?;
        self.sweep(keys, &found).await.map(drop)
    }

    /// Forgets when some tasks were due that others have taken: their workers do not know of this set. A
    /// sample, because what is due first may be long alive.
    pub(super) async fn sweep_due(&self, keys: &Keys) {
        let mut ask = cmd("ZRANDMEMBER");
        ask.arg(keys.due()).arg(SWEEP);
        let swept = async {
            let found: Vec<String> = self.redis.query(&ask).await?;
            self.sweep(keys, &found).await
        };
        match swept.await {
            Ok(dropped) => tracing::debug!(dropped, "swept what outlived its task"),
            // The tasks are accepted: the next enqueue sweeps.
            Err(error) => tracing::debug!(%error, "could not sweep what outlived its task"),
        }
    }

    pub(super) async fn sweep(&self, keys: &Keys, texts: &[String]) -> Result<u64> {
        if texts.is_empty() {
            return Ok(0);
        }
        let mut all = vec![keys.due(), keys.completed(), keys.names()];
        all.extend([keys.groups(), keys.grouped()]);
        all.extend(texts.iter().map(|text| keys.task(text)));
        let mut args = vec![self.now()];
        args.extend(texts.iter().flat_map(|text| [text.clone(), id_of(text).0.to_string()]));
        self.redis.script(&scripts::SWEEP, &all, &args).await
    }
}
