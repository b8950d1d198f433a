//! What a store has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::StoreStats;

/// [`StoreStats`], while they are being counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) statements: AtomicU64,
    pub(super) jobs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) queries: AtomicU64,
    pub(super) rows_read: AtomicU64,
    pub(super) rows_changed: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> StoreStats {
        StoreStats {
            statements: self.statements.load(Relaxed),
            jobs: self.jobs.load(Relaxed),
            commits: self.commits.load(Relaxed),
            queries: self.queries.load(Relaxed),
            rows_read: self.rows_read.load(Relaxed),
            rows_changed: self.rows_changed.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
