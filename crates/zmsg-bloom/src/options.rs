//! How a filter of this process is made.

use std::fmt;

/// The options of a [`LocalFilter`](crate::LocalFilter).
#[derive(Clone, Copy, PartialEq)]
pub struct FilterOptions {
    /// Keys it is sized for at least. A rebuild that expects more makes a larger generation.
    pub capacity: u64,
    /// The rate of wrong "maybe" at that number of keys, between 1e-9 and 0.5.
    pub error_rate: f64,
    /// The seed of the hash; a random one if there is none, so that nobody can make keys that
    /// collide.
    pub seed: Option<u64>,
}

impl Default for FilterOptions {
    /// A million keys at 1 %: 1.2 MB and seven hashes.
    fn default() -> Self {
        Self { capacity: 1_000_000, error_rate: 0.01, seed: None }
    }
}

/// Tells whether there is a seed, not which.
impl fmt::Debug for FilterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterOptions")
            .field("capacity", &self.capacity)
            .field("error_rate", &self.error_rate)
            .field("seeded", &self.seed.is_some())
            .finish()
    }
}
