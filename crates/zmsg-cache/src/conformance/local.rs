//! What every L1 has to do.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, ErrorKind, Key, ManualClock};

use crate::{CachePolicy, Entry, LocalCache, NoRemote, TieredCache};

/// Makes the cache under test.
pub trait LocalHarness: fmt::Debug {
    /// A new, empty cache that holds `bytes_max` bytes.
    fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache>;
}

/// Makes a test of every promise of [`LocalCache`](crate::LocalCache) for one backend.
#[macro_export]
macro_rules! local_conformance {
    ($harness:expr) => {
        $crate::local_conformance!($harness, [
            an_entry_comes_back_whole,
            no_get_returns_another_keys_entry,
            a_removed_entry_stays_removed,
            a_cleared_cache_is_empty_and_usable,
            the_entry_inserted_last_is_the_one_that_comes_back,
            nothing_older_than_the_last_change_is_ever_read,
            a_removal_ends_what_several_threads_insert,
            entries_end_by_the_clock_of_the_tiers,
            weight_is_bounded_after_every_insert,
            weight_is_bounded_under_concurrent_inserts,
            empty_values_weigh_their_key_and_overhead,
            a_value_that_can_never_fit_is_refused_and_the_old_one_is_gone,
            what_a_get_hands_out_cannot_change_what_is_cached,
        ]);
    };
    ($harness:expr, [$($promise:ident),* $(,)?]) => {$(
        #[test]
        fn $promise() {
            $crate::conformance::local::$promise(&$harness);
        }
    )*};
}

/// Makes tests of what has to hold when all keys have the same hash, for a backend that can be
/// given a hasher: the harness makes its caches with [`OneHash`].
#[macro_export]
macro_rules! colliding_conformance {
    ($harness:expr) => {
        $crate::local_conformance!(
            $harness,
            [
                no_get_returns_another_keys_entry,
                a_removed_entry_stays_removed,
                nothing_older_than_the_last_change_is_ever_read,
                a_removal_ends_what_several_threads_insert,
            ]
        );
    };
}

/// A hasher for which all keys are alike.
#[derive(Clone, Debug, Default)]
pub struct OneHash;

impl BuildHasher for OneHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

impl Hasher for OneHash {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        0x5eed_5eed_5eed_5eed
    }
}

const ROOMY: u64 = 64 << 20;

fn key(name: impl fmt::Display) -> Key {
    Key::new(format!("feed_{name}")).expect("a valid key")
}

fn entry(value: impl Into<Bytes>) -> Entry {
    Entry { value: Some(value.into()), deadline: 7, epoch: 3 }
}

fn insert(cache: &dyn LocalCache, key: &Key, entry: Entry) {
    cache.insert(key, entry).expect("the entry fits");
}

/// Value, deadline and epoch come back as they went in, and so does "absent".
pub fn an_entry_comes_back_whole(harness: &impl LocalHarness) {
    let cache = harness.cache(ROOMY);
    let absent = Entry { value: None, deadline: u64::MAX, epoch: u32::MAX };
    insert(&*cache, &key(1), entry("one"));
    insert(&*cache, &key(2), absent.clone());
    assert_eq!(cache.get("feed_1"), Some(entry("one")));
    assert_eq!(cache.get("feed_2"), Some(absent));
    assert_eq!(cache.get("feed_3"), None);
    assert_eq!(cache.len(), 2);
}

/// Whatever the hashes are, and while threads insert and evict, a key gives its own value.
pub fn no_get_returns_another_keys_entry(harness: &impl LocalHarness) {
    let cache = harness.cache(256 << 10);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..20_000_u32 {
                    let name = round.wrapping_mul(2_654_435_761).wrapping_add(thread) % 5_000;
                    let key = key(name);
                    match cache.get(key.as_str()) {
                        Some(found) => assert_eq!(found, entry(name.to_string()), "{key:?}"),
                        None => insert(&**cache, &key, entry(name.to_string())),
                    }
                }
            });
        }
    });
}

