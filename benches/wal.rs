//! The write-ahead log beside one fdatasync for each record, and beside okaywal.
//!
//! Durable appends of 256 bytes by 1, 16 and 256 writers: tasks on zmsg-wal, threads on okaywal,
//! which has no async interface. Then what a buffered append costs its caller, and how fast logs
//! of several lengths are recovered.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use okaywal::{LogVoid, WriteAheadLog};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zmsg_benches::{Case, Figures, Unit, round};
use zmsg_wal::{Durability, Log, LogOptions, RealFs, SyncPolicy};

const RECORD: [u8; 256] = [7; 256];

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
    while begin.elapsed() < round() {
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
        tokio::time::sleep(round()).await;
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
        std::thread::park_timeout(round());
        stop.store(true, Relaxed);
    });
    records.load(Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

fn durable(dir: &Path, figures: &mut Figures) {
    let runtime = zmsg_benches::runtime();
    let log = open(&dir.join("zmsg"), SyncPolicy::Always);
    let okay = WriteAheadLog::recover(dir.join("okay"), LogVoid).unwrap();
    for writers in [1, 16, 256] {
        let case = Case::new("durable append").at("writers", writers);
        figures.turns(
            &case,
            Unit::PerSecond,
            &mut [
                ("zmsg", &mut || tasks(&runtime, &log, writers)),
                ("okaywal", &mut || threads(&okay, writers)),
                ("one sync each", &mut || one_sync_each(dir)),
            ],
        );
    }
    log.close_blocking().unwrap();
}

/// Nanoseconds of a buffered append, while the log keeps up and while it cannot.
fn buffered(dir: &Path, figures: &mut Figures) {
    let options = LogOptions {
        buffer_bytes_max: 64 << 20,
        segment_bytes: 128 << 20,
        ..options(SyncPolicy::Interval(Duration::from_millis(100)))
    };
    let (log, _) = Log::open(dir.join("buffered"), options, RealFs::shared()).unwrap();
    let mut append = || {
        const APPENDS: u32 = 50_000;
        let begin = Instant::now();
        for _ in 0..APPENDS {
            log.append(1, &[&RECORD]).unwrap();
        }
        let took = begin.elapsed().as_nanos() as f64 / f64::from(APPENDS);
        log.sync().wait_blocking().unwrap();
        log.remove_below(log.last_seq()).unwrap();
        took
    };
    let case = Case::new("buffered append");
    figures.turns(&case, Unit::Nanoseconds, &mut [("zmsg", &mut append)]);
    log.close_blocking().unwrap();
}

fn recovery(dir: &Path, figures: &mut Figures) {
    for records in [5_000, 50_000, 500_000] {
        if zmsg_benches::is_quick() && records > 5_000 {
            continue;
        }
        let dir = dir.join(format!("recovery-{records}"));
        write(&dir, records);
        let mut open = || {
            let begin = Instant::now();
            let (log, recovered) =
                Log::open(&dir, options(SyncPolicy::Always), RealFs::shared()).unwrap();
            let took = begin.elapsed();
            assert_eq!(recovered.records, records);
            log.close_blocking().unwrap();
            records as f64 / took.as_secs_f64()
        };
        let case = Case::new("recovery").at("records", records);
        figures.turns(&case, Unit::PerSecond, &mut [("zmsg", &mut open)]);
        let log = Log::open(&dir, options(SyncPolicy::Always), RealFs::shared()).unwrap().0;
        let mut read = || {
            let begin = Instant::now();
            let mut reader = log.reader(1);
            while let Some(record) = reader.next().unwrap() {
                assert_eq!(record.payload.len(), RECORD.len());
            }
            records as f64 / begin.elapsed().as_secs_f64()
        };
        let case = Case::new("replay by a reader").at("records", records);
        figures.turns(&case, Unit::PerSecond, &mut [("zmsg", &mut read)]);
        log.close_blocking().unwrap();
    }
}

fn write(dir: &Path, records: u64) {
    let log = open(dir, SyncPolicy::Os);
    for _ in 0..records {
        while log.append(1, &[&RECORD]).is_err() {
            log.sync().wait_blocking().unwrap();
        }
    }
    log.close_blocking().unwrap();
}

fn main() {
    let Some(mut figures) = Figures::of("wal") else { return };
    let dir = tempfile::tempdir().unwrap();
    durable(dir.path(), &mut figures);
    buffered(dir.path(), &mut figures);
    recovery(dir.path(), &mut figures);
}
