//! Counters of every part in one answer.

use zmsg_aggregate::AggregateStats;
use zmsg_bloom::FilterStats;
use zmsg_cache::CacheStats;
use zmsg_idgen::IdStats;
use zmsg_queue::QueueStats;
use zmsg_store::StoreStats;

use crate::zmsg::Inner;

/// What the engine has done since it opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// The database.
    pub store: StoreStats,
    /// Both tiers, single flight and fences.
    pub cache: CacheStats,
    /// The membership filter.
    pub filter: FilterStats,
    /// The buffer of the periodic route.
    pub periodic: AggregateStats,
    /// The task queue, or `None` if it could not be asked.
    pub queue: Option<QueueStats>,
    /// Keys whose invalidation did not reach L2 and was queued for repair.
    pub repairs_queued: u64,
    /// Receipts of delayed writes that are not answered yet.
    pub receipts_pending: usize,
    /// Id generation.
    pub ids: IdStats,
    /// Redis, or `None` if the configuration names none.
    #[cfg(feature = "redis")]
    pub redis: Option<RedisReading>,
}

/// The client of Redis.
#[cfg(feature = "redis")]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisReading {
    /// Whether calls are let through. While they are not, reads go to the store, and the receipts
    /// of writes are [degraded](zmsg_core::Receipt::is_degraded).
    pub up: bool,
    /// Calls, failures, connections.
    pub calls: zmsg_redis::RedisStats,
}

impl Stats {
    pub(crate) async fn of(inner: &Inner) -> Self {
        let writer = &inner.writer;
        Self {
            store: inner.closing.store.stats(),
            cache: writer.cache.stats(),
            filter: inner.filter_upkeep.stats(),
            periodic: writer.aggregator.stats(),
            queue: writer.delayed.queue.stats(&writer.delayed.name).await.ok(),
            repairs_queued: writer.applier.repairs_queued(),
            receipts_pending: writer.pending.len(),
            ids: inner.ids.stats(),
            #[cfg(feature = "redis")]
            redis: inner.closing.servers.redis_stats(),
        }
    }
}
