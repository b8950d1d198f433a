//! What is bounded: the bytes that an entry of L1 holds, the memory of an engine that is flooded, and what
//! it costs to wait for a load that another task has begun.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs};

use allocation_counter::measure;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};
use zmsg::{ByteSize, Config, ErrorKind, JournalMode, Source, Zmsg, counter, sql};
use zmsg_benches::{Case, Figures, Unit, is_quick, key};
use zmsg_cache::{Entry, LocalCache, QuickCache};
use zmsg_core::{Key, Millis};

const VALUE_BYTES: usize = 256;
const NEVER: Duration = Duration::from_secs(86_400);

/// Set for a process that is flooded: what of it.
const FLOODED: &str = "ZMSG_BENCH_FLOODED";
const L1: &str = "L1";
const BUFFER: &str = "the buffer";
const LOCAL_BYTES_MAX: u64 = 64 << 20;
/// So few that it is full before a shard of it is flushed for its number of rows.
const PERIODIC_BYTES_MAX: u64 = 16 << 20;

/// Tasks that ask for the same.
const WAITERS: usize = 1_000;

fn value() -> Bytes {
    Bytes::from(vec![7; VALUE_BYTES])
}

/// Bytes that a cache holds for each of its entries, besides their keys and values.
fn held<C>(entries: usize, new: impl Fn(usize) -> C, insert: impl Fn(&C, Key)) -> f64 {
    let mut cache = None;
    let payload: usize = (0..entries).map(|n| key(n).as_str().len() + VALUE_BYTES).sum();
    let found = measure(|| {
        let new = new(entries);
        (0..entries).for_each(|n| insert(&new, key(n)));
        cache = Some(new);
    });
    (found.bytes_current as f64 - payload as f64) / entries as f64
}

fn entries(figures: &mut Figures) {
    let count = if is_quick() { 10_000 } else { 200_000 };
    let entry = || Entry { value: Some(value()), deadline: Millis::MAX, epoch: 0 };
    // Room for all.
    let bounded = |entries| QuickCache::new(entries as u64 * 1024, entries);
    let insert = |cache: &QuickCache, key: Key| cache.insert(&key, entry()).unwrap();
    let insert_in_quick = |cache: &quick_cache::sync::Cache<String, Bytes>, key: Key| {
        cache.insert(key.as_str().to_owned(), value());
    };
    let of_moka = |entries| moka::sync::Cache::new(entries as u64);
    let insert_in_moka = |cache: &moka::sync::Cache<String, Bytes>, key: Key| {
        cache.insert(key.as_str().to_owned(), value());
    };
    figures.turns(
        &Case::new("an entry of L1, besides key and value"),
        Unit::Held,
        &mut [
            ("zmsg", &mut || held(count, bounded, insert)),
            ("quick_cache", &mut || held(count, quick_cache::sync::Cache::new, insert_in_quick)),
            ("moka", &mut || held(count, of_moka, insert_in_moka)),
        ],
    );
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// What an engine takes that is given more than its bounds: more values than L1 has room for, and
/// operations until the buffer refuses them, again and again.
async fn flood(what: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::embedded(dir.path());
    config.cache.local_bytes_max = ByteSize(LOCAL_BYTES_MAX);
    config.periodic.bytes_max = ByteSize(PERIODIC_BYTES_MAX);
    config.periodic.journal = JournalMode::Off;
    (config.periodic.interval, config.periodic.age_max) = (NEVER, NEVER);
    config.periodic.ops_max = u64::MAX;
    let zmsg = Zmsg::open(config).await.unwrap();
    let table = "CREATE TABLE likes (id TEXT PRIMARY KEY, n INTEGER NOT NULL)";
    zmsg.sql_exec(sql(table, ()).no_keys()).await.unwrap();
    let idle = resident();
    let mut refused = 0;
    for n in 0..1_000_000 {
        let name = format!("feed_{n}");
        if what == L1 {
            let _ = zmsg.cache_only(&name, value()).await.unwrap();
            continue;
        }
        let add = counter("likes", "n").inc(1).where_eq("id", &name);
        match zmsg.cache_and_periodic_store(&name, None, add).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Overloaded => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(what == L1 || refused > 0, "it was no flood");
    resident() - idle
}

/// A process for each sample: what one has had in memory stays with it.
fn flooded(figures: &mut Figures, what: &str, bytes_max: u64) {
    let case = Case::new(format!("resident, {what} flooded"));
    let one = || -> f64 {
        let child = Command::new(env::current_exe().unwrap()).env(FLOODED, what).output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        said.trim().parse().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&child.stderr)))
    };
    let rounds = if is_quick() { 1 } else { 7 };
    let ours = (0..rounds).map(|_| one()).collect();
    figures.record(&case, "zmsg", Unit::Held, ours);
    figures.record(&case, "its bound", Unit::Held, vec![bytes_max as f64; rounds]);
}

