//! L1 on `stretto`: sampled LFU eviction behind a TinyLFU admission, with threads of its own.
//!
//! stretto shows an entry at once and decides later, on a thread of its own, whether it stays. It
//! was found to run far over its limit in between, to lose track of what entries cost when that
//! thread falls behind, to wait in a removal, and to know keys by their hash only. What is said
//! of [`LocalCache`] holds all the same, because nothing here rests on it:
//!
//! - What entries weigh is counted here, as they come and as they are dropped, wherever that is.
//! - An entry has its key inside. Another one with the same hash takes its place.
//! - A removal empties the entry where it is. stretto learns of it from the janitor.

mod gauge;
mod janitor;
mod room;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quick_cache::DefaultHashBuilder;
use zmsg_core::{Error, ErrorKind, Key, Result};

use self::janitor::Janitor;
use self::room::{Layout, Room};
use crate::local::too_large;
use crate::{Entry, LocalCache};

/// An L1 of a fixed number of bytes on `stretto`.
///
/// Two thirds of `bytes_max` are stretto's budget; the rest is for what it has not decided on yet.
/// When that is used up, inserts are turned away, and if that lasts for two seconds stretto has
/// lost track: then the cache is cleared. Both are counted, see [`LocalCache::shed`].
///
/// - A `get` allocates once in 64 times, when stretto is told what was read.
/// - No call waits for what stretto's threads have to do, but for dropping the cache. Where they
///   are far behind, an insert may wait some twenty microseconds for a place in their queue.
/// - Each eviction walks all entries: with more than some 50,000 of them another backend is better.
/// - Time plays no part: deadlines are the entries' own.
pub struct StrettoCache<S = DefaultHashBuilder> {
    room: ArcSwap<Room>,
    janitor: Janitor,
    layout: Layout,
    hasher: S,
    shed: AtomicU64,
    /// How long inserts may be turned away before the cache is cleared.
    patience: Duration,
    born: Instant,
    /// Milliseconds from `born` to the insert that was turned away first, plus one; 0 if none was.
    turned_away_at: AtomicU64,
}

const PATIENCE: Duration = Duration::from_secs(2);

impl StrettoCache {
    /// A cache of at most `bytes_max` bytes, laid out for about `items` entries; a guess within a
    /// factor of ten is good enough.
    ///
    /// # Errors
    /// `Unavailable` if its threads cannot be started.
    pub fn new(bytes_max: u64, items: usize) -> Result<Self> {
        let layout = Layout::new(bytes_max, items);
        Self::with(layout, PATIENCE, DefaultHashBuilder::default())
    }
}

impl<S: BuildHasher + Send + Sync + 'static> StrettoCache<S> {
    fn with(layout: Layout, patience: Duration, hasher: S) -> Result<Self> {
        Ok(Self {
            room: ArcSwap::from_pointee(Room::new(&layout)?),
            janitor: Janitor::start()?,
            layout,
            hasher,
            shed: AtomicU64::new(0),
            patience,
            born: Instant::now(),
            turned_away_at: AtomicU64::new(0),
        })
    }

    /// The heaviest entry that is accepted, in bytes, key and overhead included.
    pub fn entry_max(&self) -> u64 {
        self.layout.budget()
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn forget(&self, key: &str) {
        let (room, hash) = (self.room.load(), self.hash(key));
        if room.bury(hash, key) {
            self.janitor.reap(&room, hash);
        }
    }

    /// There was no room: stretto is behind, or it has lost track.
    fn turn_away(&self) {
        self.shed.fetch_add(1, Relaxed);
        // How far behind it is has nothing to do with the clock that entries live by.
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let Err(since) = self.turned_away_at.compare_exchange(0, now, Relaxed, Relaxed) else {
            return;
        };
        let waited = Duration::from_millis(now.saturating_sub(since));
        let over = waited >= self.patience;
        if over && self.turned_away_at.compare_exchange(since, 0, Relaxed, Relaxed).is_ok() {
            let entries = self.len();
            tracing::warn!(entries, "the local cache lost track of its size and was cleared");
            self.shed.fetch_add(entries as u64, Relaxed);
            self.clear();
        }
    }

    fn caught_up(&self, room: &Room) {
        if self.turned_away_at.load(Relaxed) != 0 && room.weight() <= self.layout.caught_up() {
            self.turned_away_at.store(0, Relaxed);
        }
    }
}

impl<S: BuildHasher + Send + Sync + 'static> LocalCache for StrettoCache<S> {
    fn get(&self, key: &str) -> Option<Entry> {
        self.room.load().get(self.hash(key), key)
    }

    fn insert(&self, key: &Key, entry: Entry) -> Result<()> {
        let (weight, entry_max) = (Room::weigh(key, &entry), self.entry_max());
        if weight > entry_max {
            self.forget(key.as_str());
            return Err(too_large(key, weight, entry_max));
        }
        let (room, hash) = (self.room.load(), self.hash(key.as_str()));
        if room.insert(hash, key, entry, weight) {
            self.caught_up(&room);
        } else {
            self.forget(key.as_str());
            self.turn_away();
        }
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.forget(key);
    }

    /// Starts anew with new threads, and leaves the old ones to the janitor. If they cannot be
    /// started the entries are removed in place, which waits for the old ones.
    fn clear(&self) {
        match Room::new(&self.layout) {
            Ok(fresh) => self.janitor.retire(self.room.swap(Arc::new(fresh))),
            Err(error) => {
                tracing::warn!(%error, "the local cache is cleared in place");
                self.room.load().clear();
            }
        }
    }

    fn len(&self) -> usize {
        self.room.load().len()
    }

    fn weight(&self) -> u64 {
        self.room.load().weight()
    }

    fn capacity(&self) -> u64 {
        self.layout.bytes_max()
    }

    fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }
}

