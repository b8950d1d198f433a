//! The batch queue beside `vinequeue`, whose job it does.
//!
//! Items of a number and a text of 40 bytes, accepted in memory by one and by two producers while a
//! sink that does nothing takes batches of 1,000; then all are waited for. The queues take turns in
//! one run; figures are medians. Bounds of the memory are out of reach for both. Then the durable
//! queue beside its log alone.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use vinequeue::Queue as _;
use zmsg_queue::batch::{
    Batch, BatchConfig, BatchQueue, BatchSize, Durability, Encoding, LogOptions, Outcome,
    SyncPolicy,
};
use zmsg_wal::{Log, RealFs};

const ROUNDS: usize = 7;
const ITEMS: u64 = 400_000;
const DURABLE: u64 = 200_000;

#[derive(Clone, Serialize, Deserialize)]
struct Event {
    id: u64,
    text: String,
}

fn event(id: u64) -> Event {
    Event { id, text: "signed in from a phone, in the city of X".to_owned() }
}

/// Nanoseconds of a producer for an item, and how many items arrived.
struct Run {
    enqueue: f64,
    arrived: u64,
}

/// So many producers, each on a thread; the items are made before.
fn produce(producers: u64, enqueue: impl Fn(Event) + Sync) -> f64 {
    let each = ITEMS / producers;
    let mut made: Vec<Vec<Event>> =
        (0..producers).map(|own| (0..each).map(|id| event(own * each + id)).collect()).collect();
    let begin = Instant::now();
    std::thread::scope(|threads| {
        for items in &mut made {
            let (items, enqueue) = (std::mem::take(items), &enqueue);
            threads.spawn(move || items.into_iter().for_each(enqueue));
        }
    });
    begin.elapsed().as_nanos() as f64 / each as f64
}

fn zmsg(runtime: &Runtime, producers: u64) -> Run {
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&arrived);
    let handler = move |batch: Batch<Event>| {
        counted.fetch_add(batch.len() as u64, Relaxed);
        async { Ok(Outcome::done()) }
    };
    let config = BatchConfig {
        memory_items_max: 10_000_000,
        memory_bytes_max: 4 << 30,
        batch_size: BatchSize::Fixed(1_000),
        batch_bytes_max: 64 << 20,
        ..BatchConfig::memory()
    };
    let _inside = runtime.enter();
    let queue = BatchQueue::builder(config).open_in_memory(handler).unwrap();
    queue.start().unwrap();
    let enqueue = produce(producers, |item| drop(queue.try_enqueue(item).unwrap()));
    let report = runtime.block_on(queue.close(Duration::from_secs(60)));
    assert!(report.is_drained());
    Run { enqueue, arrived: arrived.load(Relaxed) }
}

fn peer(producers: u64) -> Run {
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&arrived);
    let config = vinequeue::Config {
        memory_size: 10_000_000,
        batch_size: 1_000,
        adaptive_batch: false,
        min_batch_size: 1_000,
        max_batch_size: 1_000,
        ..vinequeue::Config::default_config()
    };
    let send = move |batch: Vec<Event>| {
        counted.fetch_add(batch.len() as u64, Relaxed);
        Ok(())
    };
    let queue = vinequeue::MemoryQueue::new(config, send).unwrap();
    queue.start().unwrap();
    let enqueue = produce(producers, |item| queue.enqueue(item).unwrap());
    queue.stop().unwrap();
    Run { enqueue, arrived: arrived.load(Relaxed) }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn in_memory(runtime: &Runtime) {
    for producers in [1, 2] {
        let (mut own, mut other, mut lost) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let (run, peer) = (zmsg(runtime, producers), peer(producers));
            assert_eq!(run.arrived, ITEMS);
            own.push(run.enqueue);
            other.push(peer.enqueue);
            lost += ITEMS - peer.arrived;
        }
        let (own, other) = (median(own), median(other));
        println!(
            "enqueue in memory, {producers} producers: zmsg {own:5.1} ns, vinequeue {other:5.1} ns \
             ({:4.2} times as long); lost: zmsg 0, vinequeue {lost} of {}",
            other / own,
            ITEMS * ROUNDS as u64,
        );
    }
}

fn options() -> LogOptions {
    LogOptions {
        sync: SyncPolicy::Interval(Duration::from_millis(50)),
        bytes_max: 64 << 30,
        segment_bytes: 128 << 20,
        buffer_bytes_max: 64 << 20,
        ..LogOptions::default()
    }
}

/// Nanoseconds for an item of the durable queue, and for a record of the same size in the log alone;
/// both until all is on the disk.
fn durable(runtime: &Runtime, dir: &Path) -> (f64, f64) {
    let config = BatchConfig {
        log: options(),
        encoding: Encoding::Postcard,
        acknowledge: Durability::Buffered,
        memory_items_max: 10_000_000,
        memory_bytes_max: 4 << 30,
        batch_size: BatchSize::Fixed(1_000),
        ..BatchConfig::durable(dir.join("queue"))
    };
    let handler = |_batch: Batch<Event>| async { Ok(Outcome::done()) };
    let queue = runtime.block_on(BatchQueue::builder(config).open(handler)).unwrap();
    queue.start().unwrap();
    let items: Vec<_> = (0..DURABLE).map(event).collect();
    let begin = Instant::now();
    let mut last = None;
    for item in items {
        last = Some(queue.try_enqueue(item).unwrap());
    }
    runtime.block_on(last.unwrap().wait(Durability::Synced)).unwrap();
    let own = begin.elapsed().as_nanos() as f64 / DURABLE as f64;
    runtime.block_on(queue.close(Duration::from_secs(60)));

    let log = Log::open(dir.join("log"), options(), RealFs::shared()).unwrap().0;
    let record = [7; 8 + 43];
    let begin = Instant::now();
    let mut last = None;
    for _ in 0..DURABLE {
        last = Some(log.append(1, &[&record]).unwrap());
    }
    runtime.block_on(last.unwrap().wait(Durability::Synced)).unwrap();
    let bare = begin.elapsed().as_nanos() as f64 / DURABLE as f64;
    log.close_blocking().unwrap();
    (own, bare)
}

fn main() {
    // `cargo xtask bench FILTER` runs all targets: this one has one name.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"batch_queue".contains(&filter)) {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    in_memory(&runtime);
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let figures = durable(&runtime, dir.path());
        own.push(figures.0);
        bare.push(figures.1);
    }
    let (own, bare) = (median(own), median(bare));
    println!(
        "enqueue through the log, 1 producer: zmsg {own:5.0} ns, the log alone {bare:5.0} ns ({:4.2} of its speed)",
        bare / own,
    );
}
