//! Which row a call is about.

use std::sync::Arc;

use super::workload::Keys;
use crate::Zipf;

/// Draws rows. Clones share the distribution: it is a number for each row.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    /// All alike, below this.
    Uniform(usize),
    /// The lower its number, the more often a row is asked for.
    Zipf(Arc<Zipf>),
}

impl Rows {
    pub(super) fn of(keys: &Keys) -> Self {
        match keys.zipf {
            None => Self::Uniform(keys.rows),
            Some(exponent) => Self::Zipf(Arc::new(Zipf::new(keys.rows, exponent))),
        }
    }

    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        match self {
            Self::Uniform(rows) => random.usize(..rows),
            Self::Zipf(zipf) => zipf.rank(random.f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_table() {
        let keys = |zipf| Keys { rows: 8, zipf, value_bytes: 1, many: 1 };
        let mut random = fastrand::Rng::with_seed(1);
        for rows in [Rows::of(&keys(None)), Rows::of(&keys(Some(0.99)))] {
            let mut seen = [0; 8];
            (0..4_000).for_each(|_| seen[rows.draw(&mut random)] += 1);
            assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
            let first_is_hot = seen[0] > 2 * seen[7];
            assert_eq!(first_is_hot, matches!(rows, Rows::Zipf(_)), "{seen:?}");
        }
    }
}