impl<S> fmt::Debug for StrettoCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = self.room.load();
        f.debug_struct("StrettoCache")
            .field("len", &room.len())
            .field("weight", &room.weight())
            .field("capacity", &self.layout.bytes_max())
            .field("shed", &self.shed)
            .finish_non_exhaustive()
    }
}

fn not_started(cause: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "the local cache could not start its threads")
        .with_context("cause", cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: impl fmt::Display) -> Key {
        Key::new(format!("feed_{name}")).unwrap()
    }

    fn entry(size: usize) -> Entry {
        Entry { value: Some(vec![7; size].into()), deadline: 1, epoch: 0 }
    }

    /// A stretto that decides on nothing, as if its thread were stuck.
    fn stuck(bytes_max: u64, patience: Duration) -> StrettoCache {
        let layout = Layout::new(bytes_max, 100).undecided_below(1 << 12);
        StrettoCache::with(layout, patience, DefaultHashBuilder::default()).unwrap()
    }

    #[test]
    fn a_stretto_that_is_behind_takes_no_more_than_the_capacity() {
        let cache = stuck(64 << 10, Duration::from_secs(3600));
        (0..1_000).for_each(|n| cache.insert(&key(n), entry(1_000)).unwrap());
        assert!(cache.weight() <= cache.capacity());
        assert!(cache.weight() > cache.capacity() * 9 / 10, "{}", cache.weight());
        assert_eq!(cache.len() as u64 + cache.shed(), 1_000);
        assert!(cache.get("feed_0").is_some(), "what is there stays");
    }

    #[test]
    fn an_entry_that_is_turned_away_takes_the_one_before_it_along() {
        let cache = stuck(64 << 10, Duration::from_secs(3600));
        (0..1_000).for_each(|n| cache.insert(&key(n), entry(1_000)).unwrap());
        cache.insert(&key(0), entry(40_000)).unwrap();
        assert_eq!(cache.get("feed_0"), None);
    }

    #[test]
    fn a_stretto_that_lost_track_is_cleared_and_counted() {
        let cache = stuck(64 << 10, Duration::ZERO);
        // Six fit, the seventh finds no room, and neither does the eighth.
        (0..8).for_each(|n| cache.insert(&key(n), entry(10_000)).unwrap());
        assert_eq!((cache.len(), cache.weight(), cache.shed()), (0, 0, 8));
        cache.insert(&key("after"), entry(10)).unwrap();
        assert!(cache.get("feed_after").is_some());
    }

    /// Its own removal waits for a place in a queue, here for ever.
    #[test]
    fn no_call_waits_for_strettos_thread() {
        let layout = Layout::new(64 << 20, 10_000).undecided_below(2);
        let cache = StrettoCache::with(layout, PATIENCE, DefaultHashBuilder::default()).unwrap();
        let blocked = cache.hash("feed_blocked");
        let apart = |n: &usize| !Room::one_shard(cache.hash(key(n).as_str()), blocked);
        let keys: Vec<_> = (0..6_000).filter(apart).map(key).collect();
        cache.insert(&key("blocked"), entry(1)).unwrap();
        let room = cache.room.load_full();
        let shard = room.lock_shard_of(blocked).unwrap();
        let (done, outcome) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            // The next entry makes two, and stretto looks at the first.
            cache.insert(&keys[0], entry(1)).unwrap();
            scope.spawn(|| {
                keys.iter().for_each(|key| cache.insert(key, entry(1)).unwrap());
                keys.iter().for_each(|key| cache.remove(key.as_str()));
                let left = keys.iter().filter(|key| cache.get(key.as_str()).is_some()).count();
                done.send(left).unwrap();
            });
            let left = outcome.recv_timeout(Duration::from_secs(60));
            drop(shard);
            assert_eq!(left, Ok(0));
        });
    }

    #[test]
    fn a_cache_without_room_turns_everything_away() {
        let cache = StrettoCache::new(0, 0).unwrap();
        assert!(cache.insert(&key(1), entry(1)).is_err());
        assert_eq!((cache.get("feed_1"), cache.weight()), (None, 0));
    }

    #[test]
    fn removed_entries_leave_stretto_too() {
        let cache = StrettoCache::new(1 << 20, 100).unwrap();
        for n in 0..100 {
            cache.insert(&key(n), entry(100)).unwrap();
            cache.remove(key(n).as_str());
        }
        assert_eq!(cache.len(), 0);
        let deadline = Instant::now() + Duration::from_secs(30);
        while cache.room.load().rows() > 0 {
            assert!(Instant::now() < deadline, "{} rows are left", cache.room.load().rows());
            std::thread::yield_now();
        }
        assert_eq!(cache.weight(), 0);
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
            let layout = Layout::new(bytes_max, 1_000);
            Arc::new(StrettoCache::with(layout, PATIENCE, OneHash).expect("its threads"))
        }
    }

    crate::colliding_conformance!(Colliding);
}
