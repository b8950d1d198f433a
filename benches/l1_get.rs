//! A hit in L1: what a read costs that never leaves the process, on each backend and on the crate
//! that is behind it, and on other caches with the same values.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use mini_moka::sync::ConcurrentCacheExt as _;
use tokio_util::task::TaskTracker;
use zmsg_benches::{Case, Figures, Unit, Zipf, nanoseconds};
use zmsg_cache::{
    CachePolicy, LocalCache, MokaCache, NoRemote, QuickCache, StrettoCache, TieredCache,
};
use zmsg_core::{Key, SystemClock};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
const BYTES_MAX: u64 = 1 << 30;
/// As many as there are different lookups before they repeat.
const LOOKUPS: usize = 1 << 16;

struct Caches {
    over_quick: TieredCache,
    over_moka: TieredCache,
    over_stretto: TieredCache,
    quick: quick_cache::sync::Cache<Key, Bytes>,
    moka: moka::sync::Cache<Key, Bytes>,
    mini_moka: mini_moka::sync::Cache<Key, Bytes>,
    stretto: stretto::Cache<Key, Bytes>,
    foyer: foyer_memory::Cache<Key, Bytes>,
}

impl Caches {
    /// Each has room for every key twice over, so that each lookup is a hit.
    fn filled(rows: &[Key]) -> Self {
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let tiers = |local: Arc<dyn LocalCache>| tiered(local, rows, &value);
        let it = Self {
            over_quick: tiers(Arc::new(QuickCache::new(BYTES_MAX, KEYS))),
            over_moka: tiers(Arc::new(MokaCache::new(BYTES_MAX))),
            over_stretto: tiers(Arc::new(StrettoCache::new(BYTES_MAX, KEYS).unwrap())),
            quick: quick_cache::sync::Cache::new(2 * KEYS),
            moka: moka::sync::Cache::new(2 * KEYS as u64),
            mini_moka: mini_moka::sync::Cache::new(2 * KEYS as u64),
            stretto: stretto::Cache::new(20 * KEYS, 2 * KEYS as i64).unwrap(),
            foyer: foyer_memory::CacheBuilder::new(2 * KEYS).build(),
        };
        for row in rows {
            it.quick.insert(row.clone(), value.clone());
            it.moka.insert(row.clone(), value.clone());
            it.mini_moka.insert(row.clone(), value.clone());
            it.stretto.insert(row.clone(), value.clone(), 1);
            it.foyer.insert(row.clone(), value.clone());
        }
        it.moka.run_pending_tasks();
        it.mini_moka.sync();
        it.stretto.wait().unwrap();
        it
    }

    fn measure(&self, figures: &mut Figures, case: &str, keys: &[Key]) {
        let over = |cache: &TieredCache| lookups(keys, |key| cache.peek(key.as_str()).flatten());
        figures.turns(
            &Case::new(case),
            Unit::Nanoseconds,
            &mut [
                ("zmsg", &mut || over(&self.over_quick)),
                ("quick_cache", &mut || lookups(keys, |key| self.quick.get(key.as_str()))),
                ("zmsg over moka", &mut || over(&self.over_moka)),
                ("moka", &mut || lookups(keys, |key| self.moka.get(key.as_str()))),
                ("zmsg over stretto", &mut || over(&self.over_stretto)),
                ("stretto", &mut || {
                    lookups(keys, |key| Some(self.stretto.get(key.as_str())?.value().clone()))
                }),
                ("mini-moka", &mut || lookups(keys, |key| self.mini_moka.get(key))),
                // Its `get` clones no value, and none is cloned here: it gives an entry by which
                // the value is read, three more references to what is counted (the record, the
                // cache, the pipe to a disk that is not there). All others give a clone of the
                // `Bytes`: one more reference.
                ("foyer", &mut || lookups(keys, |key| self.foyer.get(key.as_str()))),
            ],
        );
    }
}

/// Nanoseconds of one lookup, of keys that take turns; each has to be a hit.
fn lookups<T>(keys: &[Key], get: impl Fn(&Key) -> Option<T> + Sync) -> f64 {
    assert!(keys.iter().all(|key| get(key).is_some()), "a key was lost");
    let get = &get;
    nanoseconds(1, |_| {
        let mut next = 0;
        move || {
            next = if next + 1 == keys.len() { 0 } else { next + 1 };
            get(black_box(&keys[next]))
        }
    })
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
    runtime.unwrap().block_on(async {
        for row in rows {
            cache.set(row, value.clone(), None).await.unwrap();
        }
    });
    cache
}

fn main() {
    let Some(mut figures) = Figures::of("l1_get") else { return };
    let rows: Vec<Key> = (0..KEYS).map(zmsg_benches::key).collect();
    let caches = Caches::filled(&rows);
    let mut zipf = Zipf::new(KEYS, 0.99);
    let spread: Vec<Key> = (0..LOOKUPS).map(|_| rows[zipf.draw()].clone()).collect();
    for (case, keys) in [("one hot key", &spread[..1]), ("zipf 0.99", &spread[..])] {
        caches.measure(&mut figures, case, keys);
    }
}
