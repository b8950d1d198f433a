//! The task queues that a configuration names, and how tasks stand in them.

use std::path::Path;
use std::sync::Arc;

use zmsg_core::{Clock, Error, Level, Result};
use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, SqlQueueOptions, SqlTaskQueue, TaskQueue};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::SqlStore;

use super::Servers;
use super::word::{Board, Wake, WakeUpLoop};
use crate::codec;
use crate::config::{Config, QueueBackend, Secret};
use crate::seal::{Envelope, Seal};

/// A queue, the name under which the tasks of this engine stand in it, and how they are kept.
#[derive(Debug, Clone)]
pub(crate) struct NamedQueue {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) name: String,
    pub(crate) envelope: Envelope,
    /// Where its workers are shown.
    pub(crate) board: Option<Board>,
}

impl NamedQueue {
    /// One that has its server, and so its names, to itself.
    pub(crate) fn plain(queue: Arc<dyn TaskQueue>, name: &str) -> Self {
        Self { queue, name: name.to_owned(), envelope: Envelope::Plain, board: None }
    }

    /// Whether other engines may have tasks in it too, under other names.
    pub(crate) fn has_others(&self) -> bool {
        matches!(self.envelope, Envelope::Signed(_))
    }
}

/// The queues of an engine.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Takes delayed writes.
    pub(crate) delayed: NamedQueue,
    /// Delayed writes in the database where `delayed` is elsewhere: those of
    /// [`Zmsg::outbox`](crate::Zmsg::outbox), and what an earlier configuration left there.
    pub(crate) in_database: Option<NamedQueue>,
    /// Takes repairs of L2. Not in Redis: it is what may be away.
    pub(crate) repairs: NamedQueue,
    /// The loops that tell and hear of tasks of other nodes.
    pub(crate) wake_ups: Vec<WakeUpLoop>,
    /// Wakes the workers of all nodes, where the database does not.
    pub(crate) wake: Option<Wake>,
}

/// A queue in Redis, with what its nodes hear and show there.
struct InRedis {
    queue: Arc<dyn TaskQueue>,
    wake_ups: Option<WakeUpLoop>,
    board: Option<Board>,
}

impl Queues {
    fn one(queue: Arc<dyn TaskQueue>, wake_ups: Option<WakeUpLoop>) -> Self {
        let delayed = NamedQueue::plain(Arc::clone(&queue), codec::QUEUE);
        let repairs = NamedQueue::plain(queue, codec::REPAIR_QUEUE);
        let wake_ups = Vec::from_iter(wake_ups);
        Self { delayed, in_database: None, repairs, wake_ups, wake: None }
    }

    /// One in Redis, with the database's beside it.
    fn in_redis(
        there: InRedis,
        config: &Config,
        (beside, wake_ups_beside): (Arc<SqlTaskQueue>, Option<WakeUpLoop>),
    ) -> Result<Self> {
        let InRedis { queue, wake_ups, board } = there;
        let delayed = NamedQueue {
            queue,
            name: name_in_redis(&config.redis.namespace),
            envelope: Envelope::Signed(Arc::new(seal(config)?)),
            board,
        };
        let wake_ups = wake_ups.into_iter().chain(wake_ups_beside).collect();
        let in_database = Some(NamedQueue::plain(Arc::clone(&beside) as _, codec::QUEUE));
        let repairs = NamedQueue::plain(beside, codec::REPAIR_QUEUE);
        Ok(Self { delayed, in_database, repairs, wake_ups, wake: None })
    }
}

/// Queues of one Redis are known by their names alone, whoever's they are. A namespace has no colon,
/// so no two engines come to the same.
fn name_in_redis(namespace: &str) -> String {
    format!("{namespace}:{}", codec::QUEUE)
}

fn seal(config: &Config) -> Result<Seal> {
    let queue = &config.queue;
    let key = secret(queue.secret.as_ref(), queue.secret_file.as_deref())?.ok_or_else(|| {
        Error::invalid_config("queue.secret: is missing, and tasks in Redis are signed with it")
    })?;
    let previous = secret(queue.secret_previous.as_ref(), queue.secret_previous_file.as_deref())?;
    Seal::new(&key, previous.as_ref(), queue.inbox_retention)
}

