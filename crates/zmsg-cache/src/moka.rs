//! L1 on `moka`: TinyLFU admission and LRU eviction, kept up by the callers, without threads.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use moka::sync::Cache;
use quick_cache::DefaultHashBuilder;
use zmsg_core::{Key, Result};

use crate::local::too_large;
use crate::{Entry, LocalCache};

/// An L1 of a fixed number of bytes on `moka`.
///
/// moka notes what callers do and settles accounts now and then, so it holds more than its limit in
/// between. An eighth of `bytes_max` is kept free for that, and an insert that would use it up
/// settles before it returns.
///
/// - A `get` may allocate: the caller whose read is the 64th since settles accounts.
/// - An insert or a removal may wait, tens of microseconds at a time, while another thread settles.
/// - Time plays no part: deadlines are the entries' own.
///
/// Version 0.12.16 or later: earlier ones could evict an entry that had just been replaced.
pub struct MokaCache<S = DefaultHashBuilder> {
    room: ArcSwap<Room<S>>,
    hasher: S,
    bytes_max: u64,
}

/// One `moka`. Clearing replaces it whole: `invalidate_all` compares moments, and misses what was
/// inserted at the same one.
struct Room<S> {
    cache: Cache<Key, Entry, S>,
    /// What was inserted since accounts were settled, in bytes.
    unsettled: AtomicU64,
}

/// What an entry takes besides [`Entry::OVERHEAD`]: its place in two queues and their notes.
const SURPLUS: u64 = 128;

/// The part of the capacity that is kept free for what is not settled yet.
const SLACK: u64 = 8;

impl MokaCache {
    /// A cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self::with_hasher(bytes_max, DefaultHashBuilder::default())
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> MokaCache<S> {
    fn with_hasher(bytes_max: u64, hasher: S) -> Self {
        let room = ArcSwap::from_pointee(Room::new(bytes_max, hasher.clone()));
        Self { room, hasher, bytes_max }
    }

    /// The heaviest entry that is accepted, in bytes, key and overhead included.
    pub fn entry_max(&self) -> u64 {
        settled_max(self.bytes_max).min(u64::from(u32::MAX))
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> Room<S> {
    fn new(bytes_max: u64, hasher: S) -> Self {
        let cache = Cache::builder()
            .max_capacity(settled_max(bytes_max))
            .weigher(|key, entry| u32::try_from(weight(key, entry)).unwrap_or(u32::MAX))
            .build_with_hasher(hasher);
        Self { cache, unsettled: AtomicU64::new(0) }
    }

    /// Evicts what is too much.
    fn settle(&self) {
        // What comes in from here on counts anew, whether it is settled below or not.
        self.unsettled.store(0, Relaxed);
        self.cache.run_pending_tasks();
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> LocalCache for MokaCache<S> {
    fn get(&self, key: &str) -> Option<Entry> {
        self.room.load().cache.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry) -> Result<()> {
        let (weight, entry_max) = (weight(key, &entry), self.entry_max());
        let room = self.room.load();
        if weight > entry_max {
            room.cache.invalidate(key);
            return Err(too_large(key, weight, entry_max));
        }
        room.cache.insert(key.clone(), entry);
        // Counted once it is in: whoever settles after that sees it.
        let unsettled = room.unsettled.fetch_add(weight, Relaxed) + weight;
        if unsettled > self.bytes_max / SLACK {
            room.settle();
        }
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.room.load().cache.invalidate(key);
    }

    fn clear(&self) {
        self.room.store(Arc::new(Room::new(self.bytes_max, self.hasher.clone())));
    }

    /// Settles accounts first.
    fn len(&self) -> usize {
        let room = self.room.load();
        room.settle();
        usize::try_from(room.cache.entry_count()).unwrap_or(usize::MAX)
    }

    /// Settles accounts first.
    fn weight(&self) -> u64 {
        let room = self.room.load();
        room.settle();
        room.cache.weighted_size()
    }

    fn capacity(&self) -> u64 {
        self.bytes_max
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> fmt::Debug for MokaCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = self.room.load();
        f.debug_struct("MokaCache")
            .field("len", &room.cache.entry_count())
            .field("weight", &room.cache.weighted_size())
            .field("capacity", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

fn weight(key: &Key, entry: &Entry) -> u64 {
    entry.weight(key) + SURPLUS
}

/// What may be left after accounts were settled.
fn settled_max(bytes_max: u64) -> u64 {
    bytes_max - bytes_max / SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted without a call that settles: fewer inserts than moka gathers by itself.
    #[test]
    fn what_is_not_settled_is_bounded_in_bytes() {
        let cache = MokaCache::new(1 << 20);
        for n in 0..200 {
            let key = Key::new(format!("feed_{n}")).unwrap();
            let entry = Entry { value: Some(vec![0; 100_000].into()), deadline: 1, epoch: 0 };
            cache.insert(&key, entry).unwrap();
            let room = cache.room.load();
            let held: u64 = room.cache.iter().map(|(key, entry)| weight(&key, &entry)).sum();
            assert!(held <= cache.capacity(), "{held} after {n}");
        }
    }
}

#[cfg(all(test, feature = "conformance"))]
mod colliding {
    use super::*;
    use crate::conformance::LocalHarness;
    use crate::conformance::local::OneHash;

    #[derive(Debug)]
    struct Colliding;

    impl LocalHarness for Colliding {
        fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache> {
            Arc::new(MokaCache::with_hasher(bytes_max, OneHash))
        }
    }

    crate::colliding_conformance!(Colliding);
}
