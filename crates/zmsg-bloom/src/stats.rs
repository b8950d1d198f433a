//! What a filter holds and how it answered.

/// A snapshot of a filter. Its numbers are read one after the other, so they may be a few
/// operations apart.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterStats {
    /// Whether it can say "absent", and if not, why.
    pub state: FilterState,
    /// True while a rebuild runs.
    pub rebuilding: bool,
    /// Keys the answering generation was sized for.
    pub capacity: u64,
    /// The rate of wrong "maybe" at that number of keys, between 0 and 1.
    pub error_rate: f64,
    /// Bits of the answering generation.
    pub bits: u64,
    /// Bits set for each key.
    pub hashes: u32,
    /// Different keys in the answering generation, estimated from the bits that are set.
    pub inserted: u64,
    /// Bits that are set, as a part of all, between 0 and 1. About one half at capacity.
    pub fill_ratio: f64,
    /// Answers of `check` since the filter was made.
    pub checks: Checks,
    /// Rebuilds that ended with a new generation.
    pub rebuilds: u64,
    /// True if a rebuild is due and none runs: the filter cannot say "absent", or it holds more
    /// keys than it was sized for.
    pub wants_rebuild: bool,
}

/// Answers by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// Keys ruled out.
    pub absent: u64,
    /// Keys that may exist.
    pub maybe: u64,
    /// Keys the filter could say nothing about.
    pub unknown: u64,
}

/// Whether a filter can say "absent", and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterState {
    /// It rules nothing out by design.
    Open,
    /// No rebuild has ended yet.
    Unseeded,
    /// It answers.
    Ready,
    /// It holds so many more keys than it was sized for that it is of no use.
    OverFilled,
    /// Rows were written whose keys it was not told.
    Distrusted,
    /// Its backend lost bits, or did not take a key.
    Lost,
    /// Its backend, or the database that keeps its state, cannot be reached.
    Away,
}
