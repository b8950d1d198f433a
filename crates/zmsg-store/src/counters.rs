//! What a store has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::StoreStats;

/// [`StoreStats`], while they are being counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) statements: AtomicU64,
    pub(crate) jobs: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) rows_read: AtomicU64,
    pub(crate) rows_changed: AtomicU64,
}

impl Counters {
    /// Counts a writing job: what it did, or that it was tried.
    #[cfg(feature = "postgres")]
    pub(crate) fn written(
        &self,
        steps: &[crate::Step],
        result: &Result<Vec<crate::Outcome>, crate::StepError>,
    ) {
        count(&self.statements, steps.len() as u64);
        let Ok(outcomes) = result else { return };
        count(&self.jobs, 1);
        count(&self.commits, 1);
        count(&self.rows_changed, outcomes.iter().map(|outcome| outcome.changed).sum());
        count(&self.rows_read, outcomes.iter().map(|outcome| outcome.rows.len() as u64).sum());
    }

    pub(crate) fn snapshot(&self) -> StoreStats {
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
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
