//! Seeks the batch size at which an item costs least.

use std::time::Duration;

use super::config::BatchSize;

/// The size of the next batch. A step follows each full batch: on in the same direction while an
/// item gets cheaper, back when it gets dearer by more than the noise.
#[derive(Debug)]
pub(super) struct Sizer {
    min: usize,
    max: usize,
    size: usize,
    /// Nanoseconds for an item, smoothed; 0 before the first batch.
    cost: f64,
    growing: bool,
}

/// How much of a new measurement counts.
const SMOOTHING: f64 = 0.3;
/// What is noise.
const NOISE: f64 = 0.05;

impl Sizer {
    pub(super) fn new(size: BatchSize) -> Self {
        let (min, size, max) = match size {
            BatchSize::Fixed(size) => (size, size, size),
            BatchSize::Adaptive { min, start, max } => (min, start, max),
        };
        Self { min, max, size, cost: 0.0, growing: true }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A batch of `items` was delivered in `took`. One that was not full says nothing of the size.
    pub(super) fn delivered(&mut self, items: usize, took: Duration) {
        if items < self.size || self.min == self.max {
            return;
        }
        let cost = took.as_nanos() as f64 / items as f64;
        if self.cost == 0.0 {
            self.cost = cost;
        }
        if cost > self.cost * (1.0 + NOISE) {
            self.growing = !self.growing;
        }
        self.cost += SMOOTHING * (cost - self.cost);
        let step = (self.size / 10).max(1);
        let size = if self.growing { self.size + step } else { self.size.saturating_sub(step) };
        self.size = size.clamp(self.min, self.max);
        // At a bound there is only one way to go on.
        if self.size == self.max {
            self.growing = false;
        } else if self.size == self.min {
            self.growing = true;
        }
    }

    /// A batch of that size was too much for the sink's time.
    pub(super) fn timed_out(&mut self) {
        self.size = (self.size / 2).max(self.min);
        (self.cost, self.growing) = (0.0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizer() -> Sizer {
        Sizer::new(BatchSize::Adaptive { min: 100, start: 1_000, max: 5_000 })
    }

    /// Microseconds for a batch: a call, each item, and what grows with the square.
    fn run(sizer: &mut Sizer, cost: impl Fn(f64) -> f64) -> usize {
        let mut sizes = Vec::new();
        for _ in 0..400 {
            let size = sizer.size();
            sizer.delivered(size, Duration::from_nanos((cost(size as f64) * 1_000.0) as u64));
            sizes.push(size);
        }
        let last = &sizes[300..];
        last.iter().sum::<usize>() / last.len()
    }

    #[test]
    fn it_grows_where_a_call_costs_more_than_its_items() {
        let size = run(&mut sizer(), |n| 10_000.0 + n);
        assert!(size > 4_000, "{size}");
    }

    #[test]
    fn it_shrinks_where_large_batches_cost_more_for_each_item() {
        // Cheapest at 200.
        let size = run(&mut sizer(), |n| 400.0 + n * n / 100.0);
        assert!((100..500).contains(&size), "{size}");
    }

    #[test]
    fn it_stays_within_its_bounds_and_a_fixed_size_stays() {
        let mut sizer = sizer();
        for _ in 0..20 {
            sizer.timed_out();
        }
        assert_eq!(sizer.size(), 100);
        let mut fixed = Sizer::new(BatchSize::Fixed(7));
        fixed.delivered(7, Duration::from_secs(1));
        fixed.timed_out();
        assert_eq!(fixed.size(), 7);
    }

    #[test]
    fn a_batch_that_was_not_full_says_nothing() {
        let mut sizer = sizer();
        sizer.delivered(3, Duration::from_secs(9));
        assert_eq!(sizer.size(), 1_000);
    }
}
