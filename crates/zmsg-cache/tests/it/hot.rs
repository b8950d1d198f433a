//! Hot keys: threads that keep copies of their values never serve what is no longer so.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use zmsg_cache::{CachePolicy, Entry, LocalCache, QuickCache, TieredCache};
use zmsg_core::{Key, Result};

use crate::support::{Cluster, bytes, key, policy, some};

/// An L1 that counts how often it is asked.
#[derive(Debug)]
struct Counting {
    inner: QuickCache,
    asked: AtomicU64,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: QuickCache::new(8 << 20, 1_000), asked: AtomicU64::new(0) })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

impl LocalCache for Counting {
    fn get(&self, key: &str) -> Option<Entry> {
        self.asked.fetch_add(1, Relaxed);
        self.inner.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry) -> Result<()> {
        self.inner.insert(key, entry)
    }

    fn remove(&self, key: &str) {
        self.inner.remove(key);
    }

    fn clear(&self) {
        self.inner.clear();
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn weight(&self) -> u64 {
        self.inner.weight()
    }

    fn capacity(&self) -> u64 {
        self.inner.capacity()
    }
}

/// One node of its own whose L1 counts, and that L1.
fn counted(cluster: &Cluster) -> (TieredCache, Arc<Counting>) {
    let local = Counting::new();
    let (remote, clock) = (cluster.remote.clone(), cluster.clock.clone());
    let policy = CachePolicy { ttl: Duration::from_secs(1), ..policy() };
    let tracker = cluster.tracker.clone();
    (TieredCache::new(local.clone(), remote, policy, clock, tracker), local)
}

/// Reads a key until this thread has a copy.
fn warm(cache: &TieredCache, key: &Key) {
    for _ in 0..100 {
        assert!(cache.peek(key.as_str()).is_some());
    }
}

#[tokio::test]
async fn a_hot_key_is_read_past_l1() {
    let cluster = Cluster::alone();
    let (cache, local) = counted(&cluster);
    cache.set(&key(1), bytes("a"), None).await.unwrap();
    warm(&cache, &key(1));
    let before = (local.asked(), cache.stats().l1_hits);
    for _ in 0..1_000 {
        assert_eq!(cache.peek("feed_1"), Some(some("a")));
    }
    let asked = local.asked() - before.0;
    assert!((1..=10).contains(&asked), "L1 was asked {asked} times");
    assert_eq!(cache.stats().l1_hits, before.1 + 1_000, "each is counted");
}

#[tokio::test]
async fn a_copy_ends_with_its_ttl_with_a_clear_and_with_every_kind_of_change() {
    let cluster = Cluster::sharing();
    let (cache, _) = counted(&cluster);
    let hot = key(1);
    let set = async |text: &str| {
        cache.set(&hot, bytes(text), None).await.unwrap();
        assert_eq!(cache.peek(hot.as_str()), Some(some(text)));
        warm(&cache, &hot);
    };
    set("by ttl").await;
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cache.peek(hot.as_str()), None);

    set("by clear").await;
    cache.clear_local();
    assert_eq!(cache.peek(hot.as_str()), None);

    set("by invalidation").await;
    cache.invalidate(&hot).await.unwrap();
    assert_eq!(cache.peek(hot.as_str()), None);

    set("by set").await;
    cache.set(&hot, bytes("another"), None).await.unwrap();
    assert_ne!(cache.peek(hot.as_str()), Some(some("by set")));

    set("by write").await;
    let hold = cache.begin_write(&hot).await;
    assert_eq!(cache.peek(hot.as_str()), None, "from before the commit");
    cache.publish(hold, some("written"), None).await.unwrap();
    assert_eq!(cache.peek(hot.as_str()), Some(some("written")));
}

/// Readers on threads of their own, of one key that changes all the time.
#[test]
fn a_read_that_begins_after_a_change_returned_never_sees_what_was_before_on_any_thread() {
    const CHANGES: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = Cluster::alone();
    let (cache, local) = counted(&cluster);
    let (floor, over, reads) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let reader = || {
        while !over.load(Acquire) {
            let least = floor.load(Acquire);
            let found = cache.peek("feed_1").flatten();
            reads.fetch_add(1, Relaxed);
            if let Some(value) = found {
                let value = u64::from_le_bytes((*value).try_into().unwrap());
                assert!(value >= least, "{value} was read after {least} was set");
            }
        }
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(reader), scope.spawn(reader), scope.spawn(reader)];
        for change in 1..=CHANGES {
            let value = Bytes::copy_from_slice(&change.to_le_bytes());
            runtime.block_on(cache.set(&key(1), value, None)).unwrap();
            floor.store(change, Release);
            if change % 3 == 0 {
                runtime.block_on(cache.invalidate(&key(1))).unwrap();
                // From now on nothing at all may be seen until the next value is set.
                floor.store(change + 1, Release);
            }
            // So that copies come to be: otherwise a thread reads each value a few times only.
            let enough = reads.load(Relaxed) + 100;
            while change % 10 == 1
                && reads.load(Relaxed) < enough
                && !readers.iter().any(|reader| reader.is_finished())
            {
                thread::yield_now();
            }
        }
        over.store(true, Release);
    });
    let (asked, reads) = (local.asked(), reads.load(Relaxed));
    assert!(asked < reads, "{asked} of {reads} reads reached L1: no copies were made");
}
