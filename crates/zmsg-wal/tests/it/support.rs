//! What the tests share: a small log, and all that is in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::Result;
use zmsg_wal::{Fs, Log, LogOptions, Reader, Record, Recovered, SyncPolicy};

/// Where the log is on a disk in memory.
pub(crate) const DIR: &str = "/log";

/// A log whose segments hold a few records.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        sync: SyncPolicy::Always,
        segment_bytes: 4096,
        record_bytes_max: 512,
        buffer_bytes_max: 2048,
        bytes_max: 1 << 20,
        ..LogOptions::default()
    }
}

/// Longer than any test.
pub(crate) fn rarely() -> SyncPolicy {
    SyncPolicy::Interval(Duration::from_secs(3_600))
}

pub(crate) fn open(fs: Arc<dyn Fs>, options: &LogOptions) -> Result<(Log, Recovered)> {
    Log::open(Path::new(DIR), options.clone(), fs)
}

/// What a reader gives from its place to the end.
pub(crate) fn rest(reader: &mut Reader) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record);
    }
    Ok(records)
}

/// All that is in the log.
pub(crate) fn all(log: &Log) -> Result<Vec<Record>> {
    rest(&mut log.reader(1))
}

/// A payload that names its sequence and has bytes of its own.
pub(crate) fn payload(random: &mut fastrand::Rng, len_max: usize) -> Vec<u8> {
    let len =
        if random.bool() { random.usize(..=len_max) } else { random.usize(..=len_max.min(40)) };
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}
