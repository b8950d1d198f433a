//! What the cache promises, on real tiers and with every race held open by a gate.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod local_quick;
mod remote_memory;
mod remote_none;

mod batches;
mod failures;
mod fences;
mod flights;
mod lifetimes;
mod model;
mod reads;
mod shows;
mod writes;

mod support;
