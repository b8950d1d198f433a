//! When the calls of an open loop are to begin.

use std::time::Duration;

use super::workload::Arriving;

/// Distances from the beginning of a run, without an end.
#[derive(Debug)]
pub(super) struct Arrivals {
    arriving: Arriving,
    /// Seconds from one to the next, on average.
    gap: f64,
    /// How many came before.
    count: u64,
    /// The last one, in seconds.
    last: f64,
    random: fastrand::Rng,
}

impl Arrivals {
    pub(super) fn new(rate: f64, arriving: Arriving, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { arriving, gap: 1.0 / rate, count: 0, last: 0.0, random }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.last = match self.arriving {
            // Not a sum: that would drift.
            Arriving::Fixed => self.count as f64 * self.gap,
            // The logarithm of what is never 0.
            Arriving::Poisson => self.last - self.gap * (1.0 - self.random.f64()).ln(),
        };
        self.count += 1;
        Some(Duration::from_secs_f64(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_arrivals_have_equal_distances_and_do_not_drift() {
        let mut arrivals = Arrivals::new(3.0, Arriving::Fixed, 1);
        assert_eq!(arrivals.next(), Some(Duration::ZERO));
        assert_eq!(arrivals.nth(299_998), Some(Duration::from_secs_f64(299_999.0 / 3.0)));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_an_exponential() {
        let times: Vec<f64> = Arrivals::new(1_000.0, Arriving::Poisson, 1)
            .take(100_000)
            .map(|at| at.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.97e-3..1.03e-3).contains(&mean), "{mean}");
        assert!((0.97..1.03).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt());
    }
}