/// Nanoseconds for each of many tasks that ask for one key at once, which is nowhere.
async fn waiters<F>(ask: impl Fn(String) -> F, loads: &AtomicU64) -> f64
where
    F: Future<Output = Option<Bytes>> + Send + 'static,
{
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let name = format!("cold_{}", ROUND.fetch_add(1, Relaxed));
    let (before, mut tasks) = (loads.load(Relaxed), JoinSet::new());
    let began = Instant::now();
    (0..WAITERS).for_each(|_| drop(tasks.spawn(ask(name.clone()))));
    while let Some(found) = tasks.join_next().await {
        assert!(found.unwrap().is_some());
    }
    let took = began.elapsed().as_nanos() as f64 / WAITERS as f64;
    assert_eq!(loads.load(Relaxed) - before, 1, "one load for all");
    took
}

/// A load that lasts until all have asked.
async fn load(loads: &AtomicU64) -> Bytes {
    loads.fetch_add(1, Relaxed);
    for _ in 0..4 {
        yield_now().await;
    }
    value()
}

fn one_load(figures: &mut Figures, runtime: &Runtime) {
    let (dir, loads) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    let zmsg = runtime.block_on(Zmsg::open(Config::embedded(dir.path()))).unwrap();
    let counted = Arc::clone(&loads);
    let source = Source::call("cold", move |_key| {
        let counted = Arc::clone(&counted);
        async move { Ok(Some(load(&counted).await)) }
    });
    zmsg.register(source).unwrap();
    let quick = Arc::new(quick_cache::sync::Cache::<String, Bytes>::new(100_000));
    let get = |name: String| {
        let zmsg = zmsg.clone();
        async move { zmsg.get(&name).await.unwrap() }
    };
    let get_or_insert = |name: String| {
        let (quick, loads) = (Arc::clone(&quick), Arc::clone(&loads));
        async move {
            let made = async { Ok::<_, ()>(load(&loads).await) };
            quick.get_or_insert_async(&name, made).await.ok()
        }
    };
    figures.turns(
        &Case::new("one load for 1,000 tasks, each"),
        Unit::Nanoseconds,
        &mut [
            ("zmsg", &mut || runtime.block_on(waiters(get, &loads))),
            ("quick_cache", &mut || runtime.block_on(waiters(get_or_insert, &loads))),
        ],
    );
    let _ = runtime.block_on(zmsg.close(None)).unwrap();
}

fn main() {
    let runtime = zmsg_benches::runtime();
    if let Ok(what) = env::var(FLOODED) {
        println!("{}", runtime.block_on(flood(&what)));
        return;
    }
    let Some(mut figures) = Figures::of("bounds") else { return };
    entries(&mut figures);
    flooded(&mut figures, L1, LOCAL_BYTES_MAX);
    flooded(&mut figures, BUFFER, PERIODIC_BYTES_MAX);
    one_load(&mut figures, &runtime);
}
