//! A hit in L1 allocates nothing.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_cache::{CachePolicy, NoRemote, Origin, QuickCache, TieredCache};
use zmsg_core::{Key, Result, SystemClock};

#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Origin for Unasked {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        panic!("{key} is in L1")
    }
}

#[tokio::test]
async fn a_hit_in_l1_allocates_nothing() {
    let cache = TieredCache::new(
        Arc::new(QuickCache::new(1 << 20, 1000)),
        Arc::new(NoRemote),
        CachePolicy::default(),
        Arc::new(SystemClock),
        TaskTracker::new(),
    );
    let (key, origin): (_, Arc<dyn Origin>) = (Key::new("feed_1").unwrap(), Arc::new(Unasked));
    cache.set(&key, Bytes::from(vec![7; 256]), None).await.unwrap();
    // The clock and this thread's stripe of the counters are set up by the first hit.
    assert!(cache.peek(key.as_str()).is_some());

    let peeked = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(matches!(cache.peek("feed_1"), Some(Some(_))));
        }
    });
    assert_eq!((peeked.count_total, peeked.bytes_total), (0, 0), "peek");

    let read = allocation_counter::measure(|| {
        for _ in 0..1000 {
            let get = pin!(cache.get_or_load(&key, &origin));
            let Poll::Ready(found) = get.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("a hit is ready at once");
            };
            assert!(matches!(found, Ok(Some(_))));
        }
    });
    assert_eq!((read.count_total, read.bytes_total), (0, 0), "get_or_load");
    assert_eq!(cache.stats().l1_hits, 2001);
}
