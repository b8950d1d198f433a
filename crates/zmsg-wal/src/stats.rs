//! Counters of a log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a log did since it was opened, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogStats {
    /// Bytes of all segments, without what is allocated ahead.
    pub bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Records appended.
    pub appended: u64,
    /// The last sequence given out.
    pub last_seq: u64,
    /// The last sequence handed to the operating system.
    pub written_seq: u64,
    /// The last sequence on the disk.
    pub synced_seq: u64,
    /// Writes of records.
    pub writes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Files in which a write or a sync failed, and what was not synced is elsewhere now.
    pub distrusted: u64,
    /// Appends that were refused at a bound.
    pub refused: u64,
    /// Bytes of a torn tail that were cut at open.
    pub torn_bytes: u64,
    /// Whether there is no space for another segment.
    pub disk_full: bool,
}

/// The atomics behind [`LogStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) distrusted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) torn_bytes: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}
