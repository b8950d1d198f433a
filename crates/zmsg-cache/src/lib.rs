//! The two cache tiers, single flight, and the fences that keep stale values out.
//!
//! [`TieredCache`] is what an engine holds. A read looks at L1 ([`LocalCache`], in this process)
//! without a future or a lock of ours, or at this thread's own copy of a hot value; on a miss one
//! flight per key asks L2 ([`RemoteCache`], shared by the nodes) and then the [`Origin`], and fills both. A write is bracketed:
//! [`begin_write`](TieredCache::begin_write) fences the key in both tiers, the caller commits,
//! [`publish`](TieredCache::publish) shows the value, unless somebody else may have committed a
//! newer one.
//!
//! What this keeps true, with the tests that show it in `tests/it`:
//!
//! - A load that a write, a delete or an invalidation overtook fills nothing.
//! - Two writers that commit A, B and publish B, A leave no stale value.
//! - On the node that wrote, a read that begins after the write returned never sees an older value.
//! - On another node L1 may lag by at most [`CachePolicy::local_ttl`].
//! - A key that changes all the time is still a cache hit in between: what was loaded while L2 has a
//!   hold is kept in L1, for as long as a hold lasts.
//!
//! L1 is [`QuickCache`], or with the features `moka` and `stretto` one on those crates, which keep
//! the same promises.
//!
//! Read it in this order.

mod tiers;

mod read;
mod show;
mod write;

mod fence;
mod flight;
mod front;

mod local;
#[cfg(feature = "moka")]
mod moka;
mod quick;
#[cfg(feature = "stretto")]
mod stretto;

mod memory_remote;
mod no_remote;
#[cfg(feature = "redis")]
mod redis_remote;
mod remote;

mod origin;
mod policy;
mod stats;

#[cfg(feature = "conformance")]
pub mod conformance;

#[cfg(feature = "moka")]
pub use self::moka::MokaCache;
#[cfg(feature = "stretto")]
pub use self::stretto::StrettoCache;
pub use local::{Entry, LocalCache};
pub use memory_remote::MemoryRemote;
pub use no_remote::NoRemote;
pub use origin::Origin;
pub use policy::CachePolicy;
pub use quick::QuickCache;
#[cfg(feature = "redis")]
pub use redis_remote::{RedisCache, RedisCacheStats};
pub use remote::{HoldToken, Lookup, RemoteCache, RemoteEntry, Stretch};
pub use stats::CacheStats;
pub use tiers::TieredCache;
pub use write::WriteHold;
