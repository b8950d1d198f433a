//! One `stretto` and what is counted of it.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::DefaultHashBuilder;
use stretto::{
    Cache, CacheBuilder, DefaultCacheCallback, DefaultCoster, DefaultUpdateValidator,
    TransparentKeyBuilder,
};
use zmsg_core::{Key, Result};

use super::gauge::{Gauge, Share};
use super::not_started;
use crate::Entry;

/// How a room is made.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    bytes_max: u64,
    counters: usize,
    /// How many entries of one thread stretto may gather before it decides on them.
    batch: usize,
    /// How long they may wait for that.
    decides_every: Duration,
}

impl Layout {
    pub(super) fn new(bytes_max: u64, items: usize) -> Self {
        // Ten counters an entry are what TinyLFU asks for; a few bytes each.
        let counters = items.saturating_mul(10).clamp(1 << 10, 1 << 26);
        Self { bytes_max, counters, batch: 64, decides_every: Duration::from_millis(100) }
    }

    /// stretto decides on nothing before one thread has inserted a whole batch.
    #[cfg(test)]
    pub(super) fn undecided_below(self, batch: usize) -> Self {
        Self { batch, decides_every: Duration::from_secs(3600), ..self }
    }

    /// What all entries may weigh, whether they were decided on or not.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What stretto is told to stay below.
    pub(super) fn budget(&self) -> u64 {
        self.bytes_max / 3 * 2
    }

    /// Half-way from the budget to the limit: below this, being behind is over.
    pub(super) fn caught_up(&self) -> u64 {
        self.bytes_max / 6 * 5
    }
}

pub(super) struct Room {
    cache: Rows,
    gauge: Arc<Gauge>,
    bytes_max: u64,
}

/// By the hash of the key. With no second hash to tell keys apart, a row of one key is replaced by
/// that of another with the same hash, and does not keep it out.
type Rows = Cache<
    u64,
    Slot,
    TransparentKeyBuilder<u64>,
    DefaultCoster<Slot>,
    DefaultUpdateValidator<Slot>,
    DefaultCacheCallback<Slot>,
    DefaultHashBuilder,
>;

/// What a row holds; nothing once it was removed.
struct Slot(Option<Held>);

struct Held {
    key: Key,
    entry: Entry,
    // For its drop alone.
    _share: Share,
}

/// What a row takes besides [`Entry::OVERHEAD`]: its places in the map and in the table of costs,
/// with the slack of both.
const SURPLUS: u64 = 128;

impl Room {
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        // A cost of zero would ask the coster, and a budget of zero is refused.
        let budget = i64::try_from(layout.budget()).unwrap_or(i64::MAX).max(1);
        let keys = TransparentKeyBuilder::default();
        let cache = CacheBuilder::new_with_key_builder(layout.counters, budget, keys)
            .set_hasher(DefaultHashBuilder::default())
            .set_insert_stripe_high_water(layout.batch)
            .set_drain_interval(layout.decides_every)
            .finalize()
            .map_err(not_started)?;
        Ok(Self { cache, gauge: Arc::default(), bytes_max: layout.bytes_max })
    }

    pub(super) fn weigh(key: &Key, entry: &Entry) -> u64 {
        entry.weight(key) + SURPLUS
    }

    /// The entry, cloned: the lock of the row is released on return.
    pub(super) fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        let row = self.cache.get(&hash)?;
        let held = row.value().0.as_ref()?;
        (held.key.as_str() == key).then(|| held.entry.clone())
    }

    /// Puts an entry into a row. False if it is not there now, perhaps with an earlier one in its
    /// place.
    pub(super) fn insert(&self, hash: u64, key: &Key, entry: Entry, weight: u64) -> bool {
        let Some(share) = self.gauge.admit(weight, self.bytes_max) else { return false };
        let slot = Slot(Some(Held { key: key.clone(), entry, _share: share }));
        let cost = i64::try_from(weight).unwrap_or(i64::MAX);
        // What it answers is not relied on: "true" may be undone at any time.
        self.cache.try_insert(hash, slot, cost).unwrap_or(false)
    }

    /// Empties the row of a key, in place. True if there was something in it.
    pub(super) fn bury(&self, hash: u64, key: &str) -> bool {
        let Some(mut row) = self.cache.get_mut(&hash) else { return false };
        let slot = row.value_mut();
        let ours = slot.0.as_ref().is_some_and(|held| held.key.as_str() == key);
        let buried = if ours { slot.0.take() } else { None };
        // The value is freed after the lock is.
        drop(row);
        buried.is_some()
    }

    /// Takes an empty row out of stretto; may wait for its thread. An entry that comes into the
    /// row at this very moment is lost, which a cache may do.
    pub(super) fn reap(&self, hash: u64) {
        let empty = self.cache.get(&hash).is_some_and(|row| row.value().0.is_none());
        if empty && let Err(error) = self.cache.try_remove(&hash) {
            tracing::debug!(%error, "a removed row stays until it is evicted");
        }
    }

    /// Removes all rows; waits for stretto's thread.
    pub(super) fn clear(&self) {
        if let Err(error) = self.cache.clear() {
            tracing::error!(%error, "the local cache could not be cleared");
        }
    }

    pub(super) fn len(&self) -> usize {
        self.gauge.entries()
    }

    pub(super) fn weight(&self) -> u64 {
        self.gauge.bytes()
    }

    /// Keeps everybody from the rows of one shard, stretto's thread as well.
    #[cfg(test)]
    pub(super) fn lock_shard_of(&self, hash: u64) -> Option<impl Sized> {
        self.cache.get_mut(&hash)
    }

    /// Whether two rows have one lock.
    #[cfg(test)]
    pub(super) fn one_shard(one: u64, other: u64) -> bool {
        one % 256 == other % 256
    }

    /// Rows in stretto, empty ones included.
    #[cfg(test)]
    pub(super) fn rows(&self) -> usize {
        self.cache.len()
    }
}
