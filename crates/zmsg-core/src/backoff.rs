//! Delays between attempts.

use std::time::Duration;

/// Exponential delays with a cap and jitter. It counts; it never sleeps.
///
/// The delay before attempt n+1 is drawn evenly from the upper half of `base · 2^n`, capped:
/// the first is never zero, and callers that failed together do not come back together
/// ("equal jitter"; M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Delays from `base`, doubling up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The delay after `failures` attempts have failed; 1 is the first.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = whole / 2;
        half + half.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_start_above_zero() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for failures in 1..=40 {
            let whole =
                Duration::from_millis(100 << (failures - 1).min(20)).min(Duration::from_secs(5));
            let delay = backoff.delay(failures);
            assert!(delay >= whole / 2 && delay <= whole, "{failures}: {delay:?}");
        }
    }
}
