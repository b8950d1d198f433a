//! `Zmsg::get` where L1 answers, beside bare caches that hold the same values: one hot key, keys by
//! Zipf, and keys that are all asked for alike, on one thread and on two. Where there is Go, also
//! beside a read path as services in Go have it: Ristretto, and behind it Redis, which is not asked here.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use zmsg::{Config, Zmsg};
use zmsg_benches::{Case, Figures, Go, Unit, Way, Zipf, nanoseconds};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
/// Room for as many as L1 has by default, 64 MiB; enough for every key, so that each lookup is a hit.
const CAPACITY: usize = 1 << 18;
const LOCAL_BYTES_MAX: u64 = 64 << 20;
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

async fn engine(dir: &Path) -> Zmsg {
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
    nanoseconds(threads as usize, |thread| {
        // Each at another place of the same lookups.
        let mut next = thread * keys.len() / threads as usize;
        move || {
            next = if next + 1 >= keys.len() { 0 } else { next + 1 };
            assert!(get(black_box(&keys[next])).is_some(), "each is a hit");
        }
    })
}

/// Lookups by the read path in Go, with these keys in a file.
fn lookups_in_go(threads: u64, keys: &Path, go: &Go) -> f64 {
    let rest = ["feed_".to_owned(), KEYS.to_string(), LOCAL_BYTES_MAX.to_string()];
    let mut arguments = vec![threads.to_string().into(), Go::round().into()];
    arguments.extend([OsString::from("local"), keys.into()]);
    arguments.extend(rest.map(OsString::from));
    go.run(arguments)
}

fn main() {
    let Some(mut figures) = Figures::of("engine") else { return };
    let go = Go::build("readpath", env!("CARGO_TARGET_TMPDIR"));
    if let Err(why) = &go {
        figures.left_out("Go's read path", why);
    }
    let (runtime, dir) = (zmsg_benches::runtime(), tempfile::tempdir().unwrap());
    let caches = Caches::filled(runtime.block_on(engine(dir.path())));
    let (mut zipf, mut random) = (Zipf::new(KEYS, 0.99), fastrand::Rng::with_seed(7));
    let by_zipf: Vec<String> = (0..LOOKUPS).map(|_| name(zipf.draw())).collect();
    let uniform: Vec<String> = (0..LOOKUPS).map(|_| name(random.usize(..KEYS))).collect();
    let hot = vec![name(1)];
    for (case, keys) in [("one hot key", &hot), ("zipf 0.99", &by_zipf), ("uniform", &uniform)] {
        let file = dir.path().join("keys");
        fs::write(&file, keys.join("\n")).unwrap();
        for threads in [1, 2] {
            let mut own = || lookups(threads, keys, &|key| caches.zmsg(key));
            let mut quick = || lookups(threads, keys, &|key| caches.quick.get(key));
            let mut moka = || lookups(threads, keys, &|key| caches.moka.get(key));
            let mut path = || go.as_ref().map_or(0.0, |go| lookups_in_go(threads, &file, go));
            let mut ways: Vec<Way<'_>> =
                vec![("zmsg", &mut own), ("quick_cache", &mut quick), ("moka", &mut moka)];
            if go.is_ok() {
                ways.push(("Go's read path", &mut path));
            }
            let case = Case::new(format!("get in L1, {case}")).at("threads", threads);
            figures.turns(&case, Unit::Nanoseconds, &mut ways);
        }
    }
    let _ = runtime.block_on(caches.zmsg.close(None)).unwrap();
}
