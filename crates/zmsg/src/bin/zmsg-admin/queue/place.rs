//! Where the queues are: a Redis, a database, or the directory of an embedded engine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio_util::task::TaskTracker;
use zmsg::core::SystemClock;
use zmsg::queue::{SqlQueueOptions, SqlTaskQueue, TaskInspector, TaskQueue};
use zmsg::{Config, QueueBackend};

use crate::database::{self, Database};

/// A backend that is looked at and paused.
pub(crate) trait Inspected: TaskQueue + TaskInspector {}

impl<T: TaskQueue + TaskInspector> Inspected for T {}

/// The place of a command: one of the two.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// redis://HOST, rediss://HOST (or with +sentinel, +cluster), postgres://USER@HOST/DATABASE,
    /// sqlite:PATH, or the directory of an embedded engine. The variables ZMSG__REDIS__… and
    /// ZMSG__STORE__… count (PASSWORD, CA_FILE …).
    #[arg(long, env = "ZMSG_URL", hide_env_values = true)]
    url: Option<String>,
    /// The configuration of an engine, in place of --url: the queues where its `queue.backend` has them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Open queues.
pub(crate) struct Opened {
    pub(crate) queue: Arc<dyn Inspected>,
    behind: Behind,
}

/// What is closed with them.
enum Behind {
    Database(database::Opened),
    #[cfg(feature = "redis")]
    Redis(zmsg::redis::Redis, TaskTracker),
}

impl Place {
    /// Nothing that an engine minds is locked: workers go on.
    pub(crate) async fn open(&self) -> Result<Opened> {
        match (&self.url, &self.config) {
            (Some(url), None) if url.starts_with("redis") => {
                let mut config = Config::from_env()?;
                config.redis.url = Some(url.clone());
                in_redis(&config, "--url")
            }
            (None, Some(file)) if is_in_redis(file)? => in_redis(&Config::load(file)?, "--config"),
            (Some(url), None) if Path::new(url).is_dir() => {
                let file = Path::new(url).join("zmsg.db");
                in_database(Database::at(format!("sqlite:{}", file.display()))).await
            }
            (None, None) => bail!(
                "which queues? give --url redis://HOST, --url postgres://USER@HOST/DATABASE, \
                 --url sqlite:PATH, --url DIRECTORY or --config FILE"
            ),
            (url, config) => in_database(Database::of(url.clone(), config.clone())).await,
        }
    }
}

async fn in_database(database: Database) -> Result<Opened> {
    let opened = database.open().await?;
    // The bounds are those of the engines: what a person brings back or archives is not refused or dropped
    // by numbers that this command does not know.
    let options =
        SqlQueueOptions { tasks_max: u32::MAX, dead_max: u32::MAX, ..SqlQueueOptions::default() };
    let store = Arc::clone(&opened.store);
    let queue = SqlTaskQueue::new(store, Arc::new(SystemClock), options)?;
    Ok(Opened { queue: Arc::new(queue), behind: Behind::Database(opened) })
}

fn is_in_redis(config: &Path) -> Result<bool> {
    Ok(Config::load(config)?.queue.backend == QueueBackend::Redis)
}

#[cfg(feature = "redis")]
fn in_redis(config: &Config, origin: &'static str) -> Result<Opened> {
    use zmsg::queue::{RedisQueueOptions, RedisTaskQueue};

    let connections = TaskTracker::new();
    let redis = zmsg::open_redis(config, &connections).context(origin)?;
    // As for a database.
    let options =
        RedisQueueOptions { tasks_max: u32::MAX, dead_max: u32::MAX, ..Default::default() };
    let queue = RedisTaskQueue::new(redis.clone(), Arc::new(SystemClock), options);
    Ok(Opened { queue: Arc::new(queue), behind: Behind::Redis(redis, connections) })
}

#[cfg(not(feature = "redis"))]
fn in_redis(_config: &Config, origin: &'static str) -> Result<Opened> {
    bail!("{origin}: queues in Redis need a build with the feature `redis`")
}

impl Opened {
    /// Waits until every connection has ended.
    pub(crate) async fn close(self) -> Result<()> {
        self.queue.close().await?;
        match self.behind {
            Behind::Database(opened) => opened.close().await,
            #[cfg(feature = "redis")]
            Behind::Redis(redis, connections) => {
                redis.close();
                connections.close();
                connections.wait().await;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("queue", &self.queue).finish_non_exhaustive()
    }
}
