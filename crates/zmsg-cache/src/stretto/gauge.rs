//! What entries weigh, counted where they begin and where they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The sums over all entries of a room.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    bytes: AtomicU64,
    entries: AtomicUsize,
}

impl Gauge {
    /// Makes room for one entry, unless the sum would exceed `max`.
    pub(super) fn admit(self: &Arc<Self>, bytes: u64, max: u64) -> Option<Share> {
        let more = |sum: u64| sum.checked_add(bytes).filter(|sum| *sum <= max);
        self.bytes.fetch_update(Relaxed, Relaxed, more).ok()?;
        self.entries.fetch_add(1, Relaxed);
        Some(Share { gauge: Arc::clone(self), bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }
}

/// One entry's part of the sums. It goes with the entry, whoever drops that.
#[derive(Debug)]
pub(super) struct Share {
    gauge: Arc<Gauge>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.bytes.fetch_sub(self.bytes, Relaxed);
        self.gauge.entries.fetch_sub(1, Relaxed);
    }
}
