//! Writing: fence, commit by the caller, then publish; and what changes a key without a commit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use zmsg_core::{Error, Key, Level, Result};

use crate::fence::{Kept, Passage};
use crate::policy::millis;
use crate::stats::Count;
use crate::tiers::Inner;
use crate::{Entry, HoldToken, TieredCache};

/// A key fenced for a write, from before its commit until after it.
///
/// While it lives nobody fills the key in L1, nor in L2 until the hold there expires. End it with
/// [`publish`](TieredCache::publish) or [`abandon`](TieredCache::abandon). Dropped, as when the
/// caller is cancelled, it frees the key in L1 with nothing kept, and has L2 invalidated in the
/// background.
#[must_use = "publish the hold after the commit, or abandon it"]
pub struct WriteHold {
    inner: Arc<Inner>,
    token: HoldToken,
    epoch: u32,
    /// Whether the hold is in L2.
    remote: Result<()>,
    /// Taken when the hold has ended.
    passage: Option<Passage>,
}

impl WriteHold {
    /// The key that is held; `None` once the hold has ended.
    fn key(&self) -> Option<&Key> {
        self.passage.as_ref().map(Passage::key)
    }

    /// The error that kept the hold out of L2, if there was one. The write may go on: ending it
    /// invalidates the key in L2, or tells that it could not.
    pub fn remote_error(&self) -> Option<&Error> {
        self.remote.as_ref().err()
    }

    fn leave(&mut self, entry: Option<Entry>) -> Kept {
        self.passage.take().map_or(Kept::Nothing, |passage| passage.leave(entry))
    }
}

impl Drop for WriteHold {
    fn drop(&mut self) {
        let Some(passage) = self.passage.take() else { return };
        let key = passage.key().clone();
        passage.leave(None);
        if !self.inner.remote.retains() {
            return;
        }
        // The commit may have happened, or be about to: the hold in L2 has to last from now.
        if let Ok(runtime) = Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            let task = async move { inner.invalidate_remote(&key).await };
            self.inner.tracker.spawn_on(task, &runtime);
        }
    }
}

impl TieredCache {
    /// Fences a key for a write: L1 and L2 forget it, and refuse what loads under way bring.
    ///
    /// Never fails: if L2 cannot be reached, the hold remembers it, and its end makes up for it.
    ///
    /// # Cancel safety
    /// Dropping the future ends the hold as dropping the hold does.
    pub async fn begin_write(&self, key: &Key) -> WriteHold {
        let inner = &self.0;
        let passage = inner.fence.enter(key);
        let token = HoldToken::generate();
        let mut hold = WriteHold {
            inner: Arc::clone(inner),
            token,
            epoch: inner.epoch(),
            remote: Ok(()),
            passage: Some(passage),
        };
        if let Err(error) = inner.remote.hold(key, token, inner.policy.hold).await {
            inner.remote_failed("hold", &error);
            hold.remote = Err(error);
        }
        hold
    }

    /// Shows a committed value in both tiers (`None`: the row was deleted), if this write was the
    /// only one of its key all the time. `Ok(false)`: somebody else wrote too, or the hold expired
    /// before the commit; nothing is shown, and the next read loads.
    ///
    /// A TTL below half of [`CachePolicy::hold`](crate::CachePolicy::hold) keeps the value out of
    /// L2, where it would end before the loads that it has to keep out.
    ///
    /// # Errors
    /// L2's error if it is unknown what is there now: the caller repairs with
    /// [`invalidate`](Self::invalidate). L1 shows the value all the same, if nobody else on this
    /// node wrote.
    ///
    /// # Cancel safety
    /// Dropping the future ends the hold as dropping the hold does.
    pub async fn publish(
        &self,
        mut hold: WriteHold,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let inner = &self.0;
        let began = inner.clock.coarse();
        // An absence lives as long as it was asked to: a delayed deletion shows it until it is due.
        let ttl = inner.policy.lifetime(value.is_some() || ttl.is_some(), ttl);
        let remote = inner.publish_remote(&hold, value.as_ref(), ttl).await;
        let local_ttl = inner.policy.local_lifetime(ttl);
        let entry = || inner.entry(value.as_ref(), hold.epoch, began, local_ttl);
        let entry = (!matches!(remote, Ok(false))).then(entry);
        let kept = hold.leave(entry);
        if let Kept::TooLarge(error) = &kept {
            inner.oversize(error);
        }
        let published = remote.map_err(|error| error.during("cache.publish"))?
            && !matches!(kept, Kept::Refused);
        inner.stats.add(if published { Count::Published } else { Count::Contended });
        Ok(published)
    }

    /// Ends the hold of a write whose commit failed or whose outcome is unknown: both tiers forget
    /// the key. A commit that takes effect later than this may be missed by reads for as long as
    /// [`CachePolicy::hold`](crate::CachePolicy::hold), or for `local_ttl` without an L2.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    /// Dropping the future ends the hold as dropping the hold does.
    pub async fn abandon(&self, mut hold: WriteHold) -> Result<()> {
        let Some(key) = hold.key() else { return Ok(()) };
        let remote = self.0.invalidate_remote(key).await;
        hold.leave(None);
        remote.map_err(|error| error.during("cache.abandon"))
    }