fn secret(given: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>> {
    Ok(super::password(given, file)?.map(Secret::new))
}

/// The queues; `alone` if no other process can have the database open. One that the caller brought
/// takes the place of the one that the configuration names.
pub(crate) async fn queues(
    config: &Config,
    brought: Option<Arc<dyn TaskQueue>>,
    store: &Arc<dyn SqlStore>,
    servers: &Servers,
    clock: &Arc<dyn Clock>,
    alone: bool,
) -> Result<Queues> {
    if let Some(queue) = brought {
        return if queue.level() == Level::Redis {
            // Who hears of its tasks is for the caller to say.
            let there = InRedis { queue, wake_ups: None, board: None };
            Queues::in_redis(there, config, in_sql(config, store, clock, alone).await?)
        } else {
            Ok(Queues::one(queue, None))
        };
    }
    match config.queue.backend {
        QueueBackend::Memory => {
            let tasks_max = config.queue.tasks_max as usize;
            let options = MemoryQueueOptions { tasks_max, ..MemoryQueueOptions::default() };
            Ok(Queues::one(Arc::new(MemoryTaskQueue::new(Arc::clone(clock), options)), None))
        }
        QueueBackend::Sql => {
            let (queue, wake_ups) = in_sql(config, store, clock, alone).await?;
            Ok(Queues::one(queue, wake_ups))
        }
        QueueBackend::Redis => {
            let there = redis_queue(config, servers, clock)?;
            Queues::in_redis(there, config, in_sql(config, store, clock, alone).await?)
        }
        QueueBackend::Outbox => {
            let (queue, _) = in_sql(config, store, clock, alone).await?;
            told_by_redis(queue, servers, clock)
        }
    }
}

async fn in_sql(
    config: &Config,
    store: &Arc<dyn SqlStore>,
    clock: &Arc<dyn Clock>,
    alone: bool,
) -> Result<(Arc<SqlTaskQueue>, Option<WakeUpLoop>)> {
    let options =
        SqlQueueOptions { tasks_max: config.queue.tasks_max, ..SqlQueueOptions::default() };
    let queue = Arc::new(SqlTaskQueue::new(Arc::clone(store), Arc::clone(clock), options)?);
    if alone {
        // Their holders were killed: nobody is to wait for the ends of their leases.
        queue.end_leases().await?;
    }
    // On SQLite there is no channel to tell other processes by.
    let tells = store.dialect() == Dialect::Postgres;
    let wake_ups = tells.then(|| WakeUpLoop::Sql(queue.wake_ups()));
    Ok((queue, wake_ups))
}

#[cfg(feature = "redis")]
fn redis_queue(config: &Config, servers: &Servers, clock: &Arc<dyn Clock>) -> Result<InRedis> {
    use zmsg_queue::{RedisQueueOptions, RedisTaskQueue, ToldQueue};

    let redis = servers.redis("queue.backend")?;
    let options =
        RedisQueueOptions { tasks_max: config.queue.tasks_max, ..RedisQueueOptions::default() };
    let queue = Arc::new(RedisTaskQueue::new(redis.clone(), Arc::clone(clock), options));
    let board = Some(Board::Asynq(Arc::clone(&queue)));
    let told = ToldQueue::new(queue, Arc::clone(clock), redis, CHANNEL);
    let wake_ups = Some(WakeUpLoop::Redis(told.wake_ups()));
    Ok(InRedis { queue: Arc::new(told), wake_ups, board })
}

/// On which the nodes of a namespace tell each other of tasks.
#[cfg(feature = "redis")]
const CHANNEL: &str = "tasks";

/// The queue in the database, whose nodes tell each other through Redis.
#[cfg(feature = "redis")]
fn told_by_redis(
    queue: Arc<SqlTaskQueue>,
    servers: &Servers,
    clock: &Arc<dyn Clock>,
) -> Result<Queues> {
    let redis = servers.redis("queue.backend")?;
    let told = zmsg_queue::ToldQueue::new(queue, Arc::clone(clock), redis, CHANNEL);
    let (wake_ups, told) = (WakeUpLoop::Redis(told.wake_ups()), Arc::new(told));
    let wake = Some(Wake::ByRedis(Arc::clone(&told)));
    Ok(Queues { wake, ..Queues::one(told, Some(wake_ups)) })
}

#[cfg(not(feature = "redis"))]
fn told_by_redis(
    _queue: Arc<SqlTaskQueue>,
    _servers: &Servers,
    _clock: &Arc<dyn Clock>,
) -> Result<Queues> {
    Err(super::without("queue.backend", "redis"))
}

#[cfg(not(feature = "redis"))]
fn redis_queue(_config: &Config, _servers: &Servers, _clock: &Arc<dyn Clock>) -> Result<InRedis> {
    Err(super::without("queue.backend", "redis"))
}
