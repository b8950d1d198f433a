//! Tasks that are done: how they end.
//!
//! Completions that come while others are on their way to Redis wait for those, and go together in one
//! script. So a busy worker asks less often the busier it is, and a lone completion waits for nothing.
//! What sends them is a task of its own: no caller that is dropped, or is not polled, holds up others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, Result};
use zmsg_redis::redis::cmd;
use zmsg_redis::{Redis, RedisKey};

use super::calls::{DAY_KEPT_S, held_keys};
use super::keys::Keys;
use super::lanes::lane_keys;
use super::names::may_be_named;
use super::{RedisTaskQueue, scripts};
use crate::task::record::LeasedTask;

/// Scripts of one queue that are under way at most: one that Redis works on, and the next.
const SENDERS: usize = 2;

/// Tasks of one script at most: it must not hold up others for long.
const TOGETHER: usize = 64;

/// What Redis says of a task that was to end, and the key of its lock against doubles, which may be empty.
type Ended = (u8, String);

const DONE: u8 = 1;
/// It could not be looked at: asked for alone, Redis says why.
const UNREADABLE: u8 = 2;

/// The completions that wait, of each queue, and what sends them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    lines: Mutex<HashMap<String, Arc<Line>>>,
    tracker: TaskTracker,
}

/// Those of one queue.
#[derive(Debug, Default)]
struct Line(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    senders: usize,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    attempt: u32,
    answer: oneshot::Sender<Result<bool>>,
}

impl Ends {
    fn of(&self, queue: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(queue) {
            return Arc::clone(line);
        }
        Arc::clone(lines.entry(queue.to_owned()).or_default())
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who waits, and the place of one more sender, if there is one.
    fn join(self: &Arc<Self>, one: Waiting) -> Option<Place> {
        let mut state = self.state();
        state.waiting.push(one);
        if state.senders == SENDERS {
            return None;
        }
        state.senders += 1;
        Some(Place(Some(Arc::clone(self))))
    }
}

/// The place of a sender, which is free again when this is dropped.
struct Place(Option<Arc<Line>>);

impl Place {
    /// Those who have waited longest and still do. If there are none the place is free in the same breath: the
    /// next who comes needs a sender.
    fn next(&mut self) -> Vec<Waiting> {
        let Some(line) = &self.0 else { return Vec::new() };
        let mut state = line.state();
        state.waiting.retain(|one| !one.answer.is_closed());
        let count = state.waiting.len().min(TOGETHER);
        let next: Vec<_> = state.waiting.drain(..count).collect();
        if next.is_empty() {
            state.senders -= 1;
            drop(state);
            self.0 = None;
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The runtime ends, or the sender panicked. Without another one nobody would answer those who wait.
        if let Some(line) = &self.0 {
            let mut state = line.state();
            state.senders -= 1;
            if state.senders == 0 {
                state.waiting.clear();
            }
        }
    }
}

/// What a sender needs.
struct Sender {
    redis: Redis,
    clock: Arc<dyn Clock>,
    keys: Keys,
}

impl RedisTaskQueue {
    /// Ends a task that is done.
    pub(super) async fn forget(&self, task: &LeasedTask) -> Result<bool> {
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let is_plain = task.lane.is_none() && task.retention.is_none();
        let done = if is_plain {
            self.end_with_others(&task.queue, keys.clone(), text, task.attempt).await?
        } else {
            self.end_kept_or_of_a_lane(task, &keys, &text).await?
        };
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
    ) -> Result<bool> {
        let mut all = Vec::from(held_keys(keys, text));
        all.extend(keys.processed(self.clock.wall()));
        all.push(keys.completed());
        all.extend(task.lane.iter().flat_map(|lane| lane_keys(keys, &lane.key)));
        let (message, until_s) = match task.retention {
            Some(retention) => self.kept(keys, text, retention).await?,
            None => Default::default(),
        };
        let args = (text, task.attempt, DAY_KEPT_S, message, until_s);
        let (done, lock): Ended = self.redis.script(&scripts::COMPLETE, &all, &args).await?;
        unlock(&self.redis, lock, text).await?;
        Ok(done == DONE)
    }

