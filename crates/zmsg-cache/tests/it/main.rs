//! What the cache promises, on real tiers and with every race held open by a gate.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[cfg(feature = "moka")]
mod local_moka;
mod local_quick;
#[cfg(feature = "stretto")]
mod local_stretto;
mod remote_memory;
mod remote_none;
#[cfg(feature = "redis")]
mod remote_redis;
#[cfg(feature = "redis")]
mod remote_redis_history;
#[cfg(feature = "redis")]
mod remote_redis_nodes;

mod batches;
mod failures;
mod fences;
mod flights;
mod hot;
mod lifetimes;
mod model;
mod reads;
mod refusals;
mod shows;
mod writes;

mod support;
