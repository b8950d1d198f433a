//! What a generator has done so far.

use std::time::Duration;

use zmsg_core::UnixMillis;

/// A reading of a generator's counters. They are read one by one while ids are being made, so
/// they agree with each other only when it rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdStats {
    /// Ids made, including those of batches that were not used.
    pub issued: u64,
    /// By how many milliseconds the last id is ahead of the wall clock.
    pub borrowed_ms: u64,
    /// Times a caller had to wait: for the time to come, or for the ceiling to be raised.
    pub waits: u64,
    /// Milliseconds whose sequence was used up before the wall clock left them.
    pub overflows: u64,
    /// Times the wall clock was seen going back by 50 ms or more.
    pub rollbacks: u64,
    /// Leases lost to another holder.
    pub leases_lost: u64,
    /// The node that is held; `None` after a lost lease and after `close`.
    pub node: Option<u32>,
    /// The first time that may not be used yet, in milliseconds since the Unix epoch.
    pub ceiling_ms: UnixMillis,
    /// How long the backend keeps the node without hearing of its holder; [`Duration::MAX`] for
    /// as long as the process lives, zero when no lease is held. Ids go on after it, up to the
    /// ceiling. It does not count the time for which the machine was suspended, until the next
    /// request to the backend has told what became of the lease meanwhile.
    pub lease_remaining: Duration,
}
