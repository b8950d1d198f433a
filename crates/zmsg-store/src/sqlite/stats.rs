//! What a store has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqliteStats {
    /// Statements executed, reads and writes, failed ones too; the control of transactions is
    /// not counted.
    pub statements: u64,
    /// Writing jobs (calls of `execute` and `execute_all`) whose effect was committed.
    pub jobs: u64,
    /// Transactions committed; jobs that waited together share one.
    pub commits: u64,
    /// Queries answered by `fetch`.
    pub queries: u64,
    /// Rows returned by queries and `RETURNING`.
    pub rows_read: u64,
    /// Rows changed, those of jobs that were rolled back later included.
    pub rows_changed: u64,
}

/// The same, while they are being counted.
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
    pub(super) fn snapshot(&self) -> SqliteStats {
        SqliteStats {
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
