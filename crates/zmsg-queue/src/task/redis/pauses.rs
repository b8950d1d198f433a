//! Queues that rest: asynq's own key, so that either side pauses and resumes for both.

use zmsg_core::Result;
use zmsg_redis::redis::cmd;

use super::RedisTaskQueue;
use super::calls::check_queue;
use super::keys::Keys;

impl RedisTaskQueue {
    /// asynq refuses to pause twice; here the second is told that there was nothing to do.
    pub(super) async fn begin_pause(&self, queue: &str) -> Result<bool> {
        check_queue(queue)?;
        // Tools list it from then on, also if it has had no task yet: a pause must not be invisible.
        self.tell_name(queue).await?;
        let mut set = cmd("SET");
        set.arg(Keys::of(queue).paused()).arg(self.clock.wall() / 1_000).arg("NX");
        let set: Option<String> = self.redis.query(&set).await?;
        Ok(set.is_some())
    }

    pub(super) async fn end_pause(&self, queue: &str) -> Result<bool> {
        let gone: u64 = self.redis.query(cmd("DEL").arg(Keys::of(queue).paused())).await?;
        Ok(gone > 0)
    }

    pub(super) async fn finds_pause(&self, queue: &str) -> Result<bool> {
        self.redis.query(cmd("EXISTS").arg(Keys::of(queue).paused())).await
    }
}