/// It does not come back, neither by what is inserted later nor by what is read.
pub fn a_removed_entry_stays_removed(harness: &impl LocalHarness) {
    let cache = harness.cache(1 << 20);
    for round in 0..200 {
        let gone = key(format!("gone_{round}"));
        insert(&*cache, &gone, entry(vec![1; 500]));
        let _ = cache.get(gone.as_str());
        cache.remove(gone.as_str());
        assert_eq!(cache.get(gone.as_str()), None);
        for other in 0..50 {
            insert(&*cache, &key(format!("{round}_{other}")), entry(vec![2; 500]));
        }
        assert_eq!(cache.get(gone.as_str()), None);
    }
    cache.remove("feed_never_there");
}

/// An insert, a removal and a clearing end all that came before, for every thread, at once; while
/// other keys push the entry out and are pushed out.
pub fn nothing_older_than_the_last_change_is_ever_read(harness: &impl LocalHarness) {
    const CHANGES: u32 = 20_000;
    let cache = harness.cache(128 << 10);
    let (floor, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let version = |epoch| Entry { epoch, ..entry(vec![1; 300]) };
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (cache, floor, done) = (&cache, &floor, &done);
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    let oldest = floor.load(SeqCst);
                    let read = cache.get("feed_contested").map_or(u32::MAX, |found| found.epoch);
                    assert!(read >= oldest, "{read} was read after {oldest}");
                    if reader == 0 {
                        let other = key(format!("other_{}", oldest % 500));
                        insert(&**cache, &other, entry(vec![2; 300]));
                    }
                }
            });
        }
        let contested = key("contested");
        for change in 0..CHANGES {
            insert(&*cache, &contested, version(change));
            floor.store(change, SeqCst);
            if change % 3 == 0 {
                cache.remove(contested.as_str());
                floor.store(change + 1, SeqCst);
            }
            if change % 200 == 100 {
                cache.clear();
                floor.store(change + 1, SeqCst);
            }
        }
        done.store(true, SeqCst);
    });
}

/// Whoever wins while they race: a removal after all of them leaves nothing, now and later.
pub fn a_removal_ends_what_several_threads_insert(harness: &impl LocalHarness) {
    let cache = harness.cache(128 << 10);
    for round in 0..50 {
        let contested = key(format!("contested_{round}"));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (cache, contested) = (&cache, &contested);
                scope.spawn(move || {
                    for n in 0..100 {
                        match (n + thread) % 3 {
                            0 => cache.remove(contested.as_str()),
                            _ => insert(&**cache, contested, entry(vec![1; n])),
                        }
                    }
                });
            }
        });
        cache.remove(contested.as_str());
        assert_eq!(cache.get(contested.as_str()), None);
        for other in 0..100 {
            insert(&*cache, &key(other), entry(vec![2; 1_000]));
            assert_eq!(cache.get(contested.as_str()), None);
        }
    }
}

/// Not by a clock of the backend, which would neither stand still nor jump with it.
pub fn entries_end_by_the_clock_of_the_tiers(harness: &impl LocalHarness) {
    let clock = Arc::new(ManualClock::new(0));
    let policy = CachePolicy { jitter: 0.0, ..CachePolicy::default() };
    let (time, tracker): (Arc<dyn Clock>, _) = (clock.clone(), TaskTracker::new());
    let tiers = TieredCache::new(harness.cache(ROOMY), Arc::new(NoRemote), policy, time, tracker);
    let [short, long] = [("short", 1), ("long", 1 << 40)].map(|(name, millis)| {
        let (key, ttl) = (key(name), Duration::from_millis(millis));
        let set = tiers.set(&key, Bytes::from_static(b"x"), Some(ttl)).now_or_never();
        set.expect("without L2 it never waits").expect("the entry fits");
        key
    });
    let cached = |key: &Key| tiers.peek(key.as_str()).is_some();
    assert!(cached(&short) && cached(&long));
    clock.advance(1);
    assert!(!cached(&short) && cached(&long));
    clock.advance((1 << 40) - 2);
    assert!(cached(&long));
    clock.advance(1);
    assert!(!cached(&long));
}

/// After `clear` nothing is left, nothing weighs, and the cache goes on.
pub fn a_cleared_cache_is_empty_and_usable(harness: &impl LocalHarness) {
    let cache = harness.cache(ROOMY);
    (0..100).for_each(|n| insert(&*cache, &key(n), entry("x")));
    cache.clear();
    assert!(cache.is_empty());
    assert_eq!(cache.weight(), 0);
    assert!((0..100).all(|n| cache.get(key(n).as_str()).is_none()));
    insert(&*cache, &key(1), entry("again"));
    assert_eq!(cache.get("feed_1"), Some(entry("again")));
}

