//! What a shared filter has done, beyond what every filter counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::FilterState;

/// A snapshot of what a shared filter has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStats {
    /// The version of the state that this node knows; 0 before it has read it.
    pub version: u64,
    /// Questions to the backend that ruled a key out.
    pub confirmed_absent: u64,
    /// Questions to the backend that did not.
    pub confirmed_maybe: u64,
    /// Questions without an answer: nothing was trusted.
    pub unknown_untrusted: u64,
    /// Questions without an answer: the generation was lost, or over-filled.
    pub unknown_lost: u64,
    /// Questions without an answer: no lease, or the backend was away.
    pub unknown_away: u64,
    /// Questions whose answer came when the lease had ended or the generation was switched.
    pub unknown_late: u64,
    /// Writes whose keys were added.
    pub admitted: u64,
    /// Times that this node took a generation out of the state because it did not take a key.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) confirmed_absent: AtomicU64,
    pub(super) confirmed_maybe: AtomicU64,
    pub(super) unknown_untrusted: AtomicU64,
    pub(super) unknown_lost: AtomicU64,
    pub(super) unknown_away: AtomicU64,
    pub(super) unknown_late: AtomicU64,
    pub(super) admitted: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Counts {
    pub(super) fn unknown(&self, why: FilterState) {
        let counter = match why {
            FilterState::Away => &self.unknown_away,
            FilterState::Lost | FilterState::OverFilled => &self.unknown_lost,
            _ => &self.unknown_untrusted,
        };
        count(counter);
    }

    pub(super) fn snapshot(&self, version: u64) -> SharedStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        SharedStats {
            version,
            confirmed_absent: read(&self.confirmed_absent),
            confirmed_maybe: read(&self.confirmed_maybe),
            unknown_untrusted: read(&self.unknown_untrusted),
            unknown_lost: read(&self.unknown_lost),
            unknown_away: read(&self.unknown_away),
            unknown_late: read(&self.unknown_late),
            admitted: read(&self.admitted),
            dropped: read(&self.dropped),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
