//! Ranks by Zipf's law: few keys are asked for often, most of them rarely.

/// Draws ranks 0 to n−1, where rank r comes up in proportion to 1 / (r+1)^s.
#[derive(Debug)]
pub struct Zipf {
    /// The probability of a rank up to and including each.
    cumulated: Vec<f64>,
    random: fastrand::Rng,
}

impl Zipf {
    /// Ranks below `n` with exponent `s`; the same sequence on every run.
    pub fn new(n: usize, s: f64) -> Self {
        let weights = (1..=n).map(|rank| (rank as f64).powf(-s));
        let total: f64 = weights.clone().sum();
        let cumulated = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        Self { cumulated, random: fastrand::Rng::with_seed(7) }
    }

    /// The next rank.
    pub fn draw(&mut self) -> usize {
        let point = self.random.f64();
        self.rank(point)
    }

    /// The rank of a point between 0 and 1, by inversion of the distribution: for many that draw from one
    /// distribution, each with a source of chance of its own.
    pub fn rank(&self, point: f64) -> usize {
        self.cumulated.partition_point(|up_to| *up_to < point).min(self.cumulated.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_comes_up_about_twice_as_often_as_the_second() {
        let mut zipf = Zipf::new(1_000, 1.0);
        let mut seen = vec![0u32; 1_000];
        (0..100_000).for_each(|_| seen[zipf.draw()] += 1);
        let ratio = f64::from(seen[0]) / f64::from(seen[1]);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
    }
}
