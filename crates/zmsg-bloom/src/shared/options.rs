//! How a shared filter is made.

use std::time::Duration;

use zmsg_core::{Error, Result};

use crate::Params;

/// The options of a [`SharedFilter`](super::SharedFilter).
///
/// Nodes may differ in all but `lease`. Size and rate count for the generations that this node
/// builds; those that others built are read as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedOptions {
    /// Keys a generation is sized for at least.
    pub capacity: u64,
    /// The rate of wrong "maybe" at that number of keys, between 1e-9 and 0.5.
    pub error_rate: f64,
    /// How long a node may trust what it read of the state, at most one second. **The same on all
    /// nodes**: whoever takes a generation's trust away waits one lease and a quarter.
    pub lease: Duration,
    /// How long a builder may be silent before another node takes its rebuild over.
    pub takeover_after: Duration,
    /// Bits of one string at most: it bounds how long the server is busy with making or freeing it.
    pub segment_bits_max: u64,
}

impl Default for SharedOptions {
    /// A million keys at 1 %, a lease of 800 ms, strings of at most 8 MB.
    fn default() -> Self {
        Self {
            capacity: 1_000_000,
            error_rate: 0.01,
            lease: Duration::from_millis(800),
            takeover_after: Duration::from_secs(30),
            segment_bits_max: 1 << 26,
        }
    }
}

impl SharedOptions {
    /// The longest lease.
    pub const LEASE_MAX: Duration = Duration::from_secs(1);

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        Params::new(self.capacity, self.error_rate)?;
        if self.lease < Duration::from_millis(1) || self.lease > Self::LEASE_MAX {
            return Err(Error::invalid_config("the lease of a shared filter is from 1 ms to 1 s")
                .with_context("lease", format!("{:?}", self.lease)));
        }
        if !(64..=1 << 31).contains(&self.segment_bits_max) {
            return Err(Error::invalid_config("a segment has from 64 to 2^31 bits")
                .with_context("segment_bits_max", self.segment_bits_max));
        }
        Ok(())
    }

    /// After which time no lease is left that was taken before: a quarter more, for clocks that run
    /// at different speeds and tick coarsely.
    pub(crate) fn grace(&self) -> Duration {
        self.lease + self.lease / 4 + Duration::from_millis(10)
    }
}
