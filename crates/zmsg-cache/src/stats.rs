//! Counters that threads do not fight over.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed, Release},
};

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

/// Stripes of one thread each, and those that the threads beyond share.
const OWN: usize = 32;
const SHARED: usize = 8;
const STRIPES: usize = OWN + SHARED;

/// The counters: each thread adds to a stripe of its own, so that a hit costs no cache line that
/// another core writes, and no locked instruction; reading sums them up.
pub(crate) struct Counters([Stripe; STRIPES]);

// Two lines of 64 bytes: processors fetch them in pairs.
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))))
    }

    pub(crate) fn add(&self, count: Count) {
        let stripe = stripe();
        let counter = &self.0[stripe].0[count as usize];
        if stripe >= OWN {
            counter.fetch_add(1, Relaxed);
        } else {
            // Nobody else writes here.
            counter.store(counter.load(Relaxed) + 1, Relaxed);
        }
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

/// The numbers that threads have, a bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// One of the shared stripes, dealt out in turn.
fn shared() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    OWN + NEXT.fetch_add(1, Relaxed) % SHARED
}

/// A number that no other thread has until this one ends; that of a shared stripe if all are taken.
struct Number(usize);

impl Number {
    fn take() -> Self {
        // What the thread that had the number before has counted is seen by the one that takes it.
        let lowest = |taken: u64| taken | (taken + 1);
        let free = |taken: u64| (taken.trailing_ones() as usize) < OWN;
        let taken = TAKEN.fetch_update(AcqRel, Relaxed, |it| free(it).then(|| lowest(it)));
        Self(taken.map_or_else(|_| shared(), |before| before.trailing_ones() as usize))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // While this thread ends, its number may be another's already.
        let _ = STRIPE.try_with(|stripe| stripe.set(shared()));
        if self.0 < OWN {
            TAKEN.fetch_and(!(1 << self.0), Release);
        }
    }
}

thread_local! {
    /// The number of this thread once it has one; apart from what gives it back, so that a count
    /// need not ask whether the thread ends.
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    static NUMBER: Number = Number::take();
}

/// This thread's stripe, from its first count on.
fn stripe() -> usize {
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NUMBER.try_with(|number| number.0).unwrap_or_else(|_| shared()));
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
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_that_count_at_the_same_time_have_numbers_of_their_own() {
        let numbers: Vec<Number> = (0..100).map(|_| Number::take()).collect();
        let own = || numbers.iter().map(|it| it.0).filter(|it| *it < OWN);
        assert_eq!(own().collect::<HashSet<_>>().len(), own().count());
        assert!(numbers.iter().all(|it| it.0 < STRIPES));
    }

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| (0..1_000).for_each(|_| counters.add(Count::L1Hit)));
            }
        });
        // Numbers that are free again are taken by others, one after the other.
        for _ in 0..2 * STRIPES {
            let counted = || (0..10).for_each(|_| counters.add(Count::L1Hit));
            std::thread::scope(|scope| drop(scope.spawn(counted)));
        }
        assert_eq!(counters.sums().l1_hits, 2 * STRIPES as u64 * 1_010);
        assert_eq!(counters.sums().oversize_refused, 0);
    }
}
