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

/// What L2 says of a key, and in which stretch of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The entry; `None` for a miss, and a hold is one.
    pub entry: Option<RemoteEntry>,
    /// What [`fill`](RemoteCache::fill) is told after a miss.
    pub at: Stretch,
}

impl Lookup {
    /// The answer of a cache that forgets nothing.
    pub fn only(entry: Option<RemoteEntry>) -> Self {
        Self { entry, at: Stretch::ONLY }
    }
}

/// A stretch of a cache's memory: over one, it remembers what it was told. A server that was
/// restarted or failed over is in another one, which never was before. What the bytes say is the
/// backend's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch([u8; 20]);

impl Stretch {
    /// The only one of a cache that forgets nothing for as long as it exists.
    pub const ONLY: Self = Self([0; 20]);

    /// The stretch of this name.
    pub const fn new(name: [u8; 20]) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
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
/// - `fill` never replaces anything: it bounces off a value, an "absent", and a hold. It is refused
///   if the cache may have forgotten a hold since the miss that it follows.
/// - `publish` succeeds only while the hold is the caller's, unexpired, and nobody else has touched
///   the key since: no second hold, no `set`, no `invalidate`.
/// - After `invalidate`, the key reads as a miss and fills bounce until the hold has passed.
/// - Calls end in bounded time: a backend brings its own deadlines.
/// - An error means that the effect is unknown.
/// - What a server has from an earlier stretch of its memory, when it comes back with an older copy
///   of it, is neither shown nor kept: it counts as nothing.
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
    async fn get(&self, key: &Key) -> Result<Lookup>;

    /// The entries under these keys, in their order, one answer for each.
    ///
    /// # Errors
    /// As for [`get`](Self::get); there is no partial answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>>;

    /// Stores what a load found, if the key has neither a value nor a hold, and the cache is still
    /// in the stretch of the miss that led to the load. Tells whether it did.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the fill may have happened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the fill done or not done.
    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        since: Stretch,
    ) -> Result<bool>;

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
