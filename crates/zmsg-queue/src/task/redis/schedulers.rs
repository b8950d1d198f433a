//! Periodic tasks as asynq's tools see them: which schedules run here, and what they have enqueued.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zmsg_core::{Result, TaskId, UnixMillis};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::{cmd, pipe};

use super::RedisTaskQueue;
use super::presence::Moment;
use crate::task::periodic::{Agenda, PeriodicTasks};
use crate::task::record::NewTask;

/// `SchedulerEntry` of asynq.
#[derive(Clone, PartialEq, prost::Message)]
struct SchedulerEntry {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    spec: String,
    #[prost(string, tag = "3")]
    task_type: String,
    #[prost(bytes = "bytes", tag = "4")]
    task_payload: bytes::Bytes,
    #[prost(string, repeated, tag = "5")]
    enqueue_options: Vec<String>,
    #[prost(message, optional, tag = "6")]
    next_enqueue_time: Option<Moment>,
    #[prost(message, optional, tag = "7")]
    prev_enqueue_time: Option<Moment>,
}

/// `SchedulerEnqueueEvent` of asynq.
#[derive(Clone, PartialEq, prost::Message)]
struct SchedulerEnqueueEvent {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(message, optional, tag = "2")]
    enqueue_time: Option<Moment>,
}

/// Shows the periodic tasks of this process to asynq's tools. To be [run](Self::run) beside them.
///
/// - An entry is shown under its name, with the kind and the payload that it has next; what is shown counts
///   for twenty seconds and is renewed every ten, or a second after something was enqueued.
/// - The history of an entry is that of all nodes, also of those that have gone: its 1,000 newest events, for 90
///   days.
/// - Without Redis nothing is shown; the tasks are not affected.
pub struct RedisSchedulerPresence {
    queue: Arc<RedisTaskQueue>,
    agenda: Agenda,
    key: RedisKey,
}

const BEAT: Duration = Duration::from_secs(10);
const SHOWN_S: u64 = 20;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the goodbye may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);
const SCHEDULERS: &str = "asynq:schedulers";

const EVENTS_MAX: i64 = 1_000;
/// For so long asynq keeps the numbers of a day.
const EVENTS_KEPT_S: i64 = 90 * 24 * 3_600;

impl RedisSchedulerPresence {
    /// For periodic tasks that run on the machine `host`. All their entries have to be there.
    pub fn new(queue: Arc<RedisTaskQueue>, tasks: &PeriodicTasks, host: impl Into<String>) -> Self {
        let (host, process, id) = (host.into(), std::process::id(), Uuid::new_v4());
        let key = RedisKey::verbatim(format!("{SCHEDULERS}:{{{host}:{process}:{id}}}"));
        Self { queue, agenda: tasks.agenda(), key }
    }

    /// Shows them until `shutdown`, and takes them away then.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Dropping the future leaves them shown for twenty seconds at most.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.show_always() => {}
        }
        let left = timeout(LEAVE_MAX, self.leave()).await;
        if let Ok(Err(error)) = left {
            tracing::debug!(%error, "periodic tasks that have gone are shown for some seconds yet");
        }
        Ok(())
    }

    async fn show_always(&self) {
        loop {
            if let Err(error) = self.show().await {
                tracing::debug!(%error, "periodic tasks are not shown in Redis");
            }
            sleep(PAUSE).await;
            tokio::select! {
                () = self.agenda.firings().changed() => {}
                () = sleep(BEAT - PAUSE) => {}
            }
        }
    }

    async fn show(&self) -> Result<()> {
        let now = self.queue.clock.wall();
        let mut all = pipe();
        all.del(&self.key).ignore();
        for line in self.agenda.lines() {
            let (next, last) = {
                let entry = line.read();
                (entry.next, entry.last)
            };
            // What cannot be made now may be made when it fires.
            if let Ok(firing) = line.task.firing(next.unwrap_or(now)) {
                let spec = line.task.schedule().to_string();
                let entry = entry(line.task.name(), spec, firing.task(), [next, last]);
                all.rpush(&self.key, entry.encode_to_vec()).ignore();
            }
        }
        all.expire(&self.key, SHOWN_S.cast_signed()).ignore();
        let _: () = self.queue.redis.pipeline(&all).await?;
        self.list(now / 1_000).await?;
        self.tell().await
    }

    /// Adds what was enqueued to the histories. What could not be is tried again.
    async fn tell(&self) -> Result<()> {
        while let Some((entry, id, at)) = self.agenda.firings().first() {
            self.record(&entry, id, at).await?;
            self.agenda.firings().shown(id);
        }
        Ok(())
    }

    /// Puts them where tools look, and those away that have fallen silent.
    async fn list(&self, now_s: u64) -> Result<()> {
        let mut all = pipe();
        let silent = now_s.saturating_sub(1);
        all.cmd("ZREMRANGEBYSCORE").arg(SCHEDULERS).arg("-inf").arg(silent).ignore();
        all.cmd("ZADD").arg(SCHEDULERS).arg(now_s + SHOWN_S).arg(&self.key).ignore();
        self.queue.redis.pipeline(&all).await
    }

    /// Adds what was enqueued to the history of its entry.
    async fn record(&self, entry: &str, id: TaskId, at: UnixMillis) -> Result<()> {
        let history = RedisKey::verbatim(format!("asynq:scheduler_history:{entry}"));
        let event =
            SchedulerEnqueueEvent { task_id: id.0.to_string(), enqueue_time: Moment::of(at) };
        let mut all = pipe();
        all.cmd("ZADD").arg(&history).arg(at / 1_000).arg(event.encode_to_vec()).ignore();
        let oldest = -EVENTS_MAX - 1;
        all.cmd("ZREMRANGEBYRANK").arg(&history).arg(0).arg(oldest).ignore();
        all.expire(&history, EVENTS_KEPT_S).ignore();
        self.queue.redis.pipeline(&all).await
    }

    async fn leave(&self) -> Result<()> {
        let _: u64 = self.queue.redis.query(cmd("ZREM").arg(SCHEDULERS).arg(&self.key)).await?;
        let _: u64 = self.queue.redis.query(cmd("DEL").arg(&self.key)).await?;
        self.tell().await
    }
}

fn entry(
    name: &str,
    spec: String,
    task: &NewTask,
    [next, last]: [Option<UnixMillis>; 2],
) -> SchedulerEntry {
    let moment = |moment: Option<UnixMillis>| moment.map_or(Some(Moment::NONE), Moment::of);
    SchedulerEntry {
        id: name.to_owned(),
        spec,
        task_type: task.kind.clone(),
        task_payload: task.payload.clone(),
        enqueue_options: options(task),
        next_enqueue_time: moment(next),
        prev_enqueue_time: moment(last),
    }
}

/// What a task says of itself, as asynq writes it.
fn options(task: &NewTask) -> Vec<String> {
    let queue = format!("Queue({:?})", task.queue);
    let retries = format!("MaxRetry({})", task.attempts_max - 1);
    let pauses =
        [("Timeout", task.timeout), ("Unique", task.unique_for), ("Retention", task.retention)];
    let pause = |(name, pause): (&str, Option<Duration>)| {
        pause.map(|pause| format!("{name}({}ms)", pause.as_millis()))
    };
    [queue, retries].into_iter().chain(pauses.into_iter().filter_map(pause)).collect()
}

impl fmt::Debug for RedisSchedulerPresence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSchedulerPresence").field("key", &self.key).finish_non_exhaustive()
    }
}
