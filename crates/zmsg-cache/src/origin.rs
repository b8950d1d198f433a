//! What stands behind the tiers.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Key, Result};

/// Where a value comes from that no tier has: a source of the engine, or a caller's loader.
///
/// - `load` reads the newest committed state, from the primary: a replica that lags would fill the
///   tiers with what a write just replaced.
/// - "Absent" from `rules_out` and `confirm_absent` is never false.
#[async_trait]
pub trait Origin: fmt::Debug + Send + Sync + 'static {
    /// Answers from memory whether the key is surely absent. `false` means maybe present.
    fn rules_out(&self, _key: &Key) -> bool {
        false
    }

    /// Asked after L2 missed, when [`rules_out`](Self::rules_out) says absent and before that is final:
    /// is the key absent for every node?
    ///
    /// # Errors
    /// If that cannot be found out; the key then counts as maybe present and is loaded.
    async fn confirm_absent(&self, _key: &Key) -> Result<bool> {
        Ok(true)
    }

    /// Loads the value; `None` if there is none.
    ///
    /// # Errors
    /// Whatever the store says. All who wait for this load receive it, and nothing is cached.
    ///
    /// # Cancel safety
    /// The future is dropped when [`CachePolicy::load_timeout`](crate::CachePolicy::load_timeout)
    /// has passed.
    async fn load(&self, key: &Key) -> Result<Option<Bytes>>;

    /// How long loaded values live, if not as the policy says.
    fn ttl(&self) -> Option<Duration> {
        None
    }
}
