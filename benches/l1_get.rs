//! A hit in L1: what a read costs that never leaves the process.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio_util::task::TaskTracker;
use zmsg_benches::Zipf;
use zmsg_cache::{CachePolicy, NoRemote, QuickCache, TieredCache};
use zmsg_core::{Key, SystemClock};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
const LOOKUPS: usize = 1 << 16;

fn l1_get(c: &mut Criterion) {
    let rows: Vec<Key> = (0..KEYS).map(zmsg_benches::key).collect();
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let zmsg = tiered(&rows, &value);
    // Room for every key, so that each lookup is a hit.
    let quick = quick_cache::sync::Cache::<Key, Bytes>::new(2 * KEYS);
    let moka = moka::sync::Cache::<Key, Bytes>::new(2 * KEYS as u64);
    for row in &rows {
        quick.insert(row.clone(), value.clone());
        moka.insert(row.clone(), value.clone());
    }
    moka.run_pending_tasks();

    let mut zipf = Zipf::new(KEYS, 0.99);
    let spread: Vec<Key> = (0..LOOKUPS).map(|_| rows[zipf.draw()].clone()).collect();
    for (case, keys) in [("one hot key", &spread[..1]), ("zipf 0.99", &spread[..])] {
        let mut group = c.benchmark_group(format!("l1_get/{case}"));
        lookups(&mut group, "zmsg", keys, |key| zmsg.peek(key).flatten());
        lookups(&mut group, "quick_cache", keys, |key| quick.get(key));
        lookups(&mut group, "moka", keys, |key| moka.get(key));
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

/// As an engine has it, over `quick_cache`, without an L2.
fn tiered(rows: &[Key], value: &Bytes) -> TieredCache {
    let cache = TieredCache::new(
        Arc::new(QuickCache::new(1 << 30, KEYS)),
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
