//! Showing what a deferred write will bring, before it is in the tables.

use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Key, Result};

use crate::TieredCache;

impl TieredCache {
    /// Shows the value of a write that was accepted and is not applied yet, or with `None` that
    /// its row will be gone, unless `still` no longer holds.
    ///
    /// `still` says that the write has not begun to be applied. It is asked where the key cannot
    /// change, so the value is either shown before that moment, and removed by the
    /// [`invalidate`](Self::invalidate) that follows the write's commit, or it is not shown. A
    /// late caller thus never puts an applied value over a newer one. It may accept the write
    /// itself, if that is quick and does not come back to this cache: then no reader sees the
    /// value of a write that was refused.
    ///
    /// With an L2, a value that meets another write of its key is not shown; see
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// As for [`publish`](Self::publish) with an L2, and for [`set`](Self::set) without one. The
    /// value may not be shown then; nothing has to be repaired, for the write's own invalidation
    /// is still to come.
    ///
    /// # Cancel safety
    /// As for [`publish`](Self::publish).
    pub async fn show(
        &self,
        key: &Key,
        value: Option<Bytes>,
        ttl: Option<Duration>,
        still: impl FnOnce() -> bool,
    ) -> Result<()> {
        if !self.0.remote.retains() {
            let ttl = self.0.ttl_of_set(key, ttl)?;
            return self.0.set_local(key, value.as_ref(), ttl, still).map(|_level| ());
        }
        // A plain `set` could reach L2 after the invalidation that it has to precede; a
        // publication bounces off it.
        let hold = self.begin_write(key).await;
        if still() {
            self.publish(hold, value, ttl).await.map(|_published| ())
        } else {
            self.abandon(hold).await
        }
    }
}
