//! What a batch queue did and where it stands.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A batch queue at one moment. Counts are since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BatchQueueStats {
    /// Items accepted.
    pub enqueued: u64,
    /// Items found at the opening, to be delivered.
    pub recovered: u64,
    /// Items that were refused: the queue was full, closed, or could not write them.
    pub refused: u64,
    /// Items that were slowed down at the soft limit.
    pub slowed: u64,
    /// Items that went to the log alone, because the memory was full.
    pub spilled: u64,
    /// Items delivered.
    pub sent: u64,
    /// Batches that the handler took, wholly or in part.
    pub batches: u64,
    /// Calls of the handler that failed: errors, panics, time-outs.
    pub errors: u64,
    /// Of them, calls that panicked.
    pub panics: u64,
    /// Of them, calls that took too long.
    pub timeouts: u64,
    /// Items that are or were tried again.
    pub retries: u64,
    /// Items that became dead letters.
    pub buried: u64,
    /// Dead letters that were dropped to make room for others.
    pub dead_dropped: u64,
    /// How often the breaker opened.
    pub breaker_opened: u64,
    /// Whether the sink is thought to be down now.
    pub breaker_is_open: bool,

    /// Items that wait or are on their way.
    pub pending: u64,
    /// Of them, those in memory.
    pub memory_items: usize,
    /// What those count for.
    pub memory_bytes: usize,
    /// Of them, those that are on their way.
    pub in_flight: usize,
    /// Of the pending ones, those in the log alone.
    pub on_disk: u64,
    /// Bytes of the log.
    pub wal_bytes: u64,
    /// How many items the next batch will hold.
    pub batch_size: usize,
    /// How long the oldest item that is in memory has been waiting.
    pub oldest_age: Duration,
    /// How long a call of the handler that succeeded took, on average.
    pub send_latency_avg: Duration,
    /// How long the slowest took.
    pub send_latency_max: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) recovered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) slowed: AtomicU64,
    pub(super) spilled: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) buried: AtomicU64,
    pub(super) dead_dropped: AtomicU64,
    pub(super) breaker_opened: AtomicU64,
    latency_sum: AtomicU64,
    latency_max: AtomicU64,
}

impl Counters {
    pub(super) fn answered(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.batches, 1);
        add(&self.latency_sum, nanos);
        self.latency_max.fetch_max(nanos, Relaxed);
    }

    pub(super) fn read(&self) -> BatchQueueStats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let batches = get(&self.batches);
        let average = get(&self.latency_sum).checked_div(batches).unwrap_or(0);
        BatchQueueStats {
            recovered: get(&self.recovered),
            refused: get(&self.refused),
            slowed: get(&self.slowed),
            spilled: get(&self.spilled),
            sent: get(&self.sent),
            batches,
            errors: get(&self.errors),
            panics: get(&self.panics),
            timeouts: get(&self.timeouts),
            retries: get(&self.retries),
            buried: get(&self.buried),
            dead_dropped: get(&self.dead_dropped),
            breaker_opened: get(&self.breaker_opened),
            send_latency_avg: Duration::from_nanos(average),
            send_latency_max: Duration::from_nanos(get(&self.latency_max)),
            ..BatchQueueStats::default()
        }
    }
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}
