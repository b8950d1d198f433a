//! The buffer: operations fold here until a flush seals them.
//!
//! [`Incoming`] is a validated write, [`Batch`] the ordered entries of one batch key and the rule
//! by which they fold, [`Shard`] a lock around the batches of some keys with their sequence.

mod batch;
mod commute;
mod entry;
mod incoming;
mod shard; // start here
mod target;

pub(crate) use batch::Batch;
pub(crate) use commute::commute;
pub(crate) use entry::{Entry, Folding, Work};
pub(crate) use incoming::{BatchKey, Incoming};
pub(crate) use shard::{Accepted, Load, Sealed, SealedInfo, Shard};
pub(crate) use target::{Target, same_name};
