//! The default L1, on `quick_cache`: sharded, S3-FIFO eviction, no threads of its own.

use std::fmt;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use zmsg_core::{Key, Result};

use crate::local::too_large;
use crate::{Entry, LocalCache};

/// An L1 of a fixed number of bytes.
///
/// It is split into shards of equal capacity, at most four per core and of 1 MiB or more where
/// there is room, and an entry has to fit into one; see [`entry_max`](Self::entry_max).
pub struct QuickCache {
    cache: Cache<Key, Entry, ByWeight>,
    entry_max: u64,
}

/// The share of a shard that may be hot; `quick_cache` admits no entry above it.
const HOT_SHARE: f64 = 0.97;

const SHARD_BYTES_MIN: u64 = 1 << 20;
const SHARD_ITEMS_MIN: usize = 32;

impl QuickCache {
    /// A cache of at most `bytes_max` bytes, laid out for about `items` entries; a guess within
    /// a factor of ten is good enough.
    pub fn new(bytes_max: u64, items: usize) -> Self {
        let shards = shards(bytes_max, items);
        let mut options = OptionsBuilder::new();
        options
            .shards(shards)
            .hot_allocation(HOT_SHARE)
            .estimated_items_capacity(items.max(shards * SHARD_ITEMS_MIN))
            // Each shard rounds its part up: a multiple keeps the sum at or below the limit.
            .weight_capacity(bytes_max / shards as u64 * shards as u64);
        let options = options.build().expect("both capacities are set");
        let cache = Cache::with_options(
            options,
            ByWeight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        let entry_max = (cache.shard_capacity() as f64 * HOT_SHARE) as u64;
        Self { cache, entry_max }
    }

    /// The heaviest entry that is accepted, in bytes, key and overhead included.
    pub fn entry_max(&self) -> u64 {
        self.entry_max
    }
}

impl LocalCache for QuickCache {
    fn get(&self, key: &str) -> Option<Entry> {
        self.cache.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry) -> Result<()> {
        let weight = entry.weight(key);
        if weight > self.entry_max {
            self.cache.remove(key);
            return Err(too_large(key, weight, self.entry_max));
        }
        self.cache.insert(key.clone(), entry);
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.cache.remove(key);
    }

    fn clear(&self) {
        self.cache.clear();
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn weight(&self) -> u64 {
        self.cache.weight()
    }

    fn capacity(&self) -> u64 {
        self.cache.capacity()
    }
}

impl fmt::Debug for QuickCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickCache")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Key, Entry> for ByWeight {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        entry.weight(key)
    }
}

/// A power of two: few enough that a shard holds a large value, enough that threads rarely meet.
fn shards(bytes_max: u64, items: usize) -> usize {
    let by_cores = std::thread::available_parallelism().map_or(1, usize::from) * 4;
    let by_bytes = usize::try_from(bytes_max / SHARD_BYTES_MIN).unwrap_or(usize::MAX);
    let limit = by_cores.min(by_bytes).min(items / SHARD_ITEMS_MIN).max(1);
    1 << limit.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_few_when_the_cache_is_small() {
        assert_eq!(shards(1000, 1_000_000), 1);
        assert_eq!(shards(1 << 40, 10), 1);
        assert_eq!(shards(u64::MAX, usize::MAX).count_ones(), 1);
    }

    #[test]
    fn the_capacity_is_never_above_what_was_asked_for() {
        for bytes_max in [0, 1, 999, (1 << 20) + 7, (64 << 20) + 1023] {
            assert!(QuickCache::new(bytes_max, 100_000).capacity() <= bytes_max, "{bytes_max}");
        }
    }
}
