//! Counts of what became of the attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The live counters of a worker.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) given_back: AtomicU64,
    pub(super) buried: AtomicU64,
    pub(super) lease_lost: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) unsettled: AtomicU64,
    pub(super) processed: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Attempts that ended, in whatever way.
    pub processed: u64,
    /// Attempts whose handler succeeded and whose task was completed.
    pub succeeded: u64,
    /// Attempts whose handler failed, panicked or timed out.
    pub failed: u64,
    /// Failed attempts whose task waits for another, counted or not.
    pub retried: u64,
    /// Attempts that a stopping worker gave back.
    pub given_back: u64,
    /// Tasks that this worker moved to the dead letters.
    pub buried: u64,
    /// Attempts whose task had gone to somebody else before they ended.
    pub lease_lost: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Handlers that took too long.
    pub timed_out: u64,
    /// Handlers that somebody stopped.
    pub cancelled: u64,
    /// Attempts whose end the queue did not take; their tasks come back by their leases.
    pub unsettled: u64,
}

impl WorkerCounters {
    /// Reads all counters, one after the other.
    pub fn read(&self) -> WorkerStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        WorkerStats {
            processed: read(&self.processed),
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            retried: read(&self.retried),
            given_back: read(&self.given_back),
            buried: read(&self.buried),
            lease_lost: read(&self.lease_lost),
            panicked: read(&self.panicked),
            timed_out: read(&self.timed_out),
            cancelled: read(&self.cancelled),
            unsettled: read(&self.unsettled),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
