//! The lease of a node number: the contract, and what travels through it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Result, UnixMillis};

use crate::Layout;

/// Where node numbers come from, each with a reserved stretch of time.
///
/// A holder of a node makes ids from `floor_ms` up to, not including, `ceiling_ms`. It stays
/// below the ceiling even when it does not know that it lost the lease, and that is what keeps ids
/// unique: nobody can stop a process that hangs between a check and its next step.
///
/// - A node is leased to one holder at a time, and its number fits the layout.
/// - When every node is held, `acquire` says so; it never shares one.
/// - The floor of a lease is at or above every ceiling that was promised for its node before,
///   whatever the clocks say, unless the holder released it: then above the last time it issued.
/// - A ceiling is durable before `acquire` or `extend` returns it, and survives a crash.
/// - A ceiling only rises, save by `release`: asked for a lower one, `extend` keeps the stored one.
/// - Each acquisition of a node has a higher epoch than the one before. A lease that is no longer
///   its holder's can be neither extended nor released, and trying changes nothing.
/// - The layout is stored with the first lease; another one is refused.
#[async_trait]
pub trait NodeLease: fmt::Debug + Send + Sync + 'static {
    /// Leases a free node, preferably the one that lay idle longest, and reserves time for it.
    ///
    /// # Errors
    /// `Conflict`, temporary, when every node is held; `InvalidConfig` for another layout than the
    /// stored one; `Corrupted` when a stored ceiling cannot be read; else as the backend fails.
    ///
    /// # Cancel safety
    /// A node that was leased for a dropped future becomes free again, at the latest when the
    /// lease ends by itself or the backend is dropped. Nothing else remains.
    async fn acquire(&self, want: Reserve) -> Result<Lease>;

    /// Raises the ceiling to at least `ceiling_ms`, durably, and renews the lease.
    ///
    /// # Errors
    /// `Conflict` when the lease is no longer the holder's; else as the backend fails: the
    /// ceiling may then have been raised or not, and neither does harm.
    ///
    /// # Cancel safety
    /// After a dropped future the ceiling may have been raised or not.
    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease>;

    /// Gives the node back and lowers its ceiling to just above `last_issued_ms`, never below
    /// the lease's floor. The holder must have stopped making ids for good.
    ///
    /// # Errors
    /// `Conflict` when the lease is no longer the holder's; else as the backend fails: the node
    /// may then stay held until the lease ends, with its ceiling as it was.
    ///
    /// # Cancel safety
    /// After a dropped future the node may have been given back or not.
    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()>;
}

/// What a holder asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// The layout of the ids: how many nodes there are, and since when.
    pub layout: Layout,
    /// The time from which the holder wants to make ids, by its own clock. A backend with a clock
    /// of its own goes by that one and may ignore this.
    pub from_ms: UnixMillis,
    /// How far the ceiling should lie above that time and above the floor.
    pub ahead: Duration,
}

/// A node, held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The number of the node.
    pub node: u32,
    /// Which acquisition of the node this is; rises with each.
    pub epoch: u64,
    /// Whose it is: a new name for each acquisition.
    pub owner: Uuid,
    /// The first time that the holder may use, in milliseconds since the Unix epoch.
    pub floor_ms: UnixMillis,
    /// The first time that the holder may not use, in milliseconds since the Unix epoch.
    pub ceiling_ms: UnixMillis,
    /// How long the backend keeps the node for its holder without hearing of it;
    /// [`Duration::MAX`] for as long as the process lives. The holder counts it from *before* it
    /// sent the request, on a monotonic clock.
    pub valid_for: Duration,
}

impl Reserve {
    /// The ceiling over a node whose earlier promises end at `floor_ms`, at the time `now_ms`.
    pub fn ceiling_ms(&self, floor_ms: UnixMillis, now_ms: UnixMillis) -> UnixMillis {
        floor_ms.max(now_ms).saturating_add(millis(self.ahead))
    }
}

impl Lease {
    /// The ceiling that a release leaves behind: above everything issued under this lease and
    /// under those before it.
    pub fn ceiling_after(&self, last_issued_ms: UnixMillis) -> UnixMillis {
        last_issued_ms.saturating_add(1).max(self.floor_ms)
    }
}

/// Whole milliseconds; the longest durations count as for ever.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
