//! When an operation is to blame for running too long, and not a database that is slow for all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zmsg_core::{Error, Millis};

/// What decides when an operation that the database stops each time is given up.
///
/// A statement that is stopped (SQLSTATE 57014) can be slow by itself, or wait for a lock, or meet
/// a database that is slow for everybody. Waits for locks are told apart by the server, see
/// [`Ledger::watchful`](super::Ledger::watchful). Against the last one stands time: an operation is
/// to blame once it was stopped alone [`ALONE_MIN`] times, in transactions whose own statements
/// went through, over [`max`](Self::max), and something else took effect meanwhile; with nothing
/// else to compare with, over [`UNCOMPARED`] times as long.
#[derive(Debug)]
pub(crate) struct Patience {
    max: Duration,
    /// Transactions of this process that changed rows.
    landed: AtomicU64,
}

/// One operation that was stopped alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    since: Millis,
    landed: u64,
    times: u32,
}

/// An operation is stopped alone so often at least before it is to blame.
const ALONE_MIN: u32 = 3;

/// How many times as long it is tried where nothing else took effect meanwhile.
const UNCOMPARED: u32 = 10;

impl Patience {
    pub(crate) fn new(max: Duration) -> Self {
        Self { max, landed: AtomicU64::new(0) }
    }

    /// A transaction that changes rows took effect.
    pub(super) fn note_landed(&self) {
        self.landed.fetch_add(1, Relaxed);
    }

    /// Nothing is known yet of an operation that is suspected now.
    pub(super) fn suspicion(&self, now: Millis) -> Suspicion {
        Suspicion { since: now, landed: self.landed.load(Relaxed), times: 0 }
    }

    /// Counts that the operation was stopped once more; whether it is to blame.
    pub(super) fn is_over(&self, suspicion: &mut Suspicion, now: Millis) -> bool {
        suspicion.times = suspicion.times.saturating_add(1);
        let compared = self.landed.load(Relaxed) > suspicion.landed;
        let max = if compared { self.max } else { self.max.saturating_mul(UNCOMPARED) };
        let waited = Duration::from_millis(now.saturating_sub(suspicion.since));
        suspicion.times >= ALONE_MIN && waited >= max
    }
}

impl Suspicion {
    /// Why the operation is given up.
    pub(super) fn verdict(&self, error: Error) -> Error {
        error.exhausted().with_context("stopped alone", format!("{} times", self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(30);

    /// Whether an operation that is stopped every `step` milliseconds is to blame, and when.
    fn blamed_after(patience: &Patience, step: Millis, others: bool) -> Millis {
        let mut suspicion = patience.suspicion(0);
        let mut now = 0;
        while !patience.is_over(&mut suspicion, now) {
            now += step;
            if others {
                patience.note_landed();
            }
        }
        now
    }

    #[test]
    fn an_operation_is_to_blame_after_three_stops_and_the_patience_if_others_take_effect() {
        assert_eq!(blamed_after(&Patience::new(MAX), 1_000, true), 30_000);
        assert_eq!(blamed_after(&Patience::new(MAX), 60_000, true), 120_000);
    }

    #[test]
    fn while_nothing_else_takes_effect_it_is_tried_ten_times_as_long() {
        assert_eq!(blamed_after(&Patience::new(MAX), 1_000, false), 300_000);
    }

    #[test]
    fn what_took_effect_before_the_first_stop_is_no_comparison() {
        let patience = Patience::new(MAX);
        patience.note_landed();
        assert_eq!(blamed_after(&patience, 1_000, false), 300_000);
    }
}
