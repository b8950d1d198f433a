//! A hit in L1: what a read costs that never leaves the process, on each backend and on the crate
//! that is behind it.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio_util::task::TaskTracker;
use zmsg_benches::Zipf;
use zmsg_cache::{
    CachePolicy, LocalCache, MokaCache, NoRemote, QuickCache, StrettoCache, TieredCache,
};
use zmsg_core::{Key, SystemClock};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
const BYTES_MAX: u64 = 1 << 30;
const LOOKUPS: usize = 1 << 16;

fn l1_get(c: &mut Criterion) {
    let rows: Vec<Key> = (0..KEYS).map(zmsg_benches::key).collect();
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let tiers = |local: Arc<dyn LocalCache>| tiered(local, &rows, &value);
    let over_quick = tiers(Arc::new(QuickCache::new(BYTES_MAX, KEYS)));
    let over_moka = tiers(Arc::new(MokaCache::new(BYTES_MAX)));
    let stretto = StrettoCache::new(BYTES_MAX, KEYS).expect("its threads");
    let over_stretto = tiers(Arc::new(stretto));
    // Room for every key, so that each lookup is a hit.
    let quick = quick_cache::sync::Cache::<Key, Bytes>::new(2 * KEYS);
    let moka = moka::sync::Cache::<Key, Bytes>::new(2 * KEYS as u64);
    let stretto = stretto::Cache::<Key, Bytes>::new(20 * KEYS, 2 * KEYS as i64).expect("a size");
    for row in &rows {
        quick.insert(row.clone(), value.clone());
        moka.insert(row.clone(), value.clone());
        stretto.insert(row.clone(), value.clone(), 1);
    }
    moka.run_pending_tasks();
    stretto.wait().expect("it runs");

    let mut zipf = Zipf::new(KEYS, 0.99);
    let spread: Vec<Key> = (0..LOOKUPS).map(|_| rows[zipf.draw()].clone()).collect();
    for (case, keys) in [("one hot key", &spread[..1]), ("zipf 0.99", &spread[..])] {
        let mut group = c.benchmark_group(format!("l1_get/{case}"));
        lookups(&mut group, "zmsg", keys, |key| over_quick.peek(key).flatten());
        lookups(&mut group, "quick_cache", keys, |key| quick.get(key));
        lookups(&mut group, "zmsg over moka", keys, |key| over_moka.peek(key).flatten());
        lookups(&mut group, "moka", keys, |key| moka.get(key));
        lookups(&mut group, "zmsg over stretto", keys, |key| over_stretto.peek(key).flatten());
        lookups(&mut group, "stretto", keys, |key| stretto.get(key).map(|row| row.value().clone()));
        group.finish();
    }
}

/// One lookup after the other, over keys that take turns; each has to be a hit.
fn lookups(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[Key],
    get: impl Fn(&str) -> Option<Bytes>,
) {
    assert!(keys.iter().all(|key| get(key.as_str()).is_some()), "{name} lost a key");
    let mut next = 0;
    group.bench_function(name, |b| {
        b.iter(|| {
            next = if next + 1 == keys.len() { 0 } else { next + 1 };
            get(black_box(keys[next].as_str()))
        });
    });
}

/// As an engine has it, without an L2.
fn tiered(local: Arc<dyn LocalCache>, rows: &[Key], value: &Bytes) -> TieredCache {
    let cache = TieredCache::new(
        local,
        Arc::new(NoRemote),
        CachePolicy::default(),
        Arc::new(SystemClock),
        TaskTracker::new(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        for row in rows {
            cache.set(row, value.clone(), None).await.expect("a small value");
        }
    });
    cache
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = l1_get }
criterion_main!(benches);
