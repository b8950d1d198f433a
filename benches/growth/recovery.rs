//! Opening a log again, by how long it is.

use std::path::Path;
use std::time::Instant;

use zmsg_benches::{Case, Figures, Unit};
use zmsg_wal::{Log, LogOptions, RealFs, SyncPolicy};

const MEGABYTES: [u64; 4] = [1, 16, 256, 4_096];
/// From here on records are longer, so that writing them takes no longer than reading them.
const LONG: u64 = 4_096;
/// Rounds of a long log: it is opened from what the system keeps in memory of it, if it does.
const ROUNDS_OF_LONG: usize = 3;
/// Room for a long log, and for the segments that are allocated ahead of it.
const FREE_BYTES: u64 = 6 << 30;

pub(crate) fn measure(figures: &mut Figures) {
    for &megabytes in crate::points(&MEGABYTES) {
        let dir = tempfile::tempdir().unwrap();
        let is_long = megabytes >= LONG;
        if is_long && free_bytes(dir.path()).is_some_and(|bytes| bytes < FREE_BYTES) {
            let why = "less than 6 GB are free where temporary files are";
            figures.left_out("recovery of a log of 4 GB", why);
            continue;
        }
        let payload = vec![7; if is_long { 1_024 } else { 150 }];
        let record_bytes = LogOptions::record_bytes(payload.len()) as u64;
        let records = megabytes * 1_000_000 / record_bytes;
        write(dir.path(), records, &payload);
        let bytes = (records * record_bytes) as f64;
        let mut open = || {
            let began = Instant::now();
            let (log, recovered) = Log::open(dir.path(), options(), RealFs::shared()).unwrap();
            let took = began.elapsed();
            assert_eq!(recovered.records, records);
            log.close_blocking().unwrap();
            bytes / took.as_secs_f64()
        };
        let case = Case::new("recovery of a log, bytes").at("MB", megabytes);
        if is_long {
            let samples = (0..ROUNDS_OF_LONG).map(|_| open()).collect();
            figures.record(&case, "zmsg", Unit::PerSecond, samples);
        } else {
            figures.turns(&case, Unit::PerSecond, &mut [("zmsg", &mut open)]);
        }
    }
}

fn options() -> LogOptions {
    LogOptions { sync: SyncPolicy::Os, bytes_max: 64 << 30, ..LogOptions::default() }
}

fn write(dir: &Path, records: u64, payload: &[u8]) {
    let (log, _) = Log::open(dir, options(), RealFs::shared()).unwrap();
    for _ in 0..records {
        while log.append(1, &[payload]).is_err() {
            log.sync().wait_blocking().unwrap();
        }
    }
    log.close_blocking().unwrap();
}

/// What may still be written there; `None` where the system does not say.
fn free_bytes(dir: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(dir).ok()?;
    Some(facts.f_bavail * facts.f_frsize)
}
