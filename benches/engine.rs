//! `Zmsg::get` where L1 answers, beside bare caches that hold the same values: one hot key, keys by
//! Zipf, and keys that are all asked for alike, on one thread and on two.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use zmsg::{Config, Zmsg};
use zmsg_benches::{Case, Figures, Unit, Zipf, is_quick};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
/// Room for as many as L1 has by default, 64 MiB; enough for every key, so that each lookup is a hit.
const CAPACITY: usize = 1 << 18;
/// As many as there are different lookups before they repeat.
const LOOKUPS: usize = 1 << 16;

struct Caches {
    zmsg: Zmsg,
    quick: quick_cache::sync::Cache<String, Bytes>,
    moka: moka::sync::Cache<String, Bytes>,
}

impl Caches {
    /// Each has a copy of its own of every value, as caches have that are filled over time.
    fn filled(zmsg: Zmsg) -> Self {
        let quick = quick_cache::sync::Cache::new(CAPACITY);
        let moka = moka::sync::Cache::new(CAPACITY as u64);
        for name in (0..KEYS).map(name) {
            quick.insert(name.clone(), value());
            moka.insert(name, value());
        }
        moka.run_pending_tasks();
        Self { zmsg, quick, moka }
    }

    fn zmsg(&self, key: &str) -> Option<Bytes> {
        let get = pin!(self.zmsg.get(key));
        match get.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => found.unwrap(),
            Poll::Pending => None,
        }
    }
}

fn name(number: usize) -> String {
    zmsg_benches::key(number).as_str().to_owned()
}

fn value() -> Bytes {
    Bytes::from(vec![7; VALUE_BYTES])
}

async fn engine(dir: &std::path::Path) -> Zmsg {
    let mut config = Config::embedded(dir);
    // No entry ends while this measures.
    config.cache.ttl = std::time::Duration::from_secs(86_400);
    let zmsg = Zmsg::open(config).await.unwrap();
    for name in (0..KEYS).map(name) {
        let _ = zmsg.cache_only(&name, value()).await.unwrap();
    }
    zmsg
}

/// Nanoseconds of one lookup, on each of so many threads.
fn lookups(threads: u64, keys: &[String], get: &(impl Fn(&str) -> Option<Bytes> + Sync)) -> f64 {
    let each = if is_quick() { 10_000 } else { 3_000_000 };
    let begin = Barrier::new(threads as usize);
    let read = |thread: usize| {
        // Each at another place of the same lookups.
        let mut next = thread * keys.len() / threads as usize;
        begin.wait();
        let began = Instant::now();
        for _ in 0..each {
            next = if next + 1 >= keys.len() { 0 } else { next + 1 };
            assert!(get(black_box(&keys[next])).is_some(), "each is a hit");
        }
        began.elapsed().as_nanos() as f64 / f64::from(each)
    };
    let took: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads as usize).map(|thread| scope.spawn(move || read(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    took.iter().sum::<f64>() / threads as f64
}

fn main() {
    let Some(mut figures) = Figures::of("engine") else { return };
    let (runtime, dir) = (zmsg_benches::runtime(), tempfile::tempdir().unwrap());
    let caches = Caches::filled(runtime.block_on(engine(dir.path())));
    let (mut zipf, mut random) = (Zipf::new(KEYS, 0.99), fastrand::Rng::with_seed(7));
    let by_zipf: Vec<String> = (0..LOOKUPS).map(|_| name(zipf.draw())).collect();
    let uniform: Vec<String> = (0..LOOKUPS).map(|_| name(random.usize(..KEYS))).collect();
    let hot = vec![name(1)];
    for (case, keys) in [("one hot key", &hot), ("zipf 0.99", &by_zipf), ("uniform", &uniform)] {
        for threads in [1, 2] {
            figures.turns(
                &Case::new(format!("get in L1, {case}")).at("threads", threads),
                Unit::Nanoseconds,
                &mut [
                    ("zmsg", &mut || lookups(threads, keys, &|key| caches.zmsg(key))),
                    ("quick_cache", &mut || lookups(threads, keys, &|key| caches.quick.get(key))),
                    ("moka", &mut || lookups(threads, keys, &|key| caches.moka.get(key))),
                ],
            );
        }
    }
    let _ = runtime.block_on(caches.zmsg.close(None)).unwrap();
}
