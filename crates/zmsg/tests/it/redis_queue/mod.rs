//! The delayed route on a task queue in Redis.

mod forged;
mod nodes;
mod once;
mod outages;
mod outbox;
mod presence;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use zmsg::core::SystemClock;
use zmsg::queue::{RedisQueueOptions, RedisTaskQueue};
use zmsg::redis::redis::{Cmd, FromRedisValue, cmd};
use zmsg::redis::{Redis, RedisOptions};
use zmsg::{Config, QueueBackend, Secret, Zmsg, sql};
use zmsg_testbed::private::{self, PrivateRedis};

use crate::support::{self, eventually};

const SECRET: &str = "a secret of the tests, 32 bytes and more";
const NAMESPACE: &str = "app";
/// Where the tasks of that namespace stand.
const QUEUE: &str = "app:default";

/// A Redis of its own, a directory, and a configuration that has the queue in that Redis.
pub(crate) struct Rig {
    redis: PrivateRedis,
    dir: TempDir,
}

impl Rig {
    /// One whose Redis keeps everything over a kill; `None` where there is no program.
    pub(crate) fn start() -> Option<Self> {
        let kept = private::RedisOptions::new()
            .directive("appendonly yes")
            .directive("appendfsync always");
        Some(Self { redis: PrivateRedis::start(kept)?, dir: tempfile::tempdir().unwrap() })
    }

    /// An engine's configuration in a directory below.
    pub(crate) fn config(&self, name: &str) -> Config {
        config(&self.dir.path().join(name), &self.redis.url(), NAMESPACE)
    }

    /// An engine with a table `feeds` that serves the keys `feed_…`, and the row `feed_1`.
    async fn engine(&self) -> Zmsg {
        self.with(|_| {}).await
    }

    async fn with(&self, change: impl FnOnce(&mut Config)) -> Zmsg {
        let mut config = self.config("engine");
        change(&mut config);
        open(config).await
    }

    /// Redis itself, for whoever can write to it.
    async fn raw(&self) -> Raw {
        let options = RedisOptions::from_url(&self.redis.url()).unwrap();
        let tracker = TaskTracker::new();
        let raw = Raw { redis: Redis::open(options, &tracker).unwrap(), _tracker: tracker };
        eventually("Redis is connected", async || raw.redis.health().is_up()).await;
        raw
    }
}

fn config(dir: &Path, redis: &str, namespace: &str) -> Config {
    let mut config = support::config(dir);
    config.redis.url = Some(redis.to_owned());
    config.redis.namespace = namespace.to_owned();
    config.queue.backend = QueueBackend::Redis;
    config.queue.secret = Some(Secret::new(SECRET));
    config.queue.retry_base = Duration::from_millis(20);
    config.queue.retry_cap = Duration::from_secs(1);
    config
}

async fn open(config: Config) -> Zmsg {
    let zmsg = Zmsg::open(config).await.unwrap();
    let create = "CREATE TABLE IF NOT EXISTS feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)";
    zmsg.sql_exec(sql(create, ())).await.unwrap();
    zmsg.source("feed", "SELECT data FROM feeds WHERE id = ?").unwrap();
    let old = support::insert("feed_1", "old");
    let _ = zmsg.cache_and_store("feed_1", "old", old).await.unwrap();
    zmsg
}

/// One more like, which is not the same done twice.
fn like() -> zmsg::Sql {
    sql("UPDATE feeds SET likes = likes + 1 WHERE id = ?", ("feed_1",))
}

async fn number(zmsg: &Zmsg, query: &str) -> i64 {
    zmsg.sql_exec(sql(query, ())).await.unwrap().rows[0].int(0).unwrap()
}

async fn likes(zmsg: &Zmsg) -> i64 {
    number(zmsg, "SELECT likes FROM feeds WHERE id = 'feed_1'").await
}

async fn remembered(zmsg: &Zmsg) -> i64 {
    number(zmsg, "SELECT count(*) FROM zmsg_inbox").await
}

/// Waits until nothing is in the queue but dead letters.
async fn drained(zmsg: &Zmsg) {
    eventually("the queue is empty", async || {
        let queue = zmsg.stats().await.queue;
        queue.is_some_and(|queue| queue.pending + queue.leased == 0)
    })
    .await;
}

async fn close(zmsg: Zmsg) {
    let report = zmsg.close(support::DEADLINE).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// A connection past every engine.
struct Raw {
    redis: Redis,
    _tracker: TaskTracker,
}

impl Raw {
    fn queue(&self) -> RedisTaskQueue {
        let clock = Arc::new(SystemClock);
        RedisTaskQueue::new(self.redis.clone(), clock, RedisQueueOptions::default())
    }

    async fn ask<T: FromRedisValue>(&self, words: &Cmd) -> T {
        self.redis.query(words).await.unwrap()
    }

    /// The keys of tasks in a queue.
    async fn tasks(&self, queue: &str) -> Vec<String> {
        self.ask(cmd("KEYS").arg(format!("asynq:{{{queue}}}:t:*"))).await
    }
}
