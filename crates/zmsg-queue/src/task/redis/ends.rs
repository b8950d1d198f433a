//! Tasks that are done: how they end.
//!
//! Completions that come while others are on their way to Redis wait for those, and go together in one
//! script. So a busy worker asks less often the busier it is, and a lone completion waits for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::cmd;

use super::calls::{DAY_KEPT_S, held_keys};
use super::keys::Keys;
use super::lanes::lane_keys;
use super::names::may_be_named;
use super::{RedisTaskQueue, scripts};
use crate::task::record::LeasedTask;

/// Scripts of one queue that are under way at most: one that Redis works on, and the next.
const TURNS: usize = 2;

/// Tasks of one script at most: it must not hold up others for long.
const TOGETHER: usize = 64;

/// What Redis says of a task that was to end: whether it was ours, and the key of its lock against
/// doubles, which may be empty.
type Ended = (bool, String);

/// The completions that wait, of each queue.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<String, Arc<Line>>>);

/// Those of one queue.
#[derive(Debug)]
struct Line {
    waiting: Mutex<Vec<Waiting>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    attempt: u32,
    answer: oneshot::Sender<Result<Ended>>,
}

impl Ends {
    fn of(&self, queue: &str) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(queue) {
            return Arc::clone(line);
        }
        Arc::clone(lines.entry(queue.to_owned()).or_default())
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(TURNS) }
    }
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, text: &str, attempt: u32) -> oneshot::Receiver<Result<Ended>> {
        let (answer, answered) = oneshot::channel();
        self.waiting().push(Waiting { text: text.to_owned(), attempt, answer });
        answered
    }

    /// Those who have waited longest and still do.
    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        waiting.retain(|one| !one.answer.is_closed());
        let count = waiting.len().min(TOGETHER);
        waiting.drain(..count).collect()
    }
}

impl RedisTaskQueue {
    /// Ends a task that is done.
    pub(super) async fn forget(&self, task: &LeasedTask) -> Result<bool> {
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let is_plain = task.lane.is_none() && task.retention.is_none();
        let (done, lock) = if is_plain {
            self.end_with_others(&task.queue, &keys, &text, task.attempt).await?
        } else {
            self.end_kept_or_of_a_lane(task, &keys, &text).await?
        };
        if !lock.is_empty() {
            let lock = [RedisKey::verbatim(lock)];
            let _: u64 = self.redis.script(&scripts::UNLOCK, &lock, &(&text,)).await?;
        }
        if done && may_be_named(task.id) {
            let mut forget = cmd("HDEL");
            forget.arg(keys.names()).arg(task.id.0.to_string());
            let _: u64 = self.redis.query(&forget).await?;
        }
        Ok(done)
    }

    async fn end_kept_or_of_a_lane(
        &self,
        task: &LeasedTask,
        keys: &Keys,
        text: &str,
    ) -> Result<Ended> {
        let mut all = Vec::from(held_keys(keys, text));
        all.extend(keys.processed(self.clock.wall()));
        all.push(keys.completed());
        all.extend(task.lane.iter().flat_map(|lane| lane_keys(keys, &lane.key)));
        let (message, until_s) = match task.retention {
            Some(retention) => self.kept(keys, text, retention).await?,
            None => Default::default(),
        };
        let args = (text, task.attempt, DAY_KEPT_S, message, until_s);
        self.redis.script(&scripts::COMPLETE, &all, &args).await
    }

    /// Waits for an answer or for a turn, whichever comes first. Who has a turn speaks for all who wait.
    async fn end_with_others(
        &self,
        queue: &str,
        keys: &Keys,
        text: &str,
        attempt: u32,
    ) -> Result<Ended> {
        let line = self.ends.of(queue);
        let mut answered = line.join(text, attempt);
        loop {
            let turn = tokio::select! {
                biased;
                // Who spoke for this one was dropped on the way: nobody knows how far it came.
                ended = &mut answered => return ended.unwrap_or_else(|_| Err(unanswered())),
                turn = line.turns.acquire() => turn.map_err(|_| unanswered())?,
            };
            self.end_each(keys, line.next()).await;
            drop(turn);
        }
    }

    /// Ends tasks in one script. If Redis has refused that, each by itself: one may be to blame.
    async fn end_each(&self, keys: &Keys, tasks: Vec<Waiting>) {
        match self.end_all(keys, &tasks).await {
            Ok(ended) => {
                // One without an answer is told that by its sender's drop.
                for (task, ended) in tasks.into_iter().zip(ended) {
                    let _ = task.answer.send(Ok(ended));
                }
            }
            Err(error)
                if tasks.len() == 1 || error.is_outcome_unknown() || error.is_temporary() =>
            {
                for task in tasks {
                    let _ = task.answer.send(Err(error.clone()));
                }
            }
            Err(_) => {
                for task in tasks {
                    let one = self.end_all(keys, std::slice::from_ref(&task)).await;
                    let one = one.and_then(|ended| ended.into_iter().next().ok_or_else(unanswered));
                    let _ = task.answer.send(one);
                }
            }
        }
    }

    async fn end_all(&self, keys: &Keys, tasks: &[Waiting]) -> Result<Vec<Ended>> {
        let mut all = vec![keys.active(), keys.lease(), keys.held(), keys.until()];
        all.extend(keys.processed(self.clock.wall()));
        all.extend(tasks.iter().map(|task| keys.task(&task.text)));
        let each: Vec<_> = tasks.iter().map(|task| (&task.text, task.attempt)).collect();
        self.redis.script(&scripts::COMPLETE_MANY, &all, &(DAY_KEPT_S, each)).await
    }
}

fn unanswered() -> Error {
    let why = "Redis did not say what came of a completion";
    Error::new(ErrorKind::Unavailable, why).temporary().outcome_unknown()
}