/// An insert replaces, and the weight follows the new value.
pub fn the_entry_inserted_last_is_the_one_that_comes_back(harness: &impl LocalHarness) {
    let cache = harness.cache(ROOMY);
    let key = key(1);
    for size in [10, 10_000, 0, 500] {
        insert(&*cache, &key, entry(vec![9; size]));
        assert_eq!(cache.get(key.as_str()), Some(entry(vec![9; size])));
        assert_eq!(cache.len(), 1);
        assert!(cache.weight() >= size as u64, "{} of {size}", cache.weight());
        assert!(cache.weight() < size as u64 + 1_000, "{} of {size}", cache.weight());
    }
}

/// Not only in the end: a cache that decides later holds what it has not decided on.
pub fn weight_is_bounded_after_every_insert(harness: &impl LocalHarness) {
    let cache = harness.cache(256 << 10);
    for n in 0..5_000_usize {
        insert(&*cache, &key(n % 3_000), entry(vec![0; n * 131 % 4_000]));
        assert!(cache.weight() <= cache.capacity(), "{} of {}", cache.weight(), cache.capacity());
    }
}

/// The sum of what is kept never exceeds the capacity, and the capacity not what was asked for.
pub fn weight_is_bounded_under_concurrent_inserts(harness: &impl LocalHarness) {
    let bytes_max = 2 << 20;
    let cache = harness.cache(bytes_max);
    assert!(cache.capacity() <= bytes_max && cache.capacity() > bytes_max / 2);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..5_000 {
                    let size = (n * 37 + thread * 101) % 3_000;
                    insert(&**cache, &key(format!("{thread}_{}", n % 2_500)), entry(vec![0; size]));
                }
            });
        }
    });
    assert!(cache.weight() <= cache.capacity(), "{} > {}", cache.weight(), cache.capacity());
    assert!(cache.weight() > cache.capacity() / 2, "it keeps little: {}", cache.weight());
}

/// Values without bytes are bounded too.
pub fn empty_values_weigh_their_key_and_overhead(harness: &impl LocalHarness) {
    let cache = harness.cache(64 << 10);
    for n in 0..10_000 {
        let empty = if n % 2 == 0 { Some(Bytes::new()) } else { None };
        insert(&*cache, &key(n), Entry { value: empty, deadline: 1, epoch: 1 });
    }
    assert!(cache.len() as u64 <= (64 << 10) / Entry::OVERHEAD, "{} entries", cache.len());
    assert!(cache.weight() <= cache.capacity());
}

/// An error says so, the earlier value is not served in its stead, and others stay.
pub fn a_value_that_can_never_fit_is_refused_and_the_old_one_is_gone(harness: &impl LocalHarness) {
    let cache = harness.cache(1 << 20);
    insert(&*cache, &key(1), entry("small"));
    insert(&*cache, &key(2), entry("bystander"));
    let error = cache.insert(&key(1), entry(vec![0; 2 << 20])).expect_err("it cannot fit");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(cache.get("feed_1"), None);
    assert_eq!(cache.get("feed_2"), Some(entry("bystander")));
    assert!(cache.insert(&key(1), entry(vec![0; 16 << 20])).is_err());
    // A backend that tidies up behind what is gone may take a newcomer along, once.
    let again = || {
        insert(&*cache, &key(1), entry("small again"));
        cache.get("feed_1")
    };
    let found = again().or_else(again);
    assert_eq!(found, Some(entry("small again")));
}

/// Writing into the bytes, where they allow it at all, writes into a copy.
pub fn what_a_get_hands_out_cannot_change_what_is_cached(harness: &impl LocalHarness) {
    let cache = harness.cache(ROOMY);
    insert(&*cache, &key(1), entry(b"as it was".to_vec()));
    let handed_out = cache.get("feed_1").and_then(|entry| entry.value).expect("a hit");
    let mut changed = BytesMut::from(handed_out);
    changed[0] = b'X';
    assert_eq!(cache.get("feed_1"), Some(entry("as it was")));
}
