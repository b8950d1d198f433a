//! The size of a filter, from how many keys it shall hold and how often it may be wrong.

use std::f64::consts::LN_2;

use zmsg_core::{Error, Result};

/// How far over its capacity a filter still answers.
///
/// At 1.5 times its capacity a filter made for 1 % is wrong 6 % of the time; beyond that a lookup
/// is hardly worth its own cost.
const OVERFILL: f64 = 1.5;

/// Size and number of hashes of a filter: m bits and k hashes for n keys at a rate p of wrong
/// "maybe".
///
/// m = −n·ln p / (ln 2)², k = m/n · ln 2 (B. H. Bloom, Space/Time Trade-offs in Hash Coding with
/// Allowable Errors, CACM 1970; A. Broder & M. Mitzenmacher, Network Applications of Bloom
/// Filters, Internet Mathematics 2004).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    capacity: u64,
    error_rate: f64,
    bits: u64,
    hashes: u32,
}

impl Params {
    /// The most bits of one filter: those of the longest Redis string, 512 MB.
    pub const BITS_MAX: u64 = 1 << 32;

    /// The lowest rate of wrong answers.
    pub const ERROR_RATE_MIN: f64 = 1e-9;

    /// The highest rate of wrong answers.
    pub const ERROR_RATE_MAX: f64 = 0.5;

    /// The size for `capacity` keys at `error_rate`, a part between 0 and 1.
    ///
    /// # Errors
    /// `InvalidConfig` for a capacity of zero, a rate outside
    /// [`ERROR_RATE_MIN`](Self::ERROR_RATE_MIN)`..=`[`ERROR_RATE_MAX`](Self::ERROR_RATE_MAX), or
    /// a size over [`BITS_MAX`](Self::BITS_MAX).
    pub fn new(capacity: u64, error_rate: f64) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::invalid_config("the capacity of a filter must not be zero"));
        }
        if !(Self::ERROR_RATE_MIN..=Self::ERROR_RATE_MAX).contains(&error_rate) {
            return Err(Error::invalid_config("the error rate is from 1e-9 to 0.5")
                .with_context("error_rate", error_rate));
        }
        let bits = (-(capacity as f64) * error_rate.ln() / (LN_2 * LN_2)).ceil();
        if bits > Self::BITS_MAX as f64 {
            return Err(Error::invalid_config("a filter has at most 512 MB")
                .with_context("capacity", capacity)
                .with_context("error_rate", error_rate)
                .with_context("bits", bits));
        }
        let hashes = (bits / capacity as f64 * LN_2).round().max(1.0);
        Ok(Self { capacity, error_rate, bits: bits as u64, hashes: hashes as u32 })
    }

    /// Keys the size was made for.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The rate of wrong "maybe" at capacity, between 0 and 1.
    pub fn error_rate(&self) -> f64 {
        self.error_rate
    }

    /// Bits of the filter.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Bits set for each key.
    pub fn hashes(&self) -> u32 {
        self.hashes
    }

    /// How many different keys set `ones` bits: −m/k · ln(1 − X/m) (S. J. Swamidass & P. Baldi,
    /// Mathematical Correction for Fingerprint Similarity Measures to Improve Chemical Retrieval,
    /// J. Chem. Inf. Model. 2007).
    pub fn estimate_keys(&self, ones: u64) -> u64 {
        let bits = self.bits as f64;
        // A full filter has no finite estimate; one free bit stands for it.
        let ones = (ones as f64).min(bits - 1.0);
        (-bits / f64::from(self.hashes) * (-ones / bits).ln_1p()).round() as u64
    }

    /// The number of set bits above which the filter counts as over-filled: what one and a half
    /// times its capacity would set.
    ///
    /// It follows from the capacity and is not one half: a filter of optimal size is half full
    /// exactly when it holds what it was made for.
    pub fn ones_max(&self) -> u64 {
        let bits = self.bits as f64;
        let set = f64::from(self.hashes) * OVERFILL * self.capacity as f64;
        (bits * -(-set / bits).exp_m1()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_keys_at_one_percent_take_one_point_two_megabytes_and_seven_hashes() {
        let params = Params::new(1_000_000, 0.01).unwrap();
        assert_eq!((params.bits(), params.hashes()), (9_585_059, 7));
    }

    #[test]
    fn sizes_that_cannot_work_are_refused() {
        for (capacity, rate) in [
            (0, 0.01),
            (1, 0.0),
            (1, -0.1),
            (1, 0.51),
            (1, 1.0),
            (1, f64::NAN),
            (1, f64::INFINITY),
            (448_100_000, 0.01),
            (u64::MAX, 0.01),
        ] {
            assert!(Params::new(capacity, rate).is_err(), "{capacity} keys at {rate}");
        }
        for (capacity, rate) in [(1, 0.5), (1, 1e-9), (448_000_000, 0.01)] {
            assert!(Params::new(capacity, rate).is_ok(), "{capacity} keys at {rate}");
        }
    }

    #[test]
    fn the_estimate_is_near_for_every_fill_and_finite_when_full() {
        let params = Params::new(100_000, 0.01).unwrap();
        let bits = params.bits() as f64;
        for keys in [0u64, 1, 1_000, 100_000, 200_000] {
            let ones = bits * -(-(keys as f64) * f64::from(params.hashes()) / bits).exp_m1();
            let estimate = params.estimate_keys(ones.round() as u64);
            assert!(estimate.abs_diff(keys) <= 1 + keys / 1_000, "{keys}: {estimate}");
        }
        assert!(params.estimate_keys(params.bits()) < 100_000_000);
    }

    #[test]
    fn a_filter_at_its_capacity_is_not_over_filled() {
        for rate in [0.5, 0.1, 0.01, 1e-9] {
            for capacity in [1, 10, 1_000_000] {
                let params = Params::new(capacity, rate).unwrap();
                let expected = params.estimate_keys(params.ones_max());
                assert!(expected >= capacity, "{capacity} keys at {rate}: {expected}");
                assert!(params.ones_max() <= params.bits());
            }
        }
    }
}
