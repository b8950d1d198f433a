//! What the aggregator has done, and what waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::flush::Landing;

/// What an aggregator has done since it was opened, and what waits in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Operations accepted.
    pub submitted: u64,
    /// Of these, folded into one that waited: statements saved.
    pub folded: u64,
    /// Operations refused because the buffer was full.
    pub overloaded: u64,
    /// Operations that wait, those being flushed included.
    pub pending_ops: u64,
    /// Slots that wait: statements to come.
    pub pending_slots: u64,
    /// Bytes that wait.
    pub pending_bytes: u64,
    /// For how long the oldest of them has waited.
    pub oldest: Option<Duration>,
    /// Seals that took effect.
    pub flushes: u64,
    /// Statements that applied operations, without zmsg's own bookkeeping.
    pub statements: u64,
    /// Rows that these changed.
    pub rows_changed: u64,
    /// Attempts of a flush that failed and were made again.
    pub retries: u64,
    /// Groups that went to the dead letters.
    pub dead_lettered: u64,
}

/// The counters behind [`AggregateStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) submitted: AtomicU64,
    pub(crate) folded: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) statements: AtomicU64,
    pub(crate) rows_changed: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
}

impl Counters {
    pub(crate) fn landed(&self, landing: &Landing) {
        self.flushes.fetch_add(1, Relaxed);
        self.statements.fetch_add(landing.statements, Relaxed);
        self.rows_changed.fetch_add(landing.rows, Relaxed);
        self.dead_lettered.fetch_add(landing.kept, Relaxed);
    }

    /// What was done; what waits is for the caller to fill in.
    pub(crate) fn done(&self) -> AggregateStats {
        AggregateStats {
            submitted: self.submitted.load(Relaxed),
            folded: self.folded.load(Relaxed),
            overloaded: self.overloaded.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            statements: self.statements.load(Relaxed),
            rows_changed: self.rows_changed.load(Relaxed),
            retries: self.retries.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            ..AggregateStats::default()
        }
    }
}
