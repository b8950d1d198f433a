//! A hit in L1 allocates nothing; a thread allocates its copy of a hot value once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_cache::{CachePolicy, LocalCache, NoRemote, Origin, QuickCache, TieredCache};
use zmsg_core::{Key, Result, SystemClock};

/// Hits after which a thread has its copy of a hot value.
const WARM: u64 = 20;

/// Bytes of a value that no thread copies, so that each hit is one of the backend.
const LARGE: usize = 5_000;

#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Origin for Unasked {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        panic!("{key} is in L1")
    }
}

/// What a thousand hits allocated, by `peek` and by `get_or_load`.
async fn allocations(local: Arc<dyn LocalCache>, value_bytes: usize) -> [u64; 2] {
    let cache = TieredCache::new(
        local,
        Arc::new(NoRemote),
        CachePolicy::default(),
        Arc::new(SystemClock),
        TaskTracker::new(),
    );
    let (key, origin): (_, Arc<dyn Origin>) =
        (Key::new("feed_1").expect("a valid key"), Arc::new(Unasked));
    cache.set(&key, Bytes::from(vec![7; value_bytes]), None).await.expect("a small value");
    // The clock and this thread's stripe of the counters are set up by the first hit; after some more the
    // thread makes its copy of the value.
    for _ in 0..WARM {
        assert!(cache.peek(key.as_str()).is_some());
    }

    let peeked = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(matches!(cache.peek("feed_1"), Some(Some(_))));
        }
    });
    let read = allocation_counter::measure(|| {
        for _ in 0..1000 {
            let get = pin!(cache.get_or_load(&key, &origin));
            let Poll::Ready(found) = get.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("a hit is ready at once");
            };
            assert!(matches!(found, Ok(Some(_))));
        }
    });
    assert_eq!(cache.stats().l1_hits, WARM + 2000);
    [peeked.count_total, read.count_total]
}

#[tokio::test]
async fn a_hit_in_l1_allocates_nothing() {
    for value_bytes in [256, LARGE] {
        let local = Arc::new(QuickCache::new(1 << 20, 1000));
        assert_eq!(allocations(local, value_bytes).await, [0, 0], "{value_bytes} bytes");
    }
}

/// Once in 64 hits stretto is handed what was read, in a list and a queue.
#[cfg(feature = "stretto")]
#[tokio::test]
async fn a_hit_in_stretto_allocates_twice_in_64_at_most() {
    let stretto = zmsg_cache::StrettoCache::new(1 << 20, 1000).unwrap();
    let allocated = allocations(Arc::new(stretto), LARGE).await;
    assert!(allocated.iter().all(|count| *count <= 2 * 1000 / 64), "{allocated:?}");
}

/// Once in 64 hits moka settles accounts.
#[cfg(feature = "moka")]
#[tokio::test]
async fn a_hit_in_moka_allocates_twice_in_64_at_most() {
    let allocated = allocations(Arc::new(zmsg_cache::MokaCache::new(1 << 20)), LARGE).await;
    assert!(allocated.iter().all(|count| *count <= 2 * 1000 / 64), "{allocated:?}");
}

#[tokio::test]
async fn a_thread_copies_a_hot_value_once() {
    let (clock, tracker) = (Arc::new(SystemClock), TaskTracker::new());
    let (local, policy) = (Arc::new(QuickCache::new(1 << 20, 1000)), CachePolicy::default());
    let cache = TieredCache::new(local, Arc::new(NoRemote), policy, clock, tracker);
    let key = Key::new("feed_1").expect("a valid key");
    cache.set(&key, Bytes::from(vec![7; 256]), None).await.expect("a small value");
    assert!(cache.peek(key.as_str()).is_some());
    let copied = allocation_counter::measure(|| {
        for _ in 0..10_000 {
            assert!(cache.peek(key.as_str()).is_some());
        }
    });
    // Its key, its value, and what counts the references to that.
    assert!(copied.count_total <= 3 && copied.bytes_total < 400, "{copied:?}");
}
