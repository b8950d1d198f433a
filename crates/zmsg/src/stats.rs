//! Counters of every part in one answer.

use zmsg_aggregate::AggregateStats;
use zmsg_bloom::FilterStats;
use zmsg_cache::CacheStats;
use zmsg_idgen::IdStats;
use zmsg_queue::QueueStats;
use zmsg_store::StoreStats;

use crate::codec;
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
    /// Receipts of delayed writes that are not answered yet.
    pub receipts_pending: usize,
    /// Id generation.
    pub ids: IdStats,
}

impl Stats {
    pub(crate) async fn of(inner: &Inner) -> Self {
        let writer = &inner.writer;
        Self {
            store: inner.closing.store.stats(),
            cache: writer.cache.stats(),
            filter: inner.filter_upkeep.stats(),
            periodic: writer.aggregator.stats(),
            queue: writer.queue.stats(codec::QUEUE).await.ok(),
            receipts_pending: writer.pending.len(),
            ids: inner.ids.stats(),
        }
    }
}
