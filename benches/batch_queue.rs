//! The batch queue beside `vinequeue`, whose job it does.
//!
//! Items of a number and a text of 40 bytes, accepted in memory by one and by two producers while a
//! sink that does nothing takes batches of 1,000; then all are waited for. Bounds of the memory are out of reach for both. Then the durable
//! queue beside its log alone.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use vinequeue::Queue as _;
use zmsg_benches::{Case, Figures, Unit};
use zmsg_queue::batch::{
    Batch, BatchConfig, BatchQueue, BatchSize, Durability, Encoding, LogOptions, Outcome,
    SyncPolicy,
};
use zmsg_wal::{Log, RealFs};

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

fn in_memory(runtime: &Runtime, figures: &mut Figures) {
    for producers in [1, 2] {
        let mut lost = 0;
        let mut zmsg = || {
            let run = zmsg(runtime, producers);
            assert_eq!(run.arrived, ITEMS);
            run.enqueue
        };
        let mut vinequeue = || {
            let run = peer(producers);
            lost += ITEMS - run.arrived;
            run.enqueue
        };
        figures.turns(
            &Case::new("enqueue in memory").at("producers", producers),
            Unit::Nanoseconds,
            &mut [("zmsg", &mut zmsg), ("vinequeue", &mut vinequeue)],
        );
        if lost > 0 {
            println!("vinequeue lost {lost} items at {producers} producers, zmsg none");
        }
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

/// Nanoseconds for an item of the durable queue, until all is on the disk.
fn durable(runtime: &Runtime) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let config = BatchConfig {
        log: options(),
        encoding: Encoding::Postcard,
        acknowledge: Durability::Buffered,
        memory_items_max: 10_000_000,
        memory_bytes_max: 4 << 30,
        batch_size: BatchSize::Fixed(1_000),
        ..BatchConfig::durable(dir.path().join("queue"))
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
    let took = begin.elapsed().as_nanos() as f64 / DURABLE as f64;
    runtime.block_on(queue.close(Duration::from_secs(60)));
    took
}

/// The same for a record of the same size in the log alone.
fn bare_log(runtime: &Runtime) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log"), options(), RealFs::shared()).unwrap().0;
    let record = [7; 8 + 43];
    let begin = Instant::now();
    let mut last = None;
    for _ in 0..DURABLE {
        last = Some(log.append(1, &[&record]).unwrap());
    }
    runtime.block_on(last.unwrap().wait(Durability::Synced)).unwrap();
    let took = begin.elapsed().as_nanos() as f64 / DURABLE as f64;
    log.close_blocking().unwrap();
    took
}

fn main() {
    let Some(mut figures) = Figures::of("batch_queue") else { return };
    let runtime = zmsg_benches::runtime();
    in_memory(&runtime, &mut figures);
    figures.turns(
        &Case::new("enqueue through the log"),
        Unit::Nanoseconds,
        &mut [("zmsg", &mut || durable(&runtime)), ("the log alone", &mut || bare_log(&runtime))],
    );
}
