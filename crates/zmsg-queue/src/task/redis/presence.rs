//! Workers as asynq's tools see them: who works here, at what, and how one attempt is stopped.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zmsg_core::{Backoff, Result, TaskId, UnixMillis};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::{cmd, pipe};

use super::RedisTaskQueue;
use super::keys::Keys;
use super::names::id_of;
use crate::task::worker::{Attempts, RunningAttempt, Worker, WorkerOptions};

/// `ServerInfo` of asynq.
#[derive(Clone, PartialEq, prost::Message)]
struct ServerInfo {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(string, tag = "3")]
    server_id: String,
    #[prost(int32, tag = "4")]
    concurrency: i32,
    #[prost(map = "string, int32", tag = "5")]
    queues: HashMap<String, i32>,
    #[prost(bool, tag = "6")]
    strict_priority: bool,
    #[prost(string, tag = "7")]
    status: String,
    #[prost(message, optional, tag = "8")]
    start_time: Option<Moment>,
    #[prost(int32, tag = "9")]
    active_worker_count: i32,
}

/// `WorkerInfo` of asynq.
#[derive(Clone, PartialEq, prost::Message)]
struct WorkerInfo {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(string, tag = "3")]
    server_id: String,
    #[prost(string, tag = "4")]
    task_id: String,
    #[prost(string, tag = "5")]
    task_type: String,
    #[prost(bytes = "bytes", tag = "6")]
    task_payload: bytes::Bytes,
    #[prost(string, tag = "7")]
    queue: String,
    #[prost(message, optional, tag = "8")]
    start_time: Option<Moment>,
    #[prost(message, optional, tag = "9")]
    deadline: Option<Moment>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Moment {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Moment {
    /// No moment at all, as Go has it: the beginning of the year 1.
    pub(super) const NONE: Self = Self { seconds: -62_135_596_800, nanos: 0 };

    pub(super) fn of(moment: UnixMillis) -> Option<Self> {
        let nanos = i32::try_from(moment % 1_000 * 1_000_000).ok()?;
        Some(Self { seconds: (moment / 1_000).cast_signed(), nanos })
    }
}

/// Shows a worker to asynq's tools, and lets them stop its attempts. To be [run](Self::run) beside it.
///
/// What it shows counts for ten seconds and is renewed every five, as asynq does it. Payloads of the tasks
/// that run are shown too. Without Redis nothing is shown; the worker is not affected.
pub struct RedisPresence {
    queue: Arc<RedisTaskQueue>,
    attempts: Arc<Attempts>,
    options: WorkerOptions,
    host: String,
    server_id: String,
    started: UnixMillis,
}

const BEAT: Duration = Duration::from_secs(5);
const SHOWN_S: u64 = 10;

/// How long a goodbye may take: without one it is shown for some seconds yet.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Pauses while Redis cannot be told or listened to.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The failure in a row that is worth a warning: the first may be that nobody is connected yet.
const WARN_AT: u32 = 5;

impl RedisPresence {
    /// For a worker of this queue on the machine `host`.
    pub fn new(queue: Arc<RedisTaskQueue>, worker: &Worker, host: impl Into<String>) -> Self {
        let started = queue.clock.wall();
        Self {
            queue,
            attempts: worker.attempts(),
            options: worker.options().clone(),
            host: host.into(),
            server_id: Uuid::new_v4().to_string(),
            started,
        }
    }

    /// Shows the worker until `shutdown`, and takes it away then.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it shown for ten seconds at most.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let shown = async { tokio::join!(self.show_always(), self.hear_always()) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = shown => {}
        }
        let _ = timeout(LEAVE_MAX, self.leave()).await;
        Ok(())
    }

    async fn show_always(&self) {
        let mut failures = 0;
        loop {
            let pause = match self.show().await {
                Ok(()) => {
                    failures = 0;
                    BEAT
                }
                Err(error) => {
                    failures += 1;
                    if failures == WARN_AT {
                        tracing::warn!(%error, "a worker is not shown in Redis");
                    }
                    AGAIN.delay(failures)
                }
            };
            sleep(pause).await;
        }
    }

    async fn show(&self) -> Result<()> {
        let running = self.attempts.running();
        let [servers, workers] = self.keys();
        let info = self.info(running.len()).encode_to_vec();
        let mut set = cmd("SET");
        set.arg(&servers).arg(info).arg("EX").arg(SHOWN_S);
        let _: () = self.queue.redis.query(&set).await?;
        let mut all = pipe();
        all.del(&workers).ignore();
        for attempt in &running {
            let id = self.text_of(attempt).await?;
            all.hset(&workers, &id, self.work(id.clone(), attempt).encode_to_vec()).ignore();
        }
        all.expire(&workers, SHOWN_S.cast_signed()).ignore();
        let _: () = self.queue.redis.pipeline(&all).await?;
        self.list("asynq:servers", &servers).await?;
        self.list("asynq:workers", &workers).await
    }

    /// Puts it where tools look, and those away that have fallen silent.
    async fn list(&self, place: &str, key: &RedisKey) -> Result<()> {
        let now_s = self.queue.clock.wall() / 1_000;
        let mut all = pipe();
        all.cmd("ZREMRANGEBYSCORE").arg(place).arg("-inf").arg(now_s.saturating_sub(1)).ignore();
        all.cmd("ZADD").arg(place).arg(now_s + SHOWN_S).arg(key).ignore();
        self.queue.redis.pipeline(&all).await
    }

    async fn leave(&self) {
        let [servers, workers] = self.keys();
        for (place, key) in [("asynq:servers", servers), ("asynq:workers", workers)] {
            let gone = async {
                let _: u64 = self.queue.redis.query(cmd("ZREM").arg(place).arg(&key)).await?;
                self.queue.redis.query::<u64>(cmd("DEL").arg(&key)).await
            };
            if let Err(error) = gone.await {
                tracing::debug!(%error, "a worker that has gone is shown for some seconds yet");
            }
        }
    }

    async fn hear_always(&self) {
        let channel = RedisKey::verbatim("asynq:cancel");
        let mut failures = 0;
        loop {
            match self.queue.redis.subscribe(&channel).await {
                Ok(mut heard) => {
                    failures = 0;
                    while let Some(text) = heard.next().await {
                        let stopped = self.attempts.cancel(id_of(&String::from_utf8_lossy(&text)));
                        tracing::info!(stopped, "was told to stop the attempts at a task");
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures == WARN_AT {
                        tracing::warn!(%error, "nobody can stop attempts through Redis");
                    }
                    sleep(AGAIN.delay(failures)).await;
                }
            }
        }
    }

    fn keys(&self) -> [RedisKey; 2] {
        let who = format!("{{{}:{}:{}}}", self.host, std::process::id(), self.server_id);
        ["servers", "workers"].map(|what| RedisKey::verbatim(format!("asynq:{what}:{who}")))
    }

    fn info(&self, running: usize) -> ServerInfo {
        let weight = |weight: u32| i32::try_from(weight.max(1)).unwrap_or(i32::MAX);
        let queues = self.options.queues.iter();
        ServerInfo {
            host: self.host.clone(),
            pid: std::process::id().cast_signed(),
            server_id: self.server_id.clone(),
            concurrency: small(self.options.concurrency),
            queues: queues.map(|queue| (queue.name.clone(), weight(queue.weight))).collect(),
            strict_priority: self.options.strict,
            status: "active".to_owned(),
            start_time: Moment::of(self.started),
            active_worker_count: small(running),
        }
    }

    async fn text_of(&self, attempt: &RunningAttempt) -> Result<String> {
        self.queue.text_of(&Keys::of(&attempt.task.queue), attempt.task.id).await
    }

    fn work(&self, task_id: String, attempt: &RunningAttempt) -> WorkerInfo {
        let task = &attempt.task;
        WorkerInfo {
            host: self.host.clone(),
            pid: std::process::id().cast_signed(),
            server_id: self.server_id.clone(),
            task_id,
            task_type: task.kind.clone(),
            task_payload: task.payload.clone(),
            queue: task.queue.clone(),
            start_time: Moment::of(attempt.begun),
            deadline: Moment::of(attempt.until),
        }
    }
}

impl RedisTaskQueue {
    /// Tells the workers of all nodes, those of asynq too, to stop their attempts at a task. An attempt that
    /// is stopped has failed. How many were told, which need not have the task.
    ///
    /// # Errors
    /// Those of Redis.
    ///
    /// # Cancel safety
    /// Dropping the future leaves them told or not.
    pub async fn cancel(&self, queue: &str, id: TaskId) -> Result<u64> {
        self.open()?;
        let text = self.text_of(&Keys::of(queue), id).await?;
        let told = self.redis.query(cmd("PUBLISH").arg("asynq:cancel").arg(text)).await;
        told.map_err(|error| error.during("queue.cancel"))
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl fmt::Debug for RedisPresence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPresence").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}
