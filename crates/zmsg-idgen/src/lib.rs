//! Snowflake ids by reservation, and the leases of their node numbers.
//!
//! An id is 63 bits of time, node and sequence ([`Layout`]). Its node number is leased
//! ([`NodeLease`]), and with the number comes a *ceiling*: the holder only uses times below a
//! ceiling that was stored before, and whoever leases the node next starts above it. Uniqueness
//! therefore depends on no clock, no heartbeat and no prompt stop of a holder that lost its
//! lease; the wall clock only chooses how far along an id is.
//!
//! Start with [`IdGenerator`], then [`NodeLease`].

mod batch;
mod generator; // start here
mod keeper;
mod options;
mod sequence;
mod stats;
mod tenure;

mod id;
mod layout;

mod ceiling;
mod file;
mod fixed;
mod held;
mod lease;
mod memory;
mod slot;
#[cfg(feature = "sql")]
mod sql;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use batch::IdBatch;
pub use file::FileLease;
pub use fixed::FixedLease;
pub use generator::IdGenerator;
pub use id::{Id, RawId};
pub use keeper::LeaseKeeper;
pub use layout::{IdParts, Layout};
pub use lease::{Lease, NodeLease, Reserve};
pub use memory::MemoryLeases;
pub use options::{IdOptions, Rollback};
#[cfg(feature = "sql")]
pub use sql::{HeldNode, SqlLease, SqlLeaseOptions, held_nodes};
pub use stats::IdStats;
