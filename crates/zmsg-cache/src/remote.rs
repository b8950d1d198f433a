//! L2: the cache that the nodes share.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;
use zmsg_core::{Key, Level, Result};

/// What L2 has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEntry {
    /// The value; `None` if the key is known to be absent.
    pub value: Option<Bytes>,
    /// How long the entry has left.
    pub ttl_left: Duration,
}

/// Names the writer that holds a key. Unique over all nodes and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoldToken(pub Uuid);

impl HoldToken {
    /// A token that nobody else has.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A map that the nodes share, in which each key has a value, a hold, or nothing.
///
/// A **hold** stands where a value would: it reads as a miss and keeps fills out while a writer
/// is at work, or after one, until it expires.
///
/// - Each call is atomic for its key, and every node sees its effect once it returned.
/// - An entry and a hold end when their TTL has passed; nothing lives without a TTL.
/// - `fill` never replaces anything: it bounces off a value, an "absent", and a hold.
/// - `publish` succeeds only while the hold is the caller's, unexpired, and nobody else has touched
///   the key since: no second hold, no `set`, no `invalidate`.
/// - After `invalidate`, the key reads as a miss and fills bounce until the hold has passed.
/// - Calls end in bounded time: a backend brings its own deadlines.
/// - An error means that the effect is unknown.
///
/// A backend that may drop a hold early (by eviction) weakens the fence to the TTL of the values.
#[async_trait]
pub trait RemoteCache: fmt::Debug + Send + Sync + 'static {
    /// How durable a value is that was `set` here.
    fn level(&self) -> Level;

    /// False if nothing that is stored here can be read back: there is no L2.
    fn retains(&self) -> bool {
        true
    }

    /// The entry under a key; a hold reads as a miss.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` if the cache cannot be asked.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    async fn get(&self, key: &Key) -> Result<Option<RemoteEntry>>;

    /// The entries under these keys, in their order, one answer for each.
    ///
    /// # Errors
    /// As for [`get`](Self::get); there is no partial answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<RemoteEntry>>>;

    /// Stores what a load found, if the key has neither a value nor a hold. Tells whether it did.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the fill may have happened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the fill done or not done.
    async fn fill(&self, key: &Key, value: Option<&Bytes>, ttl: Duration) -> Result<bool>;

    /// Removes the value and leaves a hold of `token`. On a key that another token holds, the hold
    /// becomes contended: nobody publishes until it expires. One that nobody holds after an
    /// invalidation becomes the caller's. A hold is never shortened by a later one.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the hold may be there.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the hold there or not.
    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()>;

    /// Puts a committed value (`None`: the row was deleted) in place of the caller's hold, if that
    /// is still the caller's alone and has not expired. Tells whether it did; else nothing changes.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the value may be there.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the value there or not.
    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool>;

    /// Puts a value under a key in place of whatever is there, a hold included.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the value may be there.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the value there or not.
    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()>;

    /// Removes whatever is there and leaves a hold of nobody, so that late fills and publications
    /// bounce. A hold that it meets becomes contended.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the entry may still be there: call again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it done or not done.
    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()>;

    /// [`invalidate`](Self::invalidate) for many keys: all are tried, whether one fails or not.
    ///
    /// # Errors
    /// As for [`get`](Self::get); any of the entries may still be there: call again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it done for some of the keys.
    async fn invalidate_many(&self, keys: &[Key], hold: Duration) -> Result<()> {
        let mut ended = Ok(());
        for key in keys {
            ended = ended.and(self.invalidate(key, hold).await);
        }
        ended
    }
}
