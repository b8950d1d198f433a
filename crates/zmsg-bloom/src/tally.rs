//! Counts of answers that cost a hot path next to nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::{Checks, Verdict};

/// Threads that have a stripe of their own; all later ones share the last stripe.
const OWNERS: usize = 31;

/// Counts answers by verdict, in a stripe per thread.
///
/// The owner of a stripe adds with a plain load and store, a fifth of the cost of an atomic
/// addition; threads without one add atomically in the shared stripe. No count is ever lost.
#[derive(Debug)]
pub(crate) struct Tally {
    stripes: Box<[Stripe]>,
}

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    absent: AtomicU64,
    maybe: AtomicU64,
    unknown: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..=OWNERS).map(|_| Stripe::default()).collect() }
    }

    #[inline]
    pub(crate) fn count(&self, verdict: Verdict) {
        let owner = owner();
        let stripe = &self.stripes[owner.min(OWNERS)];
        let counter = match verdict {
            Verdict::Absent => &stripe.absent,
            Verdict::Maybe => &stripe.maybe,
            Verdict::Unknown => &stripe.unknown,
        };
        if owner < OWNERS {
            counter.store(counter.load(Relaxed) + 1, Relaxed);
        } else {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> Checks {
        let sum = |of: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| of(stripe).load(Relaxed)).sum()
        };
        Checks {
            absent: sum(|stripe| &stripe.absent),
            maybe: sum(|stripe| &stripe.maybe),
            unknown: sum(|stripe| &stripe.unknown),
        }
    }
}

/// The number of this thread, the same for every tally.
#[inline]
fn owner() -> usize {
    const UNNUMBERED: usize = usize::MAX;
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWNER: Cell<usize> = const { Cell::new(UNNUMBERED) };
    }
    OWNER.with(|owner| {
        if owner.get() == UNNUMBERED {
            owner.set(THREADS.fetch_add(1, Relaxed));
        }
        owner.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_with_more_threads_than_stripes() {
        let tally = Tally::new();
        std::thread::scope(|scope| {
            for thread in 0..2 * OWNERS {
                let verdict = [Verdict::Absent, Verdict::Maybe][thread % 2];
                let tally = &tally;
                scope.spawn(move || (0..1_000).for_each(|_| tally.count(verdict)));
            }
        });
        let half = OWNERS as u64 * 1_000;
        assert_eq!(tally.sum(), Checks { absent: half, maybe: half, unknown: 0 });
    }
}
