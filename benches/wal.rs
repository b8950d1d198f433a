//! The write-ahead log beside one fdatasync for each record, and beside okaywal.
//!
//! Durable appends of 256 bytes by 1, 16 and 256 writers: tasks on zmsg-wal, threads on okaywal,
//! which has no async interface. All in turns, in one run; the figures are medians, and the ratios
//! are what counts. Then what a buffered append costs its caller, and how fast a log is recovered.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use okaywal::{LogVoid, WriteAheadLog};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zmsg_wal::{Durability, Log, LogOptions, RealFs, SyncPolicy};

const RECORD: [u8; 256] = [7; 256];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(700);
const RECOVERED: u64 = 500_000;

fn options(sync: SyncPolicy) -> LogOptions {
    LogOptions { sync, bytes_max: 64 << 30, ..LogOptions::default() }
}

fn open(dir: &Path, sync: SyncPolicy) -> Log {
    Log::open(dir, options(sync), RealFs::shared()).unwrap().0
}

/// Records per second of one writer who syncs each.
fn one_sync_each(dir: &Path) -> f64 {
    let file = std::fs::File::create(dir.join("each")).unwrap();
    file.write_all_at(&vec![0; 8 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let begin = Instant::now();
    let mut records = 0;
    while begin.elapsed() < ROUND {
        file.write_all_at(&RECORD, records % 30_000 * 256).unwrap();
        file.sync_data().unwrap();
        records += 1;
    }
    records as f64 / begin.elapsed().as_secs_f64()
}

/// Durable records per second of so many tasks.
fn tasks(runtime: &Runtime, log: &Log, writers: u64) -> f64 {
    let begin = Instant::now();
    let (stop, records) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for _ in 0..writers {
            let (log, stop, records) = (log.clone(), Arc::clone(&stop), Arc::clone(&records));
            running.spawn(async move {
                while !stop.load(Relaxed) {
                    let appended = log.append(1, &[&RECORD]).unwrap();
                    appended.wait(Durability::Synced).await.unwrap();
                    records.fetch_add(1, Relaxed);
                }
            });
        }
        tokio::time::sleep(ROUND).await;
        stop.store(true, Relaxed);
        running.join_all().await;
    });
    let rate = records.load(Relaxed) as f64 / begin.elapsed().as_secs_f64();
    log.remove_below(log.last_seq()).unwrap();
    rate
}

/// The same of so many threads on okaywal.
fn threads(log: &WriteAheadLog, writers: u64) -> f64 {
    let begin = Instant::now();
    let (stop, records) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let mut entry = log.begin_entry().unwrap();
                    entry.write_chunk(&RECORD).unwrap();
                    entry.commit().unwrap();
                    records.fetch_add(1, Relaxed);
                }
            });
        }
        std::thread::park_timeout(ROUND);
        stop.store(true, Relaxed);
    });
    records.load(Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn durable(dir: &Path) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log = open(&dir.join("zmsg"), SyncPolicy::Always);
    let okay = WriteAheadLog::recover(dir.join("okay"), LogVoid).unwrap();
    for writers in [1, 16, 256] {
        let (mut each, mut own, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let figures =
                [one_sync_each(dir), tasks(&runtime, &log, writers), threads(&okay, writers)];
            if round > 0 {
                each.push(figures[0]);
                own.push(figures[1]);
                other.push(figures[2]);
            }
        }
        let (each, own, other) = (median(each), median(own), median(other));
        println!(
            "durable append, {writers:3} writers: one sync each {each:6.0}/s, zmsg-wal {own:7.0}/s \
             ({:5.1} times), okaywal {other:6.0}/s (zmsg-wal {:4.1} times)",
            own / each,
            own / other
        );
    }
    log.close_blocking().unwrap();
}

/// Nanoseconds of a buffered append, while the log keeps up and while it cannot.
fn buffered(dir: &Path) {
    let options = LogOptions {
        buffer_bytes_max: 64 << 20,
        segment_bytes: 128 << 20,
        ..options(SyncPolicy::Interval(Duration::from_millis(100)))
    };
    let (log, _) = Log::open(dir.join("buffered"), options, RealFs::shared()).unwrap();
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        const APPENDS: u32 = 50_000;
        let begin = Instant::now();
        for _ in 0..APPENDS {
            log.append(1, &[&RECORD]).unwrap();
        }
        figures.push(begin.elapsed().as_nanos() as f64 / f64::from(APPENDS));
        log.sync().wait_blocking().unwrap();
        log.remove_below(log.last_seq()).unwrap();
    }
    println!("buffered append: {:.0} ns", median(figures));
    log.close_blocking().unwrap();
}

fn recovery(dir: &Path) {
    let dir = dir.join("recovery");
    let log = open(&dir, SyncPolicy::Os);
    for _ in 0..RECOVERED {
        while log.append(1, &[&RECORD]).is_err() {
            log.sync().wait_blocking().unwrap();
        }
    }
    log.close_blocking().unwrap();
    let (mut opened, mut read) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let (log, recovered) =
            Log::open(&dir, options(SyncPolicy::Always), RealFs::shared()).unwrap();
        assert_eq!(recovered.records, RECOVERED);
        opened.push(RECOVERED as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let mut reader = log.reader(1);
        while let Some(record) = reader.next().unwrap() {
            assert_eq!(record.payload.len(), RECORD.len());
        }
        read.push(RECOVERED as f64 / begin.elapsed().as_secs_f64());
        log.close_blocking().unwrap();
    }
    println!(
        "recovery: {:.2} M records/s; replay by a reader: {:.2} M records/s",
        median(opened) / 1e6,
        median(read) / 1e6
    );
}

fn main() {
    // `cargo xtask bench FILTER` runs all targets: this one has one name.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"wal".contains(&filter)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    durable(dir.path());
    buffered(dir.path());
    recovery(dir.path());
}