    async fn end_with_others(
        &self,
        queue: &str,
        keys: Keys,
        text: String,
        attempt: u32,
    ) -> Result<bool> {
        let (answer, answered) = oneshot::channel();
        let place = self.ends.of(queue).join(Waiting { text, attempt, answer });
        if let Some(mut place) = place {
            let (redis, clock) = (self.redis.clone(), Arc::clone(&self.clock));
            let sender = Sender { redis, clock, keys };
            self.ends.tracker.spawn(async move {
                loop {
                    let tasks = place.next();
                    if tasks.is_empty() {
                        return;
                    }
                    sender.end_each(tasks).await;
                }
            });
        }
        // Without an answer the runtime of the sender has ended: nobody knows how far it came.
        answered.await.unwrap_or_else(|_| Err(unanswered()))
    }
}

impl Sender {
    /// Ends tasks in one script, and tells those who wait.
    async fn end_each(&self, tasks: Vec<Waiting>) {
        match self.end_all(&tasks).await {
            Ok(ended) => {
                // One without an answer is told that by its sender's drop.
                join_all(tasks.into_iter().zip(ended).map(|(task, it)| self.tell(task, it))).await;
            }
            Err(error) => {
                for task in tasks {
                    let _ = task.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn end_all(&self, tasks: &[Waiting]) -> Result<Vec<Ended>> {
        let keys = &self.keys;
        let mut all = vec![keys.active(), keys.lease(), keys.held(), keys.until()];
        all.extend(keys.processed(self.clock.wall()));
        all.extend(tasks.iter().map(|task| keys.task(&task.text)));
        let each: Vec<_> = tasks.iter().map(|task| (&task.text, task.attempt)).collect();
        self.redis.script(&scripts::COMPLETE_MANY, &all, &(DAY_KEPT_S, each)).await
    }

    async fn tell(&self, task: Waiting, (ended, lock): Ended) {
        let told = match ended {
            UNREADABLE => self.end_alone(&task).await,
            _ => unlock(&self.redis, lock, &task.text).await.map(|()| ended == DONE),
        };
        let _ = task.answer.send(told);
    }

    async fn end_alone(&self, task: &Waiting) -> Result<bool> {
        let mut all = Vec::from(held_keys(&self.keys, &task.text));
        all.extend(self.keys.processed(self.clock.wall()));
        all.push(self.keys.completed());
        let args = (&task.text, task.attempt, DAY_KEPT_S, "", "");
        let (done, _): Ended = self.redis.script(&scripts::COMPLETE, &all, &args).await?;
        Ok(done == DONE)
    }
}

/// Takes the lock against doubles of a task away, if there is one and it still is the task's.
async fn unlock(redis: &Redis, lock: String, text: &str) -> Result<()> {
    if !lock.is_empty() {
        let lock = [RedisKey::verbatim(lock)];
        let _: u64 = redis.script(&scripts::UNLOCK, &lock, &(text,)).await?;
    }
    Ok(())
}

fn unanswered() -> Error {
    let why = "Redis did not say what came of a completion";
    Error::new(ErrorKind::Unavailable, why).temporary().outcome_unknown()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn one() -> (Waiting, oneshot::Receiver<Result<bool>>) {
        let (answer, answered) = oneshot::channel();
        (Waiting { text: String::new(), attempt: 1, answer }, answered)
    }

    #[test]
    fn who_waits_is_let_go_when_the_last_sender_is_dropped() {
        let line = Arc::<Line>::default();
        let joined = || {
            let (one, answered) = one();
            (line.join(one), answered)
        };
        let ((first, mut answered), (second, _held), (none, _waits)) =
            (joined(), joined(), joined());
        assert!(none.is_none(), "there are two senders");
        drop(first);
        assert_eq!(answered.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(second);
        assert_eq!(answered.try_recv().unwrap_err(), TryRecvError::Closed);
        assert!(joined().0.is_some(), "the next one who comes has a sender");
    }
}
