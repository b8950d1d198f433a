//! Ranks drawn by Zipf's law: few are wanted often.

/// A Zipf distribution over ranks `0..n`, by a table of cumulated weights.
#[derive(Debug)]
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=n).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(cumulated.collect())
    }

    pub(crate) fn rank(&self, random: &mut fastrand::Rng) -> usize {
        let total = self.0.last().copied().unwrap_or(1.0);
        let drawn = random.f64() * total;
        self.0.partition_point(|cumulated| *cumulated < drawn).min(self.0.len().saturating_sub(1))
    }
}