    /// Shows a value that is not in the database, or not yet: in both tiers, in place of whatever
    /// is there. Tells how durable it is now.
    ///
    /// A store-route write of the key that is under way wins over it: then neither value is kept,
    /// and the next read loads what was committed.
    ///
    /// # Errors
    /// L2's error, and then L1 has no value either; `InvalidInput` for a TTL below a millisecond,
    /// and for a value too large for L1 if there is no L2.
    ///
    /// # Cancel safety
    /// Dropping the future leaves L1 without a value and L2 with or without it.
    pub async fn set(&self, key: &Key, value: Bytes, ttl: Option<Duration>) -> Result<Level> {
        let inner = &self.0;
        let ttl = inner.ttl_of_set(key, ttl)?;
        if !inner.remote.retains() {
            return inner.set_local(key, Some(&value), ttl, || true);
        }
        let passage = inner.fence.enter(key);
        let (began, epoch) = (inner.clock.coarse(), inner.epoch());
        if let Err(error) = inner.remote.set(key, &value, ttl).await {
            inner.remote_failed("set", &error);
            return Err(error.during("cache.set"));
        }
        let ttl = inner.policy.local_lifetime(ttl);
        let entry = inner.entry(Some(&value), epoch, began, ttl);
        if let Kept::TooLarge(error) = passage.leave(Some(entry)) {
            inner.oversize(&error);
        }
        Ok(inner.remote.level())
    }

    /// Makes both tiers forget a key whose row was changed by something else, and refuse what
    /// loads and writes under way bring.
    ///
    /// # Errors
    /// L2's error: call again until it succeeds. L1 has forgotten the key in any case.
    ///
    /// # Cancel safety
    /// Dropping the future leaves L1 without the key, and L2 perhaps with it: call again.
    pub async fn invalidate(&self, key: &Key) -> Result<()> {
        // Inside the passage L1 takes nothing, so no reader carries L2's old value over.
        let passage = self.0.fence.enter(key);
        let remote = self.0.invalidate_remote(key).await;
        passage.leave(None);
        remote.map_err(|error| error.during("cache.invalidate"))
    }

    /// Makes L1 forget a key whose row another node changed, and refuse what loads under way
    /// bring; L2 was told by that node.
    pub fn forget_local(&self, key: &Key) {
        let passage = self.0.fence.enter(key);
        let _ = passage.leave(None);
    }

    /// [`invalidate`](Self::invalidate) for many keys: all of them in L1, then one call to L2.
    ///
    /// # Errors
    /// L2's error: which of the keys it has forgotten is unknown, call again for all of them. L1
    /// has forgotten them in any case.
    ///
    /// # Cancel safety
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_many(&self, keys: &[Key]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let inner = &self.0;
        let passages: Vec<Passage> = keys.iter().map(|key| inner.fence.enter(key)).collect();
        let remote = inner.remote.invalidate_many(keys, inner.policy.hold).await;
        passages.into_iter().for_each(|passage| drop(passage.leave(None)));
        remote.map_err(|error| {
            inner.remote_failed("invalidate_many", &error);
            error.during("cache.invalidate")
        })
    }
}

impl Inner {
    /// Puts a committed value into L2 in place of the hold, or sees to it that L2 has none.
    async fn publish_remote(
        &self,
        hold: &WriteHold,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        let Some(key) = hold.key() else { return Ok(false) };
        if hold.remote.is_err() || ttl < self.policy.fill_within() {
            return self.invalidate_remote(key).await.map(|()| true);
        }
        match self.remote.publish(key, hold.token, value, ttl).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                // If the hold expired before the commit, a reader may have filled in what the
                // commit replaced.
                self.invalidate_remote(key).await.map(|()| false)
            }
            Err(error) => {
                self.remote_failed("publish", &error);
                Err(error)
            }
        }
    }

    async fn invalidate_remote(&self, key: &Key) -> Result<()> {
        let invalidated = self.remote.invalidate(key, self.policy.hold).await;
        if let Err(error) = &invalidated {
            self.remote_failed("invalidate", error);
        }
        invalidated
    }

    /// The TTL of a value that only the caches have; without one it would be nowhere.
    pub(crate) fn ttl_of_set(&self, key: &Key, ttl: Option<Duration>) -> Result<Duration> {
        let ttl = self.policy.lifetime(true, ttl);
        if millis(ttl) == 0 {
            return Err(Error::invalid_input("a ttl must be at least one millisecond")
                .with_context("key", format!("{key:?}"))
                .during("cache.set"));
        }
        Ok(ttl)
    }

    /// `set` where there is no L2: the value is in L1 or nowhere, for its whole TTL. Nothing
    /// happens if `still` says no; it is asked with the key locked.
    pub(crate) fn set_local(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        still: impl FnOnce() -> bool,
    ) -> Result<Level> {
        let began = self.clock.coarse();
        let entry = self.entry(value, self.epoch(), began, ttl);
        match self.fence.replace(key, entry, still) {
            Kept::TooLarge(error) => {
                self.oversize(&error);
                Err(error.during("cache.set"))
            }
            Kept::Yes | Kept::Nothing | Kept::Refused => Ok(self.remote.level()),
        }
    }
}

impl fmt::Debug for WriteHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHold")
            .field("key", &self.key())
            .field("token", &self.token)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
