//! Counters that threads do not fight over.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a [`TieredCache`](crate::TieredCache) has done so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that L1 answered with a value.
    pub l1_hits: u64,
    /// Reads that L1 answered with "absent".
    pub negative_hits: u64,
    /// Flights that L2 answered, with a value or with "absent".
    pub l2_hits: u64,
    /// Flights that asked the origin.
    pub loads: u64,
    /// Flights that ended with an error: the load's, a time-out, or a panic.
    pub load_failures: u64,
    /// Flights that the filter answered: absent, without a load.
    pub absent_by_filter: u64,
    /// Reads that waited for a flight that another read had begun.
    pub coalesced: u64,
    /// Reads that were refused because too many waited.
    pub overloaded: u64,
    /// Fills that L1 did not take, because the key was written meanwhile.
    pub l1_fills_refused: u64,
    /// Fills that L2 did not take, because the key had a value or a hold, or that came too late.
    pub l2_fills_refused: u64,
    /// Calls to L2 that failed.
    pub l2_errors: u64,
    /// Writes whose value was published.
    pub published: u64,
    /// Writes whose value was not published, because somebody else wrote too.
    pub contended: u64,
    /// Values that L1 refused because they can never fit.
    pub oversize_refused: u64,
    /// Entries that L1 turned away or threw out to keep its bound: see
    /// [`LocalCache::shed`](crate::LocalCache::shed).
    pub l1_shed: u64,
    /// Entries in L1 now, expired ones included.
    pub entries: u64,
    /// What the entries in L1 weigh now, in bytes.
    pub bytes: u64,
}

/// Names a counter.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    L1Hit,
    NegativeHit,
    L2Hit,
    Load,
    LoadFailure,
    AbsentByFilter,
    Coalesced,
    Overloaded,
    L1FillRefused,
    L2FillRefused,
    L2Error,
    Published,
    Contended,
    OversizeRefused,
}

const COUNTS: usize = Count::OversizeRefused as usize + 1;
const STRIPES: usize = 16;

/// The counters: each thread adds to one of several stripes, so that a hit costs no cache line
/// that another core writes; reading sums them up.
pub(crate) struct Counters([Stripe; STRIPES]);

// Two lines of 64 bytes: processors fetch them in pairs.
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))))
    }

    pub(crate) fn add(&self, count: Count) {
        self.0[stripe()].0[count as usize].fetch_add(1, Relaxed);
    }

    /// The counters alone: what the cache holds now is for its owner to add.
    pub(crate) fn sums(&self) -> CacheStats {
        let sum = |count: Count| self.0.iter().map(|s| s.0[count as usize].load(Relaxed)).sum();
        CacheStats {
            l1_hits: sum(Count::L1Hit),
            negative_hits: sum(Count::NegativeHit),
            l2_hits: sum(Count::L2Hit),
            loads: sum(Count::Load),
            load_failures: sum(Count::LoadFailure),
            absent_by_filter: sum(Count::AbsentByFilter),
            coalesced: sum(Count::Coalesced),
            overloaded: sum(Count::Overloaded),
            l1_fills_refused: sum(Count::L1FillRefused),
            l2_fills_refused: sum(Count::L2FillRefused),
            l2_errors: sum(Count::L2Error),
            published: sum(Count::Published),
            contended: sum(Count::Contended),
            oversize_refused: sum(Count::OversizeRefused),
            l1_shed: 0,
            entries: 0,
            bytes: 0,
        }
    }
}

/// This thread's stripe, dealt out in turn at the thread's first count.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sums().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| counters.add(Count::L1Hit)));
            }
        });
        assert_eq!(counters.sums().l1_hits, 4000);
        assert_eq!(counters.sums().oversize_refused, 0);
    }
}
